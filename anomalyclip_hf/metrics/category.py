# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Counts of the images of one category, and the metrics computed from them."""

from collections.abc import Mapping

import numpy as np

from .bounds import largest_error
from .histogram import PixelCounts
from .inputs import Example
from .intervals import resample_metrics
from .ranking import (
    aupro,
    aupro_published,
    auroc,
    average_precision,
    f1_max,
    f1_threshold,
    precision_recall_curve,
    rank_scores,
    roc_curve,
)


IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1_max")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro", "pixel_aupro_published")
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
UNMASKED = "anomalous images without a usable mask: {}, left out of the pixel metrics"
TOO_FEW_POINTS = "fewer than two different false-positive rates below 0.3 at the 200 thresholds"

Metrics = dict[str, float | None]
Notes = dict[str, str]
Curve = tuple[np.ndarray, np.ndarray]


class CategoryCounts:
    """Scores and labels of the images of one category, and the counts of their pixels."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.labels: list[bool] = []
        self.pixels: PixelCounts | None = None  # made with the first anomaly map
        self.unmasked = 0  # anomalous images that do not say where the anomaly is

    def add(self, example: Example) -> None:
        """Count one image that `read_batch` has checked."""
        self.scores.append(example.score)
        self.labels.append(example.label)
        if example.anomaly_map is None:
            return
        if example.label and (example.mask is None or not example.mask.any()):
            self.unmasked += 1
            return
        self.pixels = self.pixels or PixelCounts()
        self.pixels.add(example.anomaly_map, example.mask)

    def merge(self, other: "CategoryCounts") -> None:
        """Add the counts of `other`."""
        self.scores += other.scores
        self.labels += other.labels
        self.unmasked += other.unmasked
        if other.pixels is not None:
            self.pixels = self.pixels or PixelCounts()
            self.pixels.merge(other.pixels)

    def compute(self, limit: float) -> tuple[Metrics, Notes]:
        """Compute all metrics.

        Args:
            limit (`float`): False-positive rate in (0, 1] up to which AUPRO integrates.

        Returns:
            `tuple[dict, dict]`: the metrics by name, with `pixel_error_bound`; and notes by name of the metric. The
            note about masks is called `masks`.
        """
        image_values, image_notes = self._image_metrics()
        pixel_values, pixel_notes = self._pixel_metrics(limit)
        masks = {"masks": UNMASKED.format(self.unmasked)} if self.unmasked else {}
        return image_values | pixel_values, image_notes | pixel_notes | masks

    def _image_metrics(self) -> tuple[Metrics, Notes]:
        scores, positives, negatives = self._ranked_scores()
        note = _note(positives, negatives, equal=len(scores) == 1, things="images")
        values = (auroc(positives, negatives), average_precision(positives, negatives), f1_max(positives, negatives))
        return dict(zip(IMAGE_METRICS, values, strict=True)), dict.fromkeys(IMAGE_METRICS, note) if note else {}

    def _pixel_metrics(self, limit: float) -> tuple[Metrics, Notes]:
        if self.pixels is None:
            reason = "no masks of anomalous images" if self.unmasked else "no anomaly maps"
            return dict.fromkeys((*PIXEL_METRICS, "pixel_error_bound")), dict.fromkeys(PIXEL_METRICS, reason)
        ranked = self.pixels.ranked()
        lowest, highest, positives, negatives, coverage = ranked
        note = _note(positives, negatives, equal=lowest[-1] == highest[0], things="pixels")
        values = (
            auroc(positives, negatives),
            average_precision(positives, negatives, mixed=lowest < highest),
            f1_max(positives, negatives),
            aupro(coverage, negatives, limit),
            aupro_published(lowest, highest, coverage, negatives),
        )
        metrics = dict(zip(PIXEL_METRICS, values, strict=True))
        notes = dict.fromkeys(PIXEL_METRICS, note) if note else {}
        if values[-1] is None and not note:
            notes["pixel_aupro_published"] = TOO_FEW_POINTS
        metrics["pixel_error_bound"] = None if values[0] is None else largest_error(ranked, limit)
        return metrics, notes

    def curves(self) -> dict[str, Curve]:
        """Return the points to plot of all curves that are defined.

        Returns:
            `dict[str, tuple[np.ndarray, np.ndarray]]`: x and y of `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`
            and `pixel_pro`, as returned by `ranking.roc_curve` and `ranking.precision_recall_curve`.
        """
        curves = {}
        _, *images = self._ranked_scores()
        if images[0].any() and images[1].any():
            curves["image_roc"], curves["image_pr"] = roc_curve(*images), precision_recall_curve(*images)
        ranked = None if self.pixels is None else self.pixels.ranked()
        if ranked is not None and ranked.positives.any() and ranked.negatives.any():
            pixels = ranked.positives, ranked.negatives
            curves["pixel_roc"], curves["pixel_pr"] = roc_curve(*pixels), precision_recall_curve(*pixels)
            curves["pixel_pro"] = roc_curve(ranked.coverage, ranked.negatives)
        return curves

    def thresholds(self) -> Metrics:
        """Return the thresholds of the best F1: `image` for scores and `pixel` for map values, or `None`."""
        pixel = None
        if self.pixels is not None:
            ranked = self.pixels.ranked()
            pixel = f1_threshold(ranked.lowest, ranked.positives, ranked.negatives)
        return {"image": f1_threshold(*self._ranked_scores()), "pixel": pixel}

    def resample(self, resamples: int, seed: int) -> dict[str, np.ndarray]:
        """Compute the image metrics of resampled images, by name; empty without images of both kinds."""
        _, positives, negatives = self._ranked_scores()
        if not (positives.any() and negatives.any()):
            return {}
        return dict(zip(IMAGE_METRICS, resample_metrics(positives, negatives, resamples, seed), strict=True))

    def state(self) -> dict[str, np.ndarray]:
        """Return all counts as arrays that `numpy.savez` can store."""
        pixels = {} if self.pixels is None else self.pixels.state()
        return {
            "scores": np.array(self.scores, dtype=np.float64),
            "labels": np.array(self.labels, dtype=bool),
            "unmasked": np.array(self.unmasked),
            **{f"pixels.{name}": array for name, array in pixels.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "CategoryCounts":
        """Restore the counts that `state` returned."""
        counts = cls()
        counts.scores = state["scores"].tolist()
        counts.labels = state["labels"].tolist()
        counts.unmasked = int(state["unmasked"])
        pixels = {name.removeprefix("pixels."): state[name] for name in state if name.startswith("pixels.")}
        counts.pixels = PixelCounts.from_state(pixels) if pixels else None
        return counts

    def _ranked_scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return rank_scores(np.array(self.scores), np.array(self.labels))


def _note(positives: np.ndarray, negatives: np.ndarray, equal: bool, things: str) -> str | None:
    """Explain why metrics are undefined, or defined but meaningless."""
    if not positives.any():
        return f"no anomalous {things}"
    if not negatives.any():
        return f"no normal {things}"
    if equal:
        return "all scores are equal" if things == "images" else "all map values are equal"
    return None
