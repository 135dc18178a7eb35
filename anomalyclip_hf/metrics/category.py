# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What is counted of one category, and the figures it gives, each with the reason where it is undefined."""

from collections.abc import Mapping

import numpy as np

from .bounds import largest_error
from .histogram import PixelCounts
from .inputs import Example
from .ranking import (
    aupro,
    aupro_published,
    auroc,
    average_precision,
    f1_max,
    precision_recall_curve,
    rank_scores,
    roc_curve,
)


IMAGE_FIGURES = ("image_auroc", "image_ap", "image_f1_max")
PIXEL_FIGURES = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro", "pixel_aupro_published")
FIGURES = (*IMAGE_FIGURES, *PIXEL_FIGURES)
EMPTY_MASKS = "anomalous images with an empty mask: {}, their pixels counted as normal"
MISSING_MASKS = "anomalous images without a mask: {}, left out of the pixel figures"
TOO_FEW_POINTS = "fewer than two different false-positive rates below 0.3 at the 200 thresholds"

Figures = dict[str, float | None]
Notes = dict[str, str]
Curve = tuple[np.ndarray, np.ndarray]


class CategoryCounts:
    """The scores and labels of the images of one category, and the counts of their pixels."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.labels: list[bool] = []
        self.pixels: PixelCounts | None = None  # made with the first map
        self.empty_masks = 0
        self.missing_masks = 0

    def add(self, example: Example) -> None:
        """Count one image that `read_batch` has checked."""
        self.scores.append(example.score)
        self.labels.append(example.label)
        if example.anomaly_map is None:
            return
        if example.label and example.mask is None:
            self.missing_masks += 1
            return
        self.pixels = self.pixels or PixelCounts()
        self.pixels.add(example.anomaly_map, example.mask)
        self.empty_masks += example.label and not np.any(example.mask)

    def merge(self, other: "CategoryCounts") -> None:
        """Take over what `other` has counted."""
        self.scores += other.scores
        self.labels += other.labels
        self.empty_masks += other.empty_masks
        self.missing_masks += other.missing_masks
        if other.pixels is not None:
            self.pixels = self.pixels or PixelCounts()
            self.pixels.merge(other.pixels)

    def figures(self, limit: float) -> tuple[Figures, Notes]:
        """Compute all figures.

        Args:
            limit (`float`): Of AUPRO.

        Returns:
            `tuple[dict, dict]`: the figures by name with `pixel_error_bound`, and notes by name of the figure;
            a note on the masks is called `masks`.
        """
        image_values, image_notes = self._image_figures()
        pixel_values, pixel_notes = self._pixel_figures(limit)
        counts = ((EMPTY_MASKS, self.empty_masks), (MISSING_MASKS, self.missing_masks))
        masks = "; ".join(text.format(number) for text, number in counts if number)
        notes = image_notes | pixel_notes | ({"masks": masks} if masks else {})
        return image_values | pixel_values, notes

    def _image_figures(self) -> tuple[Figures, Notes]:
        counts = rank_scores(np.array(self.scores), np.array(self.labels))
        note = _note(*counts, equal=len(counts[0]) == 1, things="images")
        values = (auroc(*counts), average_precision(*counts), f1_max(*counts))
        return dict(zip(IMAGE_FIGURES, values, strict=True)), dict.fromkeys(IMAGE_FIGURES, note) if note else {}

    def _pixel_figures(self, limit: float) -> tuple[Figures, Notes]:
        if self.pixels is None:
            reason = "no masks of anomalous images" if self.missing_masks else "no anomaly maps"
            return dict.fromkeys((*PIXEL_FIGURES, "pixel_error_bound")), dict.fromkeys(PIXEL_FIGURES, reason)
        ranked = self.pixels.ranked()
        lowest, highest, positives, negatives, coverage = ranked
        note = _note(positives, negatives, equal=lowest[-1] == highest[0], things="pixels")
        values = (
            auroc(positives, negatives),
            average_precision(positives, negatives),
            f1_max(positives, negatives),
            aupro(coverage, negatives, limit),
            aupro_published(lowest, highest, coverage, negatives),
        )
        figures = dict(zip(PIXEL_FIGURES, values, strict=True))
        notes = dict.fromkeys(PIXEL_FIGURES, note) if note else {}
        if values[-1] is None and not note:
            notes["pixel_aupro_published"] = TOO_FEW_POINTS
        figures["pixel_error_bound"] = None if values[0] is None else largest_error(ranked, limit)
        return figures, notes

    def curves(self) -> dict[str, Curve]:
        """Points to plot, of those curves that are defined.

        Returns:
            `dict[str, tuple[np.ndarray, np.ndarray]]`: x and y of `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`
            and `pixel_pro`, as `ranking.roc_curve` and `ranking.precision_recall_curve` give them.
        """
        curves = {}
        images = rank_scores(np.array(self.scores), np.array(self.labels))
        if images[0].any() and images[1].any():
            curves["image_roc"], curves["image_pr"] = roc_curve(*images), precision_recall_curve(*images)
        ranked = None if self.pixels is None else self.pixels.ranked()
        if ranked is not None and ranked.positives.any() and ranked.negatives.any():
            pixels = ranked.positives, ranked.negatives
            curves["pixel_roc"], curves["pixel_pr"] = roc_curve(*pixels), precision_recall_curve(*pixels)
            curves["pixel_pro"] = roc_curve(ranked.coverage, ranked.negatives)
        return curves

    def state(self) -> dict[str, np.ndarray]:
        """Everything counted, as arrays that `numpy.savez` keeps."""
        pixels = {} if self.pixels is None else self.pixels.state()
        return {
            "scores": np.array(self.scores, dtype=np.float64),
            "labels": np.array(self.labels, dtype=bool),
            "empty_masks": np.array(self.empty_masks),
            "missing_masks": np.array(self.missing_masks),
            **{f"pixels.{name}": array for name, array in pixels.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "CategoryCounts":
        """Restore what `state` gave."""
        counts = cls()
        counts.scores = state["scores"].tolist()
        counts.labels = state["labels"].tolist()
        counts.empty_masks = int(state["empty_masks"])
        counts.missing_masks = int(state["missing_masks"])
        pixels = {name.removeprefix("pixels."): state[name] for name in state if name.startswith("pixels.")}
        counts.pixels = PixelCounts.from_state(pixels) if pixels else None
        return counts


def _note(positives: np.ndarray, negatives: np.ndarray, equal: bool, things: str) -> str | None:
    """Why figures are undefined, or say nothing although they are defined."""
    if not positives.any():
        return f"no anomalous {things}"
    if not negatives.any():
        return f"no normal {things}"
    if equal:
        return "all scores are equal" if things == "images" else "all map values are equal"
    return None
