# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot anomaly detection with AnomalyCLIP, as a transformers model.

`import anomalyclip_hf` makes `AutoConfig`, `AutoModel`, `AutoProcessor` and `pipeline("anomaly-detection")` know it.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assets import DEFAULT_MODEL
from .version import __version__


if TYPE_CHECKING:
    from .configuration_anomalyclip import AnomalyCLIPConfig
    from .conversion.original import convert_original_checkpoint
    from .data.loading import load_anomaly_dataset
    from .metrics.anomaly_detection import AnomalyDetectionMetric
    from .modeling_anomalyclip import AnomalyCLIPModel
    from .pipeline_anomaly_detection import AnomalyDetectionPipeline
    from .processing_anomalyclip import AnomalyCLIPProcessor
    from .training.arguments import AnomalyCLIPTrainingArguments
    from .training.trainer import AnomalyCLIPTrainer

_MODULE_OF = {
    "AnomalyCLIPConfig": "configuration_anomalyclip",
    "AnomalyCLIPModel": "modeling_anomalyclip",
    "AnomalyCLIPProcessor": "processing_anomalyclip",
    "AnomalyDetectionPipeline": "pipeline_anomaly_detection",
    "AnomalyCLIPTrainer": "training.trainer",
    "AnomalyCLIPTrainingArguments": "training.arguments",
    "AnomalyDetectionMetric": "metrics.anomaly_detection",
    "convert_original_checkpoint": "conversion.original",
    "load_anomaly_dataset": "data.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def register() -> None:
    """Make transformers' Auto classes and `pipeline` know AnomalyCLIP; `import anomalyclip_hf` does it."""
    from transformers import AutoConfig, AutoModel, AutoProcessor
    from transformers.pipelines import PIPELINE_REGISTRY

    from .configuration_anomalyclip import AnomalyCLIPConfig
    from .modeling_anomalyclip import AnomalyCLIPModel
    from .pipeline_anomaly_detection import AnomalyDetectionPipeline
    from .processing_anomalyclip import AnomalyCLIPProcessor

    AutoConfig.register(AnomalyCLIPConfig.model_type, AnomalyCLIPConfig, exist_ok=True)
    AutoModel.register(AnomalyCLIPConfig, AnomalyCLIPModel, exist_ok=True)
    AutoProcessor.register(AnomalyCLIPConfig, AnomalyCLIPProcessor, exist_ok=True)
    if "anomaly-detection" not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            "anomaly-detection",
            pipeline_class=AnomalyDetectionPipeline,
            pt_model=AutoModel,
            default={"model": (DEFAULT_MODEL, None)},
            type="image",
        )


# The console script registers when a verb needs it, so that its --help answers without importing torch.
if Path(sys.argv[0] if sys.argv else "").name not in ("anomalyclip", "anomalyclip.exe"):
    register()

__all__ = [
    "DEFAULT_MODEL",
    "AnomalyCLIPConfig",
    "AnomalyCLIPModel",
    "AnomalyCLIPProcessor",
    "AnomalyCLIPTrainer",
    "AnomalyCLIPTrainingArguments",
    "AnomalyDetectionMetric",
    "AnomalyDetectionPipeline",
    "__version__",
    "convert_original_checkpoint",
    "load_anomaly_dataset",
    "register",
]
