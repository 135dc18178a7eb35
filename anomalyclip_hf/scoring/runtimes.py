# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Backends that run an exported model in ONNX Runtime or OpenVINO. They need neither PyTorch nor transformers."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .backends import Outputs
from .exported import MODEL_FILES, OPENVINO_METADATA, ExportedModel, read_exported


class ExportedBackend(ABC):
    """Run an exported model; subclasses open and run its file in one runtime.

    Args:
        folder (`str` or `os.PathLike`): Folder of the export.
        exported ([`ExportedModel`], *optional*): Its description, if it has been read already.

    Raises:
        ImportError: If the runtime is not installed.
        OSError: If a file is missing or damaged.
        ValueError: If the file belongs to another model than its description.
    """

    name: str

    def __init__(self, folder: str | os.PathLike, exported: ExportedModel | None = None):
        self.exported = exported or read_exported(folder)
        self.path = Path(folder, MODEL_FILES[self.exported.format])
        self.fingerprint, self.precision = self.exported.fingerprint, self.exported.precision
        height, width = self.exported.image_size
        self.input_size = (height, width)
        self.map_maximum = self.exported.map_maximum
        try:
            stored = self._open()
        except ImportError:
            raise
        except Exception as error:  # each runtime has its own errors
            reason = " ".join(str(error).split())[:200]
            raise OSError(
                f"{self.path} cannot be opened by {self.name} ({reason}); export the model again."
            ) from error
        if stored != self.fingerprint:
            raise ValueError(
                f"{self.path} is an export of the model {stored!r:.20}, while its description says "
                f"{self.fingerprint!r:.20}; copy the whole folder of one export."
            )

    def run(self, pixel_values: np.ndarray, feature_layers: Sequence[int] = ()) -> Outputs:
        """See [`Backend.run`].

        Raises:
            ValueError: If the images have another size than the graph, or it lacks the features of a layer.
        """
        if self.exported.input != "pixel_values":
            raise ValueError(
                f"{self.path} takes whole images, for programs that cannot resize them; export the model without "
                "--preprocessing to run it here."
            )
        expected = (3, *self.input_size)
        if pixel_values.shape[1:] != expected:
            raise ValueError(
                f"pixel_values has shape {pixel_values.shape}; {self.path} was exported for (batch, {expected[0]}, "
                f"{expected[1]}, {expected[2]}). Export the model with image_size for another size."
            )
        missing = sorted(set(feature_layers) - set(self.exported.feature_layers))
        if missing:
            options = " ".join(f"--feature-layer {layer}" for layer in sorted(set(feature_layers)))
            raise ValueError(
                f"{self.path} has no patch features of the layers {missing}; export the model with {options}."
            )
        names = ["image_scores", "anomaly_maps"]
        if feature_layers:
            names += [f"patch_features_{layer}" for layer in feature_layers] + ["image_embeds"]
        pixel_values = np.ascontiguousarray(pixel_values, dtype=np.float32)
        if self.exported.dynamic_batch:
            found = self._run(pixel_values, names)
        else:
            single = [self._run(image[None], names) for image in pixel_values]
            found = [np.concatenate(arrays) for arrays in zip(*single, strict=True)]
        scores, maps, *features = found
        return Outputs(scores, maps, tuple(features[:-1]), features[-1] if features else None)

    def run_image(self, image: np.ndarray) -> Outputs:
        """Score one image of any size with a graph that was exported with preprocessing.

        Args:
            image (`np.ndarray` of shape `(height, width, 3)`): uint8, RGB.

        Returns:
            [`Outputs`]: of a batch of one.

        Raises:
            ValueError: If the graph takes prepared pixels.
        """
        if self.exported.input != "image":
            raise ValueError(f"{self.path} takes prepared pixels; export the model with preprocessing for images.")
        scores, maps = self._run(np.ascontiguousarray(image)[None], ["image_scores", "anomaly_maps"])
        return Outputs(scores, maps)

    @abstractmethod
    def _open(self) -> str | None:
        """Open the file, and return the fingerprint that is stored in it."""

    @abstractmethod
    def _run(self, values: np.ndarray, names: list[str]) -> list[np.ndarray]:
        """Run the file, and return the named outputs."""


class OnnxRuntimeBackend(ExportedBackend):
    """Run `model.onnx` in ONNX Runtime, on a GPU if `onnxruntime-gpu` finds one, else on the CPU."""

    name = "onnxruntime"

    def _open(self) -> str | None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(_missing_runtime("ONNX Runtime", "onnx")) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = _threads()
        known = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
        self.session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        return self.session.get_modelmeta().custom_metadata_map.get("fingerprint")

    def _run(self, values: np.ndarray, names: list[str]) -> list[np.ndarray]:
        return self.session.run(names, {self.exported.input: values})


class OpenVinoBackend(ExportedBackend):
    """Run `openvino_model.xml`, or a `model.onnx`, in OpenVINO on the CPU.

    The precision is that of the description, since OpenVINO would choose bfloat16 on every processor that supports it.
    The part of an INT8 model that is not quantised is computed in bfloat16 there.
    """

    name = "openvino"

    def _open(self) -> str | None:
        try:
            import openvino
        except ImportError as error:
            raise ImportError(_missing_runtime("OpenVINO", "openvino")) from error
        core = openvino.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if self.precision in ("bfloat16", "int8") and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            settings["INFERENCE_PRECISION_HINT"] = "bf16"
        if threads := _threads():
            settings["INFERENCE_NUM_THREADS"] = threads
        model = core.read_model(self.path)
        self.compiled = core.compile_model(model, "CPU", settings)
        self.lock = threading.Lock()  # one request runs at once
        path = ["framework" if self.exported.format == "onnx" else OPENVINO_METADATA, "fingerprint"]
        return str(model.get_rt_info(path).value) if model.has_rt_info(path) else None

    def _run(self, values: np.ndarray, names: list[str]) -> list[np.ndarray]:
        with self.lock:
            found = self.compiled(values)
        return [found[name] for name in names]


RUNTIMES: dict[str, type[OnnxRuntimeBackend] | type[OpenVinoBackend]] = {
    "onnx": OnnxRuntimeBackend,
    "openvino": OpenVinoBackend,
}


def _missing_runtime(runtime: str, extra: str) -> str:
    return f"this export needs {runtime}; install it with `pip install anomalyclip-hf[{extra}]`."


def _threads() -> int:
    """Return the number of threads in `OMP_NUM_THREADS`, which PyTorch reads too; 0 for all processors."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else 0
