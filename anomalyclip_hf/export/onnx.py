# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Export a model to ONNX."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..io.atomic import atomic_folder
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import MODEL_FILES, ExportedModel
from .checking import Differences, check_export, check_settings, load_images
from .describing import describe_model
from .graph import AnomalyGraph, ImageGraph


PRECISIONS = ("float32", "float16")
OPSET = 20  # the Attention of opset 23 is little faster, and quantisation makes an invalid node of it
MOST_INSIDE = 1 << 30  # bytes of weights; larger ones go into a file beside, since a protobuf ends at 2 GiB


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
    """Write a model as `model.onnx`, with all that is needed to run it beside.

    The graph goes from pixels to image scores, smoothed anomaly maps and patch maps. The folder also holds
    `anomalyclip.json` (thresholds, preprocessing, versions; also inside the file) and the processor.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export; it is left as it is.
        path (`str` or `os.PathLike`): New or empty folder.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        precision (`str`, *optional*, defaults to `"float32"`): `"float16"` halves the file and is for GPUs.
        image_size (`int` or `tuple[int, int]`, *optional*): Height and width that the graph is made for, in multiples
            of the patch; defaults to the processor's.
        dynamic_batch (`bool`, *optional*, defaults to `True`): Take any number of images at once; else one.
        preprocessing (`bool`, *optional*, defaults to `False`): Take `image`, uint8 `(1, height, width, 3)` of any
            size, and resize and normalise inside, for programs that cannot.
        calibration_images (*optional*): Folder or list of images; here only used for the check at the end, since ONNX
            Runtime measures the ranges of activations as it runs.
        feature_layers (`Sequence[int]`, *optional*): Layers, counted from 1, whose patch features are outputs too, as
            reference images need them.

    Returns:
        [`Differences`]: between the file and the model.

    Raises:
        FileExistsError: If the folder holds something.
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
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    processor = check_settings(model, processor, image_size, feature_layers)
    images = [] if calibration_images is None else load_images(calibration_images)
    exported = describe_model(
        model,
        processor,
        feature_layers,
        format="onnx",
        precision=precision,
        input="image" if preprocessing else "pixel_values",
        dynamic_batch=dynamic_batch and not preprocessing,
    )
    with atomic_folder(Path(path)) as folder:
        write_onnx(model, processor, exported, folder)
        processor.save_pretrained(folder)
        return check_export(model, processor, folder, images)


def write_onnx(
    model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, exported: ExportedModel, folder: Path
) -> None:
    """Write `model.onnx` and `anomalyclip.json` into a folder, as described; see [`export_onnx`]."""
    program = _trace(model, processor, exported)
    exported.outputs = [value.name for value in program.model.graph.outputs]
    _strip(program.model)
    program.model.metadata_props.update(exported.metadata)
    path = folder / MODEL_FILES["onnx"]
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(path, external_data=size > MOST_INSIDE)
    exported.files = {file.name: file.stat().st_size for file in sorted(folder.glob(f"{path.name}*"))}
    exported.save(folder)


def _trace(model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, exported: ExportedModel) -> Any:
    """Trace the graph; the exporter's remarks, which concern only its developers, are kept back."""
    dtype = torch.float16 if exported.precision == "float16" else torch.float32
    graph = AnomalyGraph(model, processor.size, processor.smoothing_sigma, dtype, exported.feature_layers)
    if exported.input == "image":
        settings = processor.image_processor
        module: torch.nn.Module = ImageGraph(graph, settings.image_mean, settings.image_std)
        example = torch.zeros(1, 300, 400, 3, dtype=torch.uint8)
        shapes = {1: torch.export.Dim("height", min=1), 2: torch.export.Dim("width", min=1)}
    else:
        module = graph
        example = torch.zeros(2 if exported.dynamic_batch else 1, 3, *processor.size)
        shapes = {0: torch.export.Dim("batch", min=1)} if exported.dynamic_batch else {}
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes={exported.input: shapes},
            input_names=[exported.input],
            output_names=graph.output_names,
            opset_version=OPSET,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Any:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(program: Any) -> None:
    """Remove the traces of the source code, which hold paths of the machine that exported."""
    for node in program.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*program.graph.initializers.values(), *program.graph.inputs):
        value.metadata_props.clear()
    program.graph.metadata_props.clear()
