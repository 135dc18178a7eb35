# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Export a model to ONNX."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import MODEL_FILES, ExportedModel
from .checking import Differences
from .folders import write_folder
from .quantization import quantize_onnx
from .tracing import trace_graph


PRECISIONS = ("float32", "float16", "int8")
MOST_INSIDE = 1 << 30  # bytes of weights; more go into a second file, since a protobuf has at most 2 GiB


def export_onnx(
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
    """Export a model to `model.onnx`, with the description that running it needs.

    The graph goes from pixels to image scores, smoothed anomaly maps and patch maps. The folder also holds
    `anomalyclip.json` (thresholds, preprocessing, versions; also stored inside the file) and the processor.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export; it is left as it is.
        path (`str` or `os.PathLike`): New or empty folder.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        precision (`str`, *optional*, defaults to `"float32"`): `"float16"` halves the file and is for GPUs; `"int8"`
            stores the weights of the layers in 8 bits and multiplies in 8 bits.
        image_size (`int` or `tuple[int, int]`, *optional*): Height and width that the graph is made for, in multiples
            of the patch; defaults to the processor's.
        dynamic_batch (`bool`, *optional*, defaults to `True`): Accept any batch size; otherwise 1.
        preprocessing (`bool`, *optional*, defaults to `False`): Take `image`, uint8 `(1, height, width, 3)` of any
            size, and resize and normalise it in the graph, for programs that cannot.
        calibration_images (*optional*): Folder or list of images, for the comparison with the model. ONNX Runtime
            measures the ranges of activations as it runs, so INT8 does not need them.
        feature_layers (`Sequence[int]`, *optional*): Layers, counted from 1, whose patch features are outputs too;
            reference images need them.

    Returns:
        [`Differences`]: between the file and the model.

    Raises:
        FileExistsError: If the folder is not empty.
        ImportError: If a package that exporting needs is not installed.
        RuntimeError: If the file gives other results than the model.
        ValueError: If an argument is out of range.

    Example:
    ```python
    >>> import tempfile
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, AnomalyCLIPProcessor, export_onnx

    >>> model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    >>> processor = AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     differences = export_onnx(model, folder, processor=processor)
    >>> differences.maps < 1e-4
    True

    ```
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)} for ONNX.")
    return write_folder(
        write_onnx,
        model,
        path,
        file_format="onnx",
        precision=precision,
        processor=processor,
        image_size=image_size,
        dynamic_batch=dynamic_batch,
        preprocessing=preprocessing,
        calibration_images=calibration_images,
        feature_layers=feature_layers,
    )


def write_onnx(
    model: AnomalyCLIPModel,
    processor: AnomalyCLIPProcessor,
    exported: ExportedModel,
    folder: Path,
    images: Sequence[Image.Image] = (),
) -> None:
    """Write `model.onnx` into a folder.

    Args:
        model ([`AnomalyCLIPModel`]): The model.
        processor ([`AnomalyCLIPProcessor`]): Its processor.
        exported ([`ExportedModel`]): Settings of the export; receives the names of the outputs.
        folder (`Path`): Existing folder.
        images (`Sequence[PIL.Image.Image]`, *optional*): Not used.
    """
    program = trace_graph(model, processor, exported)
    program.model.metadata_props.update(exported.metadata)
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    path = folder / MODEL_FILES["onnx"]
    program.save(path, external_data=size > MOST_INSIDE)
    if exported.precision == "int8":
        quantize_onnx(path)
