# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Open a model for scoring in any runtime. PyTorch is imported only for a PyTorch model."""

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..assets import DEFAULT_MODEL
from .backends import Backend
from .exported import is_exported, read_exported
from .preprocessing import Preprocessing
from .runtimes import RUNTIMES, OpenVinoBackend


if TYPE_CHECKING:
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import AnomalyCLIPProcessor

BACKENDS = ("torch", "compile")
RUNTIME_NAMES = ("onnxruntime", "openvino")  # of exported models

logger = logging.getLogger(__name__)


@dataclass
class Detector:
    """Hold everything that scoring needs of a model.

    Args:
        backend ([`Backend`]): Runs the model.
        preprocessing ([`Preprocessing`]): Prepares images.
        name (`str`): Folder or Hub id, or the name of the class of a model in memory.
        settings (`dict`): As in `processor_config.json`: `threshold`, `pixel_threshold`, `map_maximum`,
            `smoothing_sigma`, `value_range`, `image_score`, `calibration`.
        model ([`AnomalyCLIPModel`], *optional*): Only if it runs in PyTorch.
        processor ([`AnomalyCLIPProcessor`], *optional*): Only if it runs in PyTorch.
    """

    backend: Backend
    preprocessing: Preprocessing
    name: str
    settings: dict[str, Any]
    model: "AnomalyCLIPModel | None" = None
    processor: "AnomalyCLIPProcessor | None" = None

    @property
    def exported_layers(self) -> list[int]:
        """Vision layers whose patch features an exported model gives; a PyTorch model gives those of all layers."""
        return list(getattr(getattr(self.backend, "exported", None), "feature_layers", ()))


def open_detector(
    model: "AnomalyCLIPModel | str | os.PathLike | None" = None,
    processor: "AnomalyCLIPProcessor | None" = None,
    *,
    backend: str | Backend | None = None,
    device: Any = None,
    dtype: Any = None,
    batch_size: int = 8,
) -> Detector:
    """Open a model; the arguments are those of [`AnomalyScorer`].

    Returns:
        [`Detector`]

    Raises:
        OSError: If there is no such model, or a file of it is damaged.
        ValueError: If the backend is unknown, the device not available, or processor and model do not fit.
    """
    exported = is_exported(model)
    expected = RUNTIME_NAMES if exported else BACKENDS
    if isinstance(backend, str) and backend not in expected:
        kind = "an exported model" if exported else "a PyTorch model"
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(expected)} for {kind}.")
    if exported:
        return _open_exported(model, backend, device, dtype)
    return _open_torch(model, processor, backend, device, dtype, batch_size)


def _open_exported(folder: Any, backend: Any, device: Any, dtype: Any) -> Detector:
    exported = read_exported(folder)
    if str(device or "cpu") != "cpu" or str(dtype or exported.precision).removeprefix("torch.") != exported.precision:
        raise ValueError(
            f"{folder} is an exported model of precision {exported.precision}; device and dtype are settings of "
            "PyTorch models. Export it again for another precision."
        )
    if backend == "onnxruntime" and exported.format != "onnx":
        raise ValueError(f"{folder} is an export for {exported.format}; onnxruntime cannot run it.")
    if backend is None or isinstance(backend, str):
        runtime = OpenVinoBackend if backend == "openvino" else RUNTIMES[exported.format]
        backend = runtime(folder, exported)
    settings = {name: getattr(exported, name) for name in ("threshold", "pixel_threshold", "map_maximum")}
    settings |= {name: getattr(exported, name) for name in ("smoothing_sigma", "image_score", "calibration")}
    preprocessing = dict(exported.preprocessing)
    settings["value_range"] = preprocessing.pop("value_range")
    preprocessing = {name: tuple(value) if isinstance(value, list) else value for name, value in preprocessing.items()}
    return Detector(backend, Preprocessing(**preprocessing), str(folder), settings)


def _open_torch(model: Any, processor: Any, backend: Any, device: Any, dtype: Any, batch_size: int) -> Detector:
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import OWN_SETTINGS, AnomalyCLIPProcessor
    from .torch_backends import CompiledBackend, TorchBackend

    loaded = _load_model(model, device, dtype)
    if processor is None and isinstance(model, AnomalyCLIPModel):
        processor = AnomalyCLIPProcessor.from_config(loaded.config)
    processor = processor or AnomalyCLIPProcessor.from_pretrained(model or DEFAULT_MODEL)
    processor.check_model(loaded.config)
    if backend == "compile":
        backend = CompiledBackend(loaded, processor.smoothing_sigma, batch_size)
    elif backend is None or isinstance(backend, str):
        backend = TorchBackend(loaded, processor.smoothing_sigma)
    name = loaded.name_or_path
    return Detector(
        backend,
        Preprocessing.from_processor(processor),
        "demonstration model" if name == DEFAULT_MODEL else name or type(loaded).__name__,
        {setting: getattr(processor, setting) for setting in OWN_SETTINGS},
        loaded,
        processor,
    )


def check_device(device: Any) -> None:
    """Try a device of PyTorch.

    Args:
        device (`str`, `int` or `torch.device`): Such as `"cuda:1"`.

    Raises:
        ValueError: If PyTorch cannot use it; names the devices that are there.
    """
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        count = 0 if kind is None else torch.accelerator.device_count()
        devices = ["cpu", *(f"{kind.type}:{number}" for number in range(count))]  # type: ignore[union-attr]
        raise ValueError(f"device {device} is not available; this machine has {', '.join(devices)}.") from error


def _load_model(model: Any, device: Any, dtype: Any) -> "AnomalyCLIPModel":
    import torch

    from ..modeling_anomalyclip import AnomalyCLIPModel

    if device is not None:
        check_device(device)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if isinstance(model, AnomalyCLIPModel):
        return model if device is None and dtype is None else model.to(device=device, dtype=dtype)
    if model is None:
        from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE

        logger.warning(DEMONSTRATION_NOTE)
        model = DEFAULT_MODEL
    loaded = AnomalyCLIPModel.from_pretrained(model, dtype="auto" if dtype is None else dtype)
    if device is None and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
    return loaded.to(device or "cpu")


__all__ = ["BACKENDS", "Detector", "check_device", "open_detector"]
