# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of anomaly detection: pixel counts in bounded memory, ranking metrics, and the `evaluate` metric."""

from typing import TYPE_CHECKING, Any

from .histogram import PixelCounts, RankedCounts
from .ranking import aupro, aupro_published, auroc, average_precision, compute_score_metrics, f1_max


if TYPE_CHECKING:
    from .anomaly_detection import AnomalyDetectionMetric


def __getattr__(name: str) -> Any:
    if name != "AnomalyDetectionMetric":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .anomaly_detection import AnomalyDetectionMetric  # needs evaluate, which is slow to import

    return AnomalyDetectionMetric


__all__ = [
    "AnomalyDetectionMetric",
    "PixelCounts",
    "RankedCounts",
    "aupro",
    "aupro_published",
    "auroc",
    "average_precision",
    "compute_score_metrics",
    "f1_max",
]
