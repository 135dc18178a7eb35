# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Confidence intervals of the image metrics, by bootstrap: pure functions."""

import numpy as np

from .ranking import auroc, average_precision, f1_max


def resample_metrics(positives: np.ndarray, negatives: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute the image metrics of many resampled sets of images.

    Each resample draws as many anomalous and as many normal images as there are, each with replacement, so that every
    resample holds both kinds. Drawing images is the same as drawing their number per distinct score from a multinomial
    distribution.

    Args:
        positives (`np.ndarray` of shape `(distinct scores,)`): Anomalous images per score, the highest score first.
        negatives (`np.ndarray` of shape `(distinct scores,)`): Normal images likewise. Neither may be all zero.
        resamples (`int`): Number of resamples.
        seed (`int`): Seed of the random numbers.

    Returns:
        `np.ndarray` of shape `(3, resamples)`: AUROC, average precision and F1-max, each in [0, 1].
    """
    generator = np.random.default_rng(seed)
    values = np.empty((3, resamples))
    for index in range(resamples):
        counts = [generator.multinomial(kind.sum(), kind / kind.sum()) for kind in (positives, negatives)]
        values[:, index] = auroc(*counts), average_precision(*counts), f1_max(*counts)
    return values


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Return the interval that leaves out equal shares of resampled values at both ends.

    Args:
        values (`np.ndarray` of shape `(resamples,)`): Of one metric.
        level (`float`): Share of the values inside, in (0, 1).

    Returns:
        `tuple[float, float]`: lower and upper end.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.intervals import percentile_interval

    >>> percentile_interval(np.linspace(0, 1, 101), level=0.5)
    (0.25, 0.75)

    ```
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
