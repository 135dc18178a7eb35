# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Anomaly maps of many kinds, and a slow reference that computes the metrics from single pixels."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score


def signal(seed: int = 0, number: int = 4, size: tuple[int, int] = (32, 36)) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise in about [-3, 3], raised where anomalous, and masks with regions that touch at corners."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((number, *size), dtype=bool)
    for mask in masks[: number - 1]:
        for _ in range(3):
            top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
            mask[top : top + 4, left : left + 3] = True
            mask[top + 4 : top + 6, left + 3 : left + 7] = True
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 1, 1))
    return noise / noise.std() + 1.5 * ndimage.gaussian_filter(masks.astype(float), (0, 1, 1)), masks


def probability(values: np.ndarray, sharpness: float) -> np.ndarray:
    """Softmax over two classes, with the lowest values exactly 0."""
    softmax = 1 / (1 + np.exp(-sharpness * values))
    return np.where(softmax < 0.02, 0, softmax)


def bfloat16(values: np.ndarray) -> np.ndarray:
    return torch.tensor(values).bfloat16().float().numpy()


KINDS = {
    "signed": lambda values: values,
    "negative": lambda values: values - 100,
    "narrow": lambda values: 1000 + 0.001 * values / np.abs(values).max(),
    "softmax_with_zeros": lambda values: probability(values, 2),
    "decades": lambda values: 10.0 ** (8 * values),
    "signed_decades": lambda values: np.sinh(30 * values / np.abs(values).max()),
    "bfloat16": bfloat16,
    "eight_bits": lambda values: np.round(255 / (1 + np.exp(-values))) / 255,
    "saturated": lambda values: np.clip(values, -1, 1),
}


# So close to 1 that bins hold many different values: only the bound is promised.
HARD_KINDS = {"sharp_softmax": lambda values: probability(values, 5)}


def data(kind: str, **kwargs) -> tuple[np.ndarray, np.ndarray]:
    values, masks = signal(**kwargs)
    return (KINDS | HARD_KINDS)[kind](values).astype(np.float32), masks


def slow_score_metrics(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """AUROC, average precision and F1-max by scikit-learn."""
    scores, labels = np.ravel(scores), np.ravel(labels)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max()


def regions_of(masks: np.ndarray) -> list[np.ndarray]:
    """The 8-connected regions of all masks, each as indices into the stacked, flattened masks."""
    regions = []
    for number, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [number * mask.size + np.flatnonzero(labelled == region) for region in range(1, count + 1)]
    return regions


def slow_pro_curve(maps: np.ndarray, masks: np.ndarray, found_at: Iterable[np.ndarray]) -> Iterator[tuple]:
    """False-positive rate and mean overlap of the regions for each set of found pixels."""
    regions, normal = regions_of(masks), ~masks.ravel()
    for found in found_at:
        flat = found.ravel()
        yield flat[normal].mean(), float(np.mean([flat[region].mean() for region in regions]))


def slow_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """A point at every distinct value, linear in between, cut at the limit."""
    points = [(0.0, 0.0)]
    for point in slow_pro_curve(maps, masks, (maps >= threshold for threshold in np.unique(maps)[::-1])):
        points.append(point)
        if point[0] > limit:
            break
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def slow_aupro_published(maps: np.ndarray, masks: np.ndarray) -> float:
    low, high = float(maps.min()), float(maps.max())
    thresholds = np.arange(low, high, (high - low) / 200)[:200]  # rounding may give one more
    curve = slow_pro_curve(maps, masks, (maps > threshold for threshold in thresholds))
    points = sorted(point for point in curve if point[0] < 0.3)
    rates, overlaps = np.array(points).T
    rates = (rates - rates.min()) / (rates.max() - rates.min())
    return float(((rates[1:] - rates[:-1]) * (overlaps[1:] + overlaps[:-1]) / 2).sum())
