# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Collect what an exported model has to know beside its graph."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..modeling_anomalyclip import AnomalyCLIPModel
from ..postprocessing_anomalyclip import LABELS
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import ExportedModel
from ..scoring.preprocessing import Preprocessing
from ..scoring.torch_backends import model_fingerprint
from ..version import __version__


PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


def describe_model(
    model: AnomalyCLIPModel,
    processor: AnomalyCLIPProcessor,
    feature_layers: Sequence[int] = (),
    **settings: Any,
) -> ExportedModel:
    """Describe the export of a model.

    Args:
        model ([`AnomalyCLIPModel`]): The model.
        processor ([`AnomalyCLIPProcessor`]): Gives image size, thresholds and smoothing.
        feature_layers (`Sequence[int]`, *optional*): Layers whose patch features the graph gives.
        **settings: Further fields of [`ExportedModel`], such as `format` and `precision`.

    Returns:
        [`ExportedModel`]: without `files`.
    """
    patch = model.config.vision_config.patch_size
    return ExportedModel(
        fingerprint=model_fingerprint(model),
        image_size=list(processor.size),
        grid=[side // patch for side in processor.size],
        preprocessing={**asdict(Preprocessing.from_processor(processor)), "value_range": processor.value_range},
        feature_layers=list(feature_layers),
        smoothing_sigma=processor.smoothing_sigma,
        map_maximum=processor.map_maximum,
        threshold=processor.threshold,
        pixel_threshold=processor.pixel_threshold,
        labels=list(LABELS),
        calibration=getattr(processor, "calibration", None),
        versions={"anomalyclip_hf": __version__, **_installed_versions()},
        **settings,
    )


def _installed_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
