# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""How far figures computed from bins can be from those of the single values: pure functions.

Counts per bin are exact; all that is unknown is the order of different values inside one bin. Each function takes
`mixed` (`np.ndarray` of shape `(bins,)`, bool), true where a bin holds different values, beside the counts of the
figure of the same name in `ranking`, for which there are positives and negatives. Rounding, of about 1e-12, is left
aside.
"""

import numpy as np

from .histogram import RankedCounts
from .ranking import f1_max


def largest_error(counts: RankedCounts, limit: float = 0.3) -> float:
    """Bound the error of AUROC, average precision, F1-max and AUPRO that are computed from bins.

    Args:
        counts ([`RankedCounts`]): With anomalous and normal pixels among them.
        limit (`float`, *optional*, defaults to 0.3): Of AUPRO.

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
    """Half of all pairs of a positive and a negative that share a mixed bin; see the module for the arguments."""
    here = _shared(positives, negatives, mixed)
    pairs = positives[here].astype(np.float64) * negatives[here]
    return float(pairs.sum() / (2 * float(positives.sum()) * float(negatives.sum())))


def average_precision_error(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> float:
    """Distance to the farther end of what precisions the positives of a mixed bin can have; see the module.

    The highest any of them can have is that with all positives of the bin and none of its negatives. The lowest sum
    is that with all negatives first, where the precision is a concave function of the positives found, so that its
    mean is at least the mean of its first and last value.
    """
    here = np.flatnonzero(mixed & (positives > 0))  # without negatives too: the order decides the first precisions
    found, passed = np.cumsum(positives)[here], np.cumsum(negatives)[here]
    count, inner = positives[here], negatives[here]
    last = found / (found + passed)  # what average_precision takes for all positives of the bin
    first = (found - count + 1) / (found - count + 1 + passed)
    best = found / (found + passed - inner)
    loss, gain = (count * (last - first) / 2).sum(), (count * (best - last)).sum()
    return float(max(loss, gain) / positives.sum())


def f1_max_error(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> float:
    """Gain from a threshold inside a mixed bin that parted its positives from its negatives; see the module."""
    value = f1_max(positives, negatives) or 0.0
    here = _shared(positives, negatives, mixed)
    found, passed = np.cumsum(positives)[here], np.cumsum(negatives)[here]
    best = 2 * found / (positives.sum() + found + passed - negatives[here])
    return max(float(best.max(initial=0)) - value, 0.0)


def aupro_error(coverage: np.ndarray, negatives: np.ndarray, mixed: np.ndarray, limit: float) -> float:
    """Area the curve can gain or lose inside mixed bins up to the limit; see the module for the arguments.

    In a bin the curve runs from one corner of a rectangle to the opposite one: at most half the rectangle lies between
    it and the diagonal, and at most all of it where the limit cuts the rectangle.
    """
    here = _shared(coverage, negatives, mixed)
    total = negatives.sum()
    rate, width = np.cumsum(negatives)[here] / total, negatives[here] / total
    inside = np.where(rate <= limit, width / 2, np.maximum(limit - rate + width, 0))
    return float((coverage[here] * inside).sum() / (coverage.sum() * limit))


def _shared(positives: np.ndarray, negatives: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """Indices of the mixed bins with both kinds; in any other, no curve can bend and no threshold can part them."""
    return np.flatnonzero(mixed & (positives > 0) & (negatives > 0))
