# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compute the package's metrics in the form that `Trainer` expects."""

from typing import Any

import torch
from transformers import EvalPrediction

from ..metrics import AnomalyDetectionMetric
from ..modeling_anomalyclip import gaussian_smooth
from ..processing_anomalyclip import AnomalyCLIPProcessor


class AnomalyMetrics:
    """Compute the metrics of `anomalyclip evaluate` inside [`~transformers.Trainer.evaluate`], batch by batch.

    Maps are smoothed as the processor does. Metrics are means over categories. Images without ground truth for pixels
    count for the image metrics only.

    Args:
        processor ([`AnomalyCLIPProcessor`]): Processor of the model.
    """

    def __init__(self, processor: AnomalyCLIPProcessor):
        self.processor = processor
        self.start([])

    def start(self, categories: list[str | None]) -> None:
        """Discard all counts and start a new evaluation.

        Args:
            categories (`list[str | None]`): Category of each image of the dataset, in its order.
        """
        self.metric = AnomalyDetectionMetric()
        self.categories = categories

    def __call__(self, prediction: EvalPrediction, compute_result: bool = False) -> dict[str, float]:
        """Count a batch, and with the last one compute the metrics that are defined.

        Args:
            prediction ([`~transformers.EvalPrediction`]):
                Predictions are `(image_scores, anomaly_maps)`, label ids are `(labels, masks, mask_weights, indices)`.
            compute_result (`bool`, *optional*, defaults to `False`): Whether this is the last batch.

        Returns:
            `dict[str, float]`: empty before the last batch.
        """
        scores, maps = (torch.as_tensor(part).float() for part in prediction.predictions)
        labels, masks, mask_weights, indices = (torch.as_tensor(part).cpu() for part in prediction.label_ids)
        self.metric.add_batch(
            image_scores=scores,
            labels=labels,
            anomaly_maps=gaussian_smooth(maps, self.processor.smoothing_sigma),
            masks=[mask if weight else None for mask, weight in zip(masks, mask_weights, strict=True)],
            categories=self._categories_of(indices),
        )
        if not compute_result:
            return {}
        return {name: value for name, value in self.metric.compute().items() if isinstance(value, float)}

    def _categories_of(self, indices: Any) -> list[str] | None:
        if not any(self.categories):
            return None
        return [self.categories[index] or "unknown" for index in indices.tolist()]
