# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Ranking metrics and their curves, computed from counts per distinct score, the highest score first.

All functions are pure. Without positives or without negatives a metric is undefined and therefore `None`, not 0 or 1.
"""

import numpy as np


PUBLISHED_THRESHOLDS = 200
PUBLISHED_LIMIT = 0.3
CURVE_POINTS = 1000


def rank_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count anomalous and normal images per distinct score.

    Args:
        scores (`np.ndarray` of shape `(images,)`): Finite, higher = more anomalous.
        labels (`np.ndarray` of shape `(images,)`): 0 normal, 1 anomalous.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: distinct scores (float64), positives and negatives (int64), each
        of shape `(distinct scores,)`, the highest score first.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    images = np.bincount(place, minlength=len(distinct))
    positives = np.bincount(place[np.asarray(labels, dtype=bool)], minlength=len(distinct))
    return distinct[::-1], positives[::-1], (images - positives)[::-1]


def compute_score_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Compute the exact metrics of image scores.

    Args:
        scores (`np.ndarray` of shape `(images,)`): Finite, higher = more anomalous.
        labels (`np.ndarray` of shape `(images,)`): 0 normal, 1 anomalous.

    Returns:
        `dict[str, float | None]`: `auroc`, `ap` and `f1_max`, each in [0, 1]; `None` without images of both kinds.

    Example:
    ```python
    >>> from anomalyclip_hf.metrics import compute_score_metrics

    >>> compute_score_metrics([0.2, 0.6, 0.4, 0.8], [0, 0, 1, 1])
    {'auroc': 0.75, 'ap': 0.833..., 'f1_max': 0.8}

    ```
    """
    _, *counts = rank_scores(scores, labels)
    return {"auroc": auroc(*counts), "ap": average_precision(*counts), "f1_max": f1_max(*counts)}


def auroc(positives: np.ndarray, negatives: np.ndarray) -> float | None:
    """Compute the area under the ROC curve: the chance that a positive scores above a negative; ties count half.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives per distinct score, the highest score first.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.

    Returns:
        `float` or `None`: in [0, 1]; `None` without positives or without negatives.
    """
    if not _both_kinds(positives, negatives):
        return None
    here = np.flatnonzero(positives)
    total = float(negatives.sum())
    lower = total - np.cumsum(negatives)[here] + 0.5 * negatives[here]
    return float((positives[here] * lower).sum() / (float(positives.sum()) * total))


def average_precision(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray | None = None) -> float | None:
    """Compute the mean precision at the scores of the positives, as scikit-learn's `average_precision_score` does.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives per distinct score, the highest score first.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.
        mixed (`np.ndarray` of shape `(bins,)`, *optional*): Bool, true where a bin holds different scores, whose order
            is unknown; the middle of the values that the order allows is returned.

    Returns:
        `float` or `None`: in [0, 1]; `None` without positives or without negatives.
    """
    if not _both_kinds(positives, negatives):
        return None
    return sum(average_precision_limits(positives, negatives, mixed)) / 2


def average_precision_limits(
    positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray | None = None
) -> tuple[float, float]:
    """Compute limits of the average precision, whatever the order inside mixed bins.

    The precision at a positive is highest if all positives of its bin come before the negatives. The sum of the
    precisions is lowest if all negatives come first. The precision is then a concave function of the number of
    positives found, so its mean is at least the mean of its first and last value.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives per bin, the highest scores first; not all 0.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.
        mixed (`np.ndarray` of shape `(bins,)`, *optional*): As for [`average_precision`]; without it, no bin is.

    Returns:
        `tuple[float, float]`: the lower and the upper limit, equal where no bin is mixed.
    """
    here = np.flatnonzero(positives)
    count, found, passed = positives[here], np.cumsum(positives)[here], np.cumsum(negatives)[here]
    lowest = highest = found / (found + passed)
    if mixed is not None:
        open_order = mixed[here]
        first = (found - count + 1) / (found - count + 1 + passed)
        lowest = np.where(open_order, (first + lowest) / 2, lowest)
        highest = np.where(open_order, found / (found + passed - negatives[here]), highest)
    return float((count * lowest).sum() / found[-1]), float((count * highest).sum() / found[-1])


def f1_max(positives: np.ndarray, negatives: np.ndarray) -> float | None:
    """Compute the best F1, the harmonic mean of precision and recall, over all thresholds.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives per distinct score, the highest score first.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.

    Returns:
        `float` or `None`: in [0, 1]; `None` without positives or without negatives.
    """
    return None if not _both_kinds(positives, negatives) else float(_f1(positives, negatives)[1].max())


def f1_threshold(scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> float | None:
    """Find the threshold of the best F1; scores equal to it count as anomalous.

    Args:
        scores (`np.ndarray` of shape `(bins,)`): Distinct scores, or lowest scores of the bins, the highest first.
        positives (`np.ndarray` of shape `(bins,)`): Positives per distinct score.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.

    Returns:
        `float` or `None`: one of `scores`, the highest if several are as good; `None` without positives or negatives.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.ranking import f1_threshold

    >>> f1_threshold(np.array([0.8, 0.6, 0.2]), np.array([1, 1, 0]), np.array([0, 0, 1]))
    0.6

    ```
    """
    if not _both_kinds(positives, negatives):
        return None
    here, f1 = _f1(positives, negatives)
    return float(scores[here[f1.argmax()]])


def aupro(coverage: np.ndarray, negatives: np.ndarray, limit: float = 0.3) -> float | None:
    """Compute the area under the per-region overlap curve up to a false-positive rate, divided by that rate.

    The curve shows, for each threshold, the fraction of an anomalous region that is found (y, the mean over all
    regions) against the fraction of the normal pixels that are found (x). It is interpolated linearly between its
    points and at the limit. (Bergmann et al., *The MVTec Anomaly Detection Dataset*, IJCV 2021, section 5.)

    Args:
        coverage (`np.ndarray` of shape `(bins,)`): Fractions of regions per distinct value, summed over the regions,
            the highest value first.
        negatives (`np.ndarray` of shape `(bins,)`): Normal pixels likewise.
        limit (`float`, *optional*, defaults to 0.3): False-positive rate in (0, 1].

    Returns:
        `float` or `None`: in [0, 1]; `None` without regions or without normal pixels.

    Example: one region, two thirds of it found before any normal pixel, the rest together with the last.
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.ranking import aupro

    >>> round(aupro(np.array([2 / 3, 0, 1 / 3]), np.array([0, 5, 5]), limit=1.0), 4)
    0.75

    ```
    """
    if not _both_kinds(coverage, negatives):
        return None
    rate, overlap = _from_zero(negatives), _from_zero(coverage)
    inside = int(np.searchsorted(rate, limit, side="right"))
    if inside < len(rate):
        part = (limit - rate[inside - 1]) / (rate[inside] - rate[inside - 1])
        end = overlap[inside - 1] + part * (overlap[inside] - overlap[inside - 1])
        rate, overlap = np.append(rate[:inside], limit), np.append(overlap[:inside], end)
    return _area(rate, overlap) / limit


def aupro_published(
    lowest: np.ndarray, highest: np.ndarray, coverage: np.ndarray, negatives: np.ndarray
) -> float | None:
    """Compute AUPRO as the published AnomalyCLIP code does. Compare it with the paper's numbers only.

    It differs from `aupro` in three ways:

    - The curve is read at only 200 thresholds, evenly spaced between the lowest and the highest map value, and pixels
      *above* a threshold are found. One extreme pixel can therefore change the result.
    - The curve ends at the last of these points whose false-positive rate is below 0.3, without interpolation to 0.3.
    - The false-positive rates that are left are rescaled to [0, 1] by their own minimum and maximum.

    The published code computes thresholds in float32, where rounding can shift them slightly or append one.

    Args:
        lowest (`np.ndarray` of shape `(bins,)`): Lowest value in each bin, the highest bin first.
        highest (`np.ndarray` of shape `(bins,)`): Highest value in each bin; the pixels in between are assumed to be
            spread evenly.
        coverage (`np.ndarray` of shape `(bins,)`): Fractions of regions in each bin, summed over the regions.
        negatives (`np.ndarray` of shape `(bins,)`): Normal pixels in each bin.

    Returns:
        `float` or `None`: in [0, 1]; `None` without regions or normal pixels, or if fewer than two different
        false-positive rates below 0.3 remain.
    """
    if not _both_kinds(coverage, negatives):
        return None
    step = (highest[0] - lowest[-1]) / PUBLISHED_THRESHOLDS
    thresholds = lowest[-1] + step * np.arange(PUBLISHED_THRESHOLDS)
    # Bins 0 … split - 1 lie above a threshold, part of bin `split` may.
    split = len(lowest) - np.searchsorted(lowest[::-1], thresholds, side="right")
    width = highest[split] - lowest[split]
    part = np.clip((highest[split] - thresholds) / np.where(width > 0, width, np.inf), 0, 1)

    rate, overlap = _from_zero(negatives), _from_zero(coverage)
    rate = rate[split] + part * (rate[split + 1] - rate[split])
    overlap = overlap[split] + part * (overlap[split + 1] - overlap[split])
    kept = rate < PUBLISHED_LIMIT
    rate, overlap = rate[kept], overlap[kept]
    if len(rate) == 0 or rate.min() == rate.max():
        return None
    return abs(_area(rate, overlap)) / float(rate.max() - rate.min())


def roc_curve(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the ROC curve to plot, or of the PRO curve if coverage is given in place of positives.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives, or coverage, per distinct score, the highest first.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise. Neither may be all zero.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: false-positive rate and true-positive rate (or per-region overlap), each
        float64 of shape `(points,)` in [0, 1], from (0, 0) to (1, 1), at most about a thousand points.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.ranking import roc_curve

    >>> roc_curve(np.array([1, 1, 0]), np.array([0, 1, 1]))
    (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))

    ```
    """
    return _thin(_from_zero(negatives), _from_zero(positives))


def precision_recall_curve(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the precision-recall curve to plot.

    Args:
        positives (`np.ndarray` of shape `(bins,)`): Positives per distinct score, the highest score first, not all 0.
        negatives (`np.ndarray` of shape `(bins,)`): Negatives likewise.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: recall and precision, each float64 of shape `(points,)` in [0, 1], at most
        about a thousand points.
    """
    found = np.cumsum(positives)
    return _thin(found / found[-1], found / np.cumsum(positives + negatives))


def _both_kinds(positives: np.ndarray, negatives: np.ndarray) -> bool:
    return bool(positives.any() and negatives.any())


def _f1(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins with positives and the F1 there; at other thresholds F1 is lower."""
    here = np.flatnonzero(positives)
    found = np.cumsum(positives)[here]
    return here, 2 * found / (found[-1] + found + np.cumsum(negatives)[here])


def _from_zero(counts: np.ndarray) -> np.ndarray:
    """Return the cumulated fractions, of shape `(bins + 1,)`, from exactly 0 to exactly 1."""
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    return cumulated / cumulated[-1]


def _area(x: np.ndarray, y: np.ndarray) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep points at about even distances along a curve, including both ends."""
    if len(x) <= CURVE_POINTS:
        return x, y
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.searchsorted(way, np.linspace(0, way[-1], CURVE_POINTS))
    kept = np.unique(np.concatenate([[0], kept, [len(x) - 1]]))
    return x[kept], y[kept]


__all__ = [
    "aupro",
    "aupro_published",
    "auroc",
    "average_precision",
    "compute_score_metrics",
    "f1_max",
    "f1_threshold",
    "precision_recall_curve",
    "rank_scores",
    "roc_curve",
]
