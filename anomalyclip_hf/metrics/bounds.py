# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Bounds on the error of metrics that are computed from bins instead of single values: pure functions.

Counts per bin are exact. Only the order of different values inside one bin is unknown. Each function takes the counts
that the metric of the same name in `ranking` takes, with at least one positive and one negative, and `mixed`
(`np.ndarray` of shape `(bins,)`, bool), true where a bin holds different values. Rounding errors of about 1e-12 are
ignored.
"""

import numpy as np

from .histogram import RankedCounts
from .ranking import average_precision_limits, f1_max


def largest_error(counts: RankedCounts, limit: float = 0.3) -> float:
    """Bound the error of AUROC, average precision, F1-max and AUPRO that are computed from bins.

    Args:
        counts ([`RankedCounts`]): With anomalous and normal pixels among them.
        limit (`float`, *optional*, defaults to 0.3): False-positive rate in (0, 1] up to which AUPRO integrates.

    Returns:
        `float`: the largest of the four bounds; 0 if no bin holds different values.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics import PixelCounts
    >>> from anomalyclip_hf.metrics.bounds import largest_error

    >>> counts = PixelCounts()
    >>> counts.add(np.linspace(0, 1, 100).reshape(10, 10), mask=np.eye(10))
    >>> largest_error(counts.ranked()) < 1e-4
    True

    ```
    """
    mixed = counts.lowest < counts.highest
    positives, negatives = counts.positives, counts.negatives
    return max(
        auroc_error(positives, negatives, mixed),
        average_precision_error(positives, negatives, mixed),
        f1_max_error(positives, negatives, mixed),
        aupro_error(counts.coverage, negatives, mixed, limit),
    )


def auroc_error(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> float:
    """Return half the share of pairs (positive, negative) that lie in the same mixed bin."""
    here = _shared(positives, negatives, mixed)
    pairs = positives[here].astype(np.float64) * negatives[here]
    return float(pairs.sum() / (2 * float(positives.sum()) * float(negatives.sum())))


def average_precision_error(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> float:
    """Return half the distance of the limits of average precision, in whose middle the metric lies."""
    low, high = average_precision_limits(positives, negatives, mixed)
    return (high - low) / 2


def f1_max_error(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> float:
    """Return what F1 could gain from a threshold that separates positives and negatives inside a mixed bin."""
    value = f1_max(positives, negatives) or 0.0
    here = _shared(positives, negatives, mixed)
    found, passed = np.cumsum(positives)[here], np.cumsum(negatives)[here]
    best = 2 * found / (positives.sum() + found + passed - negatives[here])
    return max(float(best.max(initial=0)) - value, 0.0)


def aupro_error(coverage: np.ndarray, negatives: np.ndarray, mixed: np.ndarray, limit: float) -> float:
    """Return the area that the curve can gain or lose inside mixed bins, up to the limit and divided by it.

    Inside a bin the curve runs from one corner of a rectangle to the opposite corner. At most half of the rectangle
    lies between the curve and the diagonal. Where the limit cuts the rectangle, at most all of it does.
    """
    here = _shared(coverage, negatives, mixed)
    total = negatives.sum()
    rate, width = np.cumsum(negatives)[here] / total, negatives[here] / total
    inside = np.where(rate <= limit, width / 2, np.maximum(limit - rate + width, 0))
    return float((coverage[here] * inside).sum() / (coverage.sum() * limit))


def _shared(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Return the indices of the mixed bins that hold both positives and negatives; others cause no error."""
    return np.flatnonzero(mixed & (positives > 0) & (negatives > 0))
