# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Zero-shot anomaly detection with AnomalyCLIP, as a transformers model.

`import anomalyclip_hf` makes `AutoConfig`, `AutoModel`, `AutoProcessor` and `pipeline("anomaly-detection")` know it.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .assets import DEFAULT_MODEL
from .version import __version__


if TYPE_CHECKING:
    from .bulk.dataset import BulkResult, score_dataset
    from .calibration.calibrating import calibrate
    from .calibration.images import calibrate_model, store_calibration
    from .calibration.thresholds import Calibration
    from .configuration_anomalyclip import AnomalyCLIPConfig
    from .conversion.original import convert_original_checkpoint
    from .data.loading import load_anomaly_dataset
    from .evaluation.evaluating import EvaluationResult, evaluate_model
    from .export.onnx import export_onnx
    from .export.openvino import export_openvino
    from .export.web import export_web
    from .metrics.anomaly_detection import AnomalyDetectionMetric
    from .modeling_anomalyclip import AnomalyCLIPModel, AnomalyMapHead
    from .pipeline_anomaly_detection import AnomalyDetectionPipeline
    from .processing_anomalyclip import AnomalyCLIPProcessor
    from .scoring.engine import AnomalyResult, AnomalyScorer
    from .scoring.references import ReferenceMemory
    from .training.arguments import AnomalyCLIPTrainingArguments
    from .training.trainer import AnomalyCLIPTrainer

_MODULE_OF = {
    "AnomalyCLIPConfig": "configuration_anomalyclip",
    "AnomalyCLIPModel": "modeling_anomalyclip",
    "AnomalyCLIPProcessor": "processing_anomalyclip",
    "AnomalyDetectionPipeline": "pipeline_anomaly_detection",
    "AnomalyMapHead": "modeling_anomalyclip",
    "AnomalyResult": "scoring.engine",
    "AnomalyScorer": "scoring.engine",
    "ReferenceMemory": "scoring.references",
    "AnomalyCLIPTrainer": "training.trainer",
    "AnomalyCLIPTrainingArguments": "training.arguments",
    "AnomalyDetectionMetric": "metrics.anomaly_detection",
    "BulkResult": "bulk.dataset",
    "Calibration": "calibration.thresholds",
    "EvaluationResult": "evaluation.evaluating",
    "calibrate": "calibration.calibrating",
    "calibrate_model": "calibration.images",
    "store_calibration": "calibration.images",
    "convert_original_checkpoint": "conversion.original",
    "evaluate_model": "evaluation.evaluating",
    "export_onnx": "export.onnx",
    "export_web": "export.web",
    "export_openvino": "export.openvino",
    "load_anomaly_dataset": "data.loading",
    "score_dataset": "bulk.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


def register() -> None:
    """Register AnomalyCLIP with the Auto classes and `pipeline` of transformers.

    `import anomalyclip_hf` calls it as soon as transformers is imported too.
    """
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


class _RegisterWithTransformers(MetaPathFinder):
    """Import hook that calls `register()` once transformers is loaded, whoever imports it first.

    Importing this package alone stays cheap, so that `anomalyclip --help` does not wait for torch.
    """

    depth = 0  # of this package's modules that are being imported; until they are done, none can be registered

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "transformers" and not name.startswith(f"{__name__}."):
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(self._execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _execute(self, exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
        is_own = module.__name__ != "transformers"
        self.depth += is_own
        try:
            exec_module(module)
        finally:
            self.depth -= is_own
        if self.depth == 0 and "transformers" in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            register()


if "transformers" in sys.modules:
    register()
else:
    sys.meta_path.insert(0, _RegisterWithTransformers())

__all__ = [
    "DEFAULT_MODEL",
    "AnomalyCLIPConfig",
    "AnomalyCLIPModel",
    "AnomalyCLIPProcessor",
    "AnomalyCLIPTrainer",
    "AnomalyCLIPTrainingArguments",
    "AnomalyDetectionMetric",
    "AnomalyDetectionPipeline",
    "AnomalyMapHead",
    "AnomalyResult",
    "AnomalyScorer",
    "BulkResult",
    "Calibration",
    "EvaluationResult",
    "ReferenceMemory",
    "__version__",
    "calibrate",
    "calibrate_model",
    "convert_original_checkpoint",
    "evaluate_model",
    "export_onnx",
    "export_openvino",
    "export_web",
    "load_anomaly_dataset",
    "register",
    "score_dataset",
    "store_calibration",
]
