# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Choose thresholds from the scores of labelled images: conformal, quantile or best F1. Pure functions of arrays."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..evaluation.decisions import count_decisions
from ..metrics.intervals import percentile_interval
from ..metrics.ranking import f1_threshold, rank_scores
from .thresholds import Calibration, Thresholds


METHODS = ("conformal", "quantile", "f1")
MAX_KEPT = 400  # normal scores that are stored, for p-values
MAP_ROUNDING = 1e-6  # resizing a map raises its maximum by less than this, relatively
RESAMPLES, LEVEL, SEED = 1000, 0.95, 0  # of the bootstrap


def calibrate(
    scores: Any,
    *,
    method: str = "conformal",
    alpha: float = 0.05,
    review_alpha: float | None = None,
    labels: Any = None,
    categories: Sequence[str | None] | None = None,
    map_maxima: Any = None,
    data: str | None = None,
) -> Calibration:
    """Choose thresholds from the scores of images whose label is known.

    `"conformal"` takes the ⌈(n + 1)(1 − α)⌉-th smallest of n normal scores; higher scores are anomalous. If a new
    normal image is exchangeable with the n images (taken of the same things in the same way), it is called anomalous
    with probability at most α, whatever the model and the distribution of its scores (Vovk et al., *Algorithmic
    Learning in a Random World*, 2005, chapter 2). `"quantile"` takes the 1 − α quantile, for any number of images and
    without a guarantee. `"f1"` takes the threshold of the best F1 on labelled images.

    Args:
        scores (of shape `(images,)`): Finite, higher = more anomalous.
        method (`str`, *optional*, defaults to `"conformal"`): `"conformal"`, `"quantile"` or `"f1"`.
        alpha (`float`, *optional*, defaults to 0.05): Largest share of normal images to call anomalous, in (0, 1). Not
            used by `"f1"`.
        review_alpha (`float`, *optional*): Larger share of normal images to look at. The decision for an image whose
            score is between both thresholds is `"look"`.
        labels (of shape `(images,)`, *optional*): 0 normal, 1 anomalous; by default all are normal. Anomalous images
            change the thresholds of `"f1"` only; with other methods they serve to measure recall and F1.
        categories (`Sequence[str]` of length `images`, *optional*): Thresholds are also chosen for each category.
        map_maxima (of shape `(images,)`, *optional*): Largest value of each anomaly map, from which the pixel
            threshold is chosen in the same way: at most a share α of the normal images have any pixel that reaches it.
        data (`str`, *optional*): Description of the images, which is stored.

    Returns:
        [`Calibration`]

    Raises:
        ValueError: If `alpha` is not in (0, 1), there are fewer normal images than ⌈1/α⌉ − 1 (conformal), scores are
            not finite, or lengths differ.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf import calibrate

    >>> calibration = calibrate(np.linspace(0.2, 0.4, 39), alpha=0.05, review_alpha=0.2)
    >>> round(calibration.threshold, 4), round(calibration.review_threshold, 4)
    (0.3947, 0.3632)
    >>> calibration.p_value(0.38), calibration.decide(0.38), calibration.decide(0.5)
    (0.125, 'look', 'reject')

    ```
    """
    check_arguments(method, alpha, review_alpha)
    values = _finite(scores, "scores")
    is_anomalous = np.zeros(len(values), bool) if labels is None else _labels(labels, len(values))
    maxima = None if map_maxima is None else _finite(map_maxima, "map_maxima", len(values))
    if categories is not None and len(categories) != len(values):
        raise ValueError(f"got {len(categories)} categories for {len(values)} scores; expected one per image.")

    def choose(chosen: np.ndarray, what: str) -> Thresholds:
        part = None if maxima is None else maxima[chosen]
        return _choose(values[chosen], is_anomalous[chosen], part, method, alpha, review_alpha, what)

    pooled = choose(np.ones(len(values), bool), "")
    names = np.array(["" if name is None else name for name in categories or ()])
    parts = {str(name): choose(names == name, f" of {name}") for name in np.unique(names) if name}
    notes = [
        f"{what} are all equal: the model does not tell these images apart." for what in _constant(values, maxima)
    ]
    return Calibration(
        method=method,
        alpha=None if method == "f1" else float(alpha),
        review_alpha=None if review_alpha is None else float(review_alpha),
        categories=parts,
        data=data,
        notes=notes,
        **vars(pooled),
    )


def conformal_rank(images: int, alpha: float) -> int:
    """Return which of the ascending normal scores the conformal threshold is, counted from 1.

    Args:
        images (`int`): Number of normal images.
        alpha (`float`): In (0, 1).

    Returns:
        `int`: ⌈(images + 1)(1 − alpha)⌉ in exact decimal arithmetic; `images + 1` if there are too few images.
    """
    return images + 1 - math.floor((images + 1) * Fraction(repr(float(alpha))))


def images_needed(alpha: float) -> int:
    """Return the smallest number of normal images for a conformal threshold, ⌈1/alpha⌉ − 1."""
    return math.ceil(1 / Fraction(repr(float(alpha)))) - 1


def just_above(value: float, rounding: float = 0.0) -> float:
    """Return the smallest float32 above a value.

    The engine calls a score anomalous if it reaches the threshold, while the guarantee is about scores above the
    chosen one. The next float32 as threshold gives the same decisions in float32 and in float64.

    Args:
        value (`float`): The score that was chosen.
        rounding (`float`, *optional*, defaults to 0): Relative error of equal values.
    """
    value += rounding * abs(value)
    nearest = np.float32(value)
    return float(nearest if float(nearest) > value else np.nextafter(nearest, np.float32(np.inf)))


def check_arguments(method: str, alpha: float, review_alpha: float | None) -> None:
    """Check that arguments of [`calibrate`] are in range and fit each other.

    Raises:
        ValueError: If they do not. The message names the argument.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    for name, value in (("alpha", alpha), ("review_alpha", review_alpha)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} is {value!r}; expected a share of the normal images between 0 and 1.")
    if review_alpha is None:
        return
    if method == "f1":
        raise ValueError("review_alpha goes with conformal and quantile; f1 has a single threshold.")
    if review_alpha <= alpha:
        raise ValueError(f"review_alpha is {review_alpha:g}; expected a larger share than alpha, {alpha:g}.")


def check_images(method: str, alpha: float, normal: int, anomalous: int, what: str = "") -> None:
    """Check that there are enough images for a method.

    Args:
        method (`str`): See [`calibrate`].
        alpha (`float`): See [`calibrate`].
        normal (`int`): Number of normal images.
        anomalous (`int`): Number of anomalous images.
        what (`str`, *optional*): Group of the images in the error, such as `" of bolt"`.

    Raises:
        ValueError: If there are too few. The message says how many are needed.
    """
    needed = images_needed(alpha) if method == "conformal" else 1
    if normal < needed:
        raise ValueError(
            f"got {normal} normal images{what}; {method} at alpha={alpha:g} needs at least {needed}. Add images or "
            "choose a larger alpha."
        )
    if method == "f1" and not anomalous:
        raise ValueError(f"got no anomalous images{what}; f1 needs labelled images of both kinds.")


def _choose(
    scores: np.ndarray,
    is_anomalous: np.ndarray,
    maxima: np.ndarray | None,
    method: str,
    alpha: float,
    review_alpha: float | None,
    what: str,
) -> Thresholds:
    """Choose the thresholds of one group of images; `what` names it in errors."""
    normal = np.sort(scores[~is_anomalous])
    check_images(method, alpha, len(normal), int(is_anomalous.sum()), what)

    def choose(values: np.ndarray, level: float, rounding: float = 0.0) -> float:
        if method == "f1":
            return float(f1_threshold(*rank_scores(values, is_anomalous)))  # type: ignore[arg-type]
        return just_above(float(np.sort(values[~is_anomalous])[rank(len(normal), level) - 1]), rounding)

    rank: Callable[[int, float], int] = conformal_rank if method == "conformal" else _quantile_rank
    levels = [level for level in (alpha, review_alpha) if level is not None and method != "f1"]
    kept, counts = thin_scores(normal, [rank(len(normal), level) for level in levels])
    threshold = choose(scores, alpha)
    return Thresholds(
        threshold=threshold,
        review_threshold=None if review_alpha is None else choose(scores, review_alpha),
        pixel_threshold=None if maxima is None else choose(maxima, alpha, MAP_ROUNDING),
        normal=len(normal),
        anomalous=int(is_anomalous.sum()),
        normal_scores=kept.tolist(),
        normal_counts=counts.tolist(),
        metrics=_measure(scores, is_anomalous, threshold),
        rate_interval=_rate_interval(len(normal), alpha) if method == "conformal" else None,
    )


def thin_scores(normal: np.ndarray, ranks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keep at most about 400 scores, each with the number of images that it represents.

    A score that is left out counts as the next higher one that is kept. This can only raise p-values, and no p-value
    crosses that of a threshold.

    Args:
        normal (`np.ndarray` of shape `(images,)`): Ascending.
        ranks (`Sequence[int]`): Ranks of the thresholds, counted from 1, which are always kept.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: distinct scores, ascending, and their counts.
    """
    kept = np.arange(len(normal))
    if len(normal) > MAX_KEPT:
        half = MAX_KEPT // 2
        spread = np.linspace(0, len(normal) - half - 1, half).astype(int)
        kept = np.concatenate([spread, np.arange(len(normal) - half, len(normal)), np.array(ranks, int) - 1])
    values = np.unique(normal[kept])
    return values, np.bincount(np.searchsorted(values, normal), minlength=len(values))


def _measure(scores: np.ndarray, is_anomalous: np.ndarray, threshold: float) -> dict[str, list[float]]:
    """Compute metrics at a threshold with bootstrap intervals.

    Drawing images of one kind with replacement means that the number called anomalous has a binomial distribution.
    """
    counts = count_decisions(scores, is_anomalous, threshold)
    generator = np.random.default_rng(SEED)
    normal, anomalous = int((~is_anomalous).sum()), int(is_anomalous.sum())
    false_alarms = generator.binomial(normal, counts["false_positives"] / normal, RESAMPLES)
    samples = {"false_alarm_rate": false_alarms / normal}
    if anomalous:
        found = generator.binomial(anomalous, counts["true_positives"] / anomalous, RESAMPLES)
        samples["recall"] = found / anomalous
        samples["f1"] = 2 * found / (found + false_alarms + anomalous)
    return {name: [counts[name], *percentile_interval(values, LEVEL)] for name, values in samples.items()}


def _rate_interval(images: int, alpha: float) -> list[float]:
    """Return the interval of the false-alarm rate, which has the distribution Beta(n + 1 − k, k)."""
    from scipy.special import betaincinv

    rank = conformal_rank(images, alpha)
    return [float(betaincinv(images + 1 - rank, rank, end)) for end in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]


def _quantile_rank(images: int, alpha: float) -> int:
    return max(1, images - math.floor(images * Fraction(repr(float(alpha)))))


def _constant(scores: np.ndarray, maxima: np.ndarray | None) -> list[str]:
    named = [("scores", scores), *([] if maxima is None else [("maxima of the maps", maxima)])]
    return [f"the {len(values)} {name}" for name, values in named if len(values) > 1 and np.ptp(values) == 0]


def _finite(values: Any, name: str, length: int | None = None) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or (length is not None and len(array) != length):
        expected = "one per image" if length is None else f"{length}, one per score"
        raise ValueError(f"{name} has the shape {array.shape}; expected {expected}.")
    if wrong := np.flatnonzero(~np.isfinite(array)).tolist():
        raise ValueError(f"{name} holds {array[wrong[0]]} at index {wrong[0]}; expected finite numbers.")
    return array


def _labels(labels: Any, length: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (length,) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"labels has the shape {array.shape}; expected {length} numbers, 0 normal or 1 anomalous.")
    return array.astype(bool)


__all__ = ["METHODS", "calibrate", "check_arguments", "check_images", "conformal_rank", "images_needed"]
