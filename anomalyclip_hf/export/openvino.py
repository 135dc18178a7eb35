# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Export a model to OpenVINO."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import MODEL_FILES, OPENVINO_METADATA, ExportedModel
from .checking import Differences
from .folders import write_folder
from .quantization import quantize_openvino
from .tracing import trace_graph


PRECISIONS = ("float32", "bfloat16", "int8")


def export_openvino(
    model: AnomalyCLIPModel,
    path: str | os.PathLike,
    *,
    processor: AnomalyCLIPProcessor | None = None,
    precision: str = "float32",
    image_size: int | tuple[int, int] | None = None,
    dynamic_batch: bool = True,
    preprocessing: bool = False,
    calibration_images: Any = None,
    feature_layers: Sequence[int] = (),
) -> Differences:
    """Export a model to `openvino_model.xml` and `.bin`, with the description that running it needs.

    The graph and the other files are those of [`export_onnx`]. Thresholds, preprocessing and versions are also in the
    model's runtime information, under `model_info`.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export; it is left as it is.
        path (`str` or `os.PathLike`): New or empty folder.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        precision (`str`, *optional*, defaults to `"float32"`): `"bfloat16"` stores weights in 16 bits and computes in
            bfloat16 where the processor can; `"int8"` quantises the layers with NNCF, which needs calibration images.
        image_size (`int` or `tuple[int, int]`, *optional*): See [`export_onnx`].
        dynamic_batch (`bool`, *optional*, defaults to `True`): See [`export_onnx`].
        preprocessing (`bool`, *optional*, defaults to `False`): See [`export_onnx`].
        calibration_images (*optional*): Folder or list of images like those to be scored, for `"int8"`; from more than
            64, 64 are chosen.
        feature_layers (`Sequence[int]`, *optional*): See [`export_onnx`].

    Returns:
        [`Differences`]: between the file and the model.

    Raises:
        FileExistsError: If the folder is not empty.
        ImportError: If a package that exporting needs is not installed.
        RuntimeError: If the file gives other results than the model.
        ValueError: If an argument is out of range, or calibration images are missing or cannot be read.

    Example:
    ```python
    >>> import tempfile
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, AnomalyScorer, export_openvino

    >>> model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     differences = export_openvino(model, folder)
    ...     scorer = AnomalyScorer(folder)
    >>> scorer.backend.name, differences.maps < 1e-4
    ('openvino', True)

    ```
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)} for OpenVINO.")
    if precision == "int8" and calibration_images is None:
        raise ValueError(
            "int8 for OpenVINO needs calibration_images (--calibration-images DIR): some images like those that will "
            "be scored."
        )
    return write_folder(
        _write,
        model,
        path,
        file_format="openvino",
        precision=precision,
        processor=processor,
        image_size=image_size,
        dynamic_batch=dynamic_batch,
        preprocessing=preprocessing,
        calibration_images=calibration_images,
        feature_layers=feature_layers,
    )


def _write(
    model: AnomalyCLIPModel,
    processor: AnomalyCLIPProcessor,
    exported: ExportedModel,
    folder: Path,
    images: Sequence[Image.Image],
) -> None:
    import openvino

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        source = Path(temporary, MODEL_FILES["onnx"])
        trace_graph(model, processor, exported).save(source, external_data=True)
        converted = openvino.Core().read_model(source)
        if exported.precision == "int8":
            if exported.input == "image":
                inputs = [np.asarray(image)[None] for image in images]
            else:
                inputs = [processor(images=image)["pixel_values"].numpy() for image in images]
            converted = quantize_openvino(converted, inputs)
        for name, value in exported.metadata.items():
            converted.set_rt_info(value, [OPENVINO_METADATA, name])
        path = folder / MODEL_FILES["openvino"]
        openvino.save_model(converted, path, compress_to_fp16=exported.precision == "bfloat16")
