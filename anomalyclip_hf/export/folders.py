# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Do the common parts of every export: check the arguments, describe the model, compare the results."""

import copy
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from ..io.atomic import atomic_folder
from ..io.versions import package_versions
from ..loading_anomalyclip import model_fingerprint
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..postprocessing_anomalyclip import LABELS, describe_stale, precision_settings
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import ExportedModel
from ..scoring.preprocessing import Preprocessing
from ..scoring.runtimes import RUNTIMES
from ..version import __version__
from .checking import Differences, check_export
from .images import load_images


PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
Writer = Callable[[AnomalyCLIPModel, AnomalyCLIPProcessor, ExportedModel, Path, Sequence[Image.Image]], None]

logger = logging.getLogger(__name__)


def write_folder(
    write: Writer,
    model: AnomalyCLIPModel,
    path: str | os.PathLike,
    *,
    file_format: str,
    precision: str,
    processor: AnomalyCLIPProcessor | None,
    image_size: int | tuple[int, int] | None,
    dynamic_batch: bool,
    preprocessing: bool,
    calibration_images: Any,
    feature_layers: Sequence[int],
) -> Differences:
    """Export a model into a folder that appears complete or not at all; the arguments are those of [`export_onnx`].

    Args:
        write (`Callable`): Writes the model file into a folder.
        model ([`AnomalyCLIPModel`]): The model.
        path (`str` or `os.PathLike`): New or empty folder.
        file_format (`str`): `"onnx"` or `"openvino"`.
        precision (`str`): A precision that the format supports.
        processor ([`AnomalyCLIPProcessor`], *optional*): See [`export_onnx`].
        image_size (`int` or `tuple[int, int]`, *optional*): See [`export_onnx`].
        dynamic_batch (`bool`): See [`export_onnx`].
        preprocessing (`bool`): See [`export_onnx`].
        calibration_images (*optional*): See [`export_onnx`].
        feature_layers (`Sequence[int]`): See [`export_onnx`].

    Returns:
        [`Differences`]

    Raises:
        FileExistsError: If the folder is not empty.
        ImportError: If a package that exporting needs is not installed.
        RuntimeError: If the file gives other results than the model.
        ValueError: If an argument is out of range.
    """
    processor = fitting_processor(model, processor, image_size)
    count = model.config.vision_config.num_hidden_layers
    for layer in feature_layers:
        if not 1 <= layer <= count:
            raise ValueError(f"feature_layers (--feature-layer {layer}): expected layers from 1 to {count}.")
    if preprocessing and processor.image_processor.resample != Image.Resampling.BICUBIC:
        raise ValueError(f"resample is {processor.image_processor.resample}; a graph can resize bicubically (3) only.")
    images = [] if calibration_images is None else load_images(calibration_images)
    exported = describe_model(
        model,
        processor,
        format=file_format,
        precision=precision,
        input="image" if preprocessing else "pixel_values",
        dynamic_batch=dynamic_batch and not preprocessing,
        feature_layers=list(feature_layers),
    )
    try:
        with atomic_folder(Path(path)) as folder:
            write(model, processor, exported, folder, images)
            exported.files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
            exported.save(folder)
            processor.save_pretrained(folder)
            return check_export(model, processor, folder, images)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"exporting needs {error.name}; install it with `pip install anomalyclip-hf[export]`."
        ) from error


def fitting_processor(
    model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor | None, image_size: int | tuple[int, int] | None
) -> AnomalyCLIPProcessor:
    """Return the processor for an image size.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export.
        processor ([`AnomalyCLIPProcessor`], *optional*): Must have this size; by default one is made.
        image_size (`int` or `tuple[int, int]`, *optional*): Defaults to the model's.

    Returns:
        [`AnomalyCLIPProcessor`]

    Raises:
        ValueError: If the size is not a multiple of the patch, or the processor has another size.
    """
    config = copy.deepcopy(model.config)
    if image_size is not None:
        config.image_size = image_size if isinstance(image_size, int) else list(image_size)
        config.check()
    processor = processor or AnomalyCLIPProcessor.from_config(config)
    processor.check_model(config)
    return processor


def describe_model(model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, **settings: Any) -> ExportedModel:
    """Collect the description of an exported model: everything beside its graph.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export.
        processor ([`AnomalyCLIPProcessor`]): Has image size, thresholds and smoothing. Its calibration is included if
            it is valid for the precision of the export.
        **settings: Further fields of [`ExportedModel`], such as `format` and `precision`.

    Returns:
        [`ExportedModel`]: without `files`.
    """
    patch = model.config.vision_config.patch_size
    fingerprint, calibration = model_fingerprint(model), processor.calibration
    if calibration is not None:
        runtime = RUNTIMES[settings["format"]].name
        exported = {**processor.score_settings, **precision_settings(settings["precision"], runtime)}
        if problem := describe_stale(calibration, fingerprint, exported):
            logger.warning("%s Give it the folder of the export.", problem)
            calibration = None
    installed = package_versions(PACKAGES)
    return ExportedModel(
        fingerprint=fingerprint,
        image_size=list(processor.size),
        grid=[side // patch for side in processor.size],
        preprocessing={**asdict(Preprocessing.from_processor(processor)), "value_range": processor.value_range},
        smoothing_sigma=processor.smoothing_sigma,
        map_maximum=processor.map_maximum,
        threshold=processor.threshold,
        pixel_threshold=processor.pixel_threshold,
        labels=list(LABELS),
        image_score=processor.image_score,
        calibration=calibration,
        versions={"anomalyclip_hf": __version__, **{name: found for name, found in installed.items() if found}},
        **settings,
    )
