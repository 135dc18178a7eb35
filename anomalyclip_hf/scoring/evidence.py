# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Turn the distance to normal references into evidence, and add it to the scores of the text prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..postprocessing_anomalyclip import resize_map


# The unit of all distances here is the mean distance between two random patches of the references.
ANOMALOUS = 0.5  # expected distance of an anomaly: half the distance between random patches
ONE_REFERENCE = 0.4  # expected distance of a normal image if there is a single reference
DEVIATION, DEVIATION_COUNT = 0.15, 4  # prior of the deviation, and the number of references that it counts as
LEAST_DEVIATION = 0.05  # about what 32 equal references give; images taken at one time vary less than those to come
TEXT_SCALE = 4.0  # log-odds of the text prompts are about this factor too small; the evidence is divided by it too
TOP_SHARE = 0.02  # the distance of an image is the mean over this share of its patches, the most distant ones


@dataclass(frozen=True)
class ReferenceEvidence:
    """Turn distances to the references into evidence for or against an anomaly, without any label.

    Distances of normal images are assumed to be normally distributed like those of held-out references, and distances
    of anomalies to be normally distributed around `ANOMALOUS` with the same deviation. The evidence is the logarithm
    of the ratio of the two densities. It is zero if held-out references are as far away as an anomaly would be.

    Args:
        normal (`float`): Mean distance of normal images.
        deviation (`float`): Its standard deviation.

    Example:
    ```python
    >>> from anomalyclip_hf.scoring.evidence import ReferenceEvidence

    >>> alike = ReferenceEvidence.from_held_out([0.1, 0.12, 0.09, 0.11])
    >>> [round(float(value), 2) for value in alike([0.1, 0.3, 0.5, 0.9])]
    [-1.55, -0.02, 1.51, 1.51]
    >>> unlike = ReferenceEvidence.from_held_out([0.5, 0.7, 0.6, 0.9])
    >>> unlike.weight
    0.0

    ```
    """

    normal: float
    deviation: float

    @classmethod
    def from_held_out(cls, distances: Sequence[float]) -> "ReferenceEvidence":
        """Estimate both values from references, each compared with all others.

        The deviation is at least `LEAST_DEVIATION`, since images of one series differ less from each other than from
        later images.

        Args:
            distances (`Sequence[float]`): Distance of each held-out image; empty for a single reference.
        """
        if not len(distances):
            return cls(ONE_REFERENCE, DEVIATION)
        mean = float(np.mean(distances))
        squares = DEVIATION_COUNT * DEVIATION**2 + float(np.sum((np.asarray(distances) - mean) ** 2))
        deviation = (squares / (DEVIATION_COUNT + len(distances) - 1)) ** 0.5
        return cls(mean, max(deviation, LEAST_DEVIATION))

    @property
    def weight(self) -> float:
        """Change of the log-odds per unit of distance; 0 if the references do not help."""
        return max(0.0, ANOMALOUS - self.normal) / self.deviation**2 / TEXT_SCALE

    @property
    def neutral(self) -> float:
        """Distance that changes nothing: halfway between those of normal images and of anomalies."""
        return (ANOMALOUS + self.normal) / 2

    def __call__(self, distances: np.ndarray | Sequence[float]) -> np.ndarray:
        """Compute the change of the log-odds; distances above `ANOMALOUS` count as `ANOMALOUS`."""
        return self.weight * (np.minimum(distances, ANOMALOUS) - self.neutral)


def image_distances(distances: np.ndarray) -> np.ndarray:
    """Average the largest patch distances of each image.

    Args:
        distances (`np.ndarray` of shape `(batch_size, num_patches)`): Distance of each patch.

    Returns:
        `np.ndarray` of shape `(batch_size,)`
    """
    count = max(1, int(TOP_SHARE * distances.shape[1]))
    return np.partition(distances, -count, axis=1)[:, -count:].mean(1)


def shift_odds(probabilities: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """Add to the log-odds of probabilities, element by element; the results stay in [0, 1]."""
    with np.errstate(divide="ignore"):  # probabilities of 0 and 1 stay what they are
        logits = np.log(probabilities) - np.log1p(-probabilities) + log_odds
    small = np.exp(-np.abs(logits))  # never overflows
    return (np.where(logits < 0, small, 1) / (1 + small)).astype(np.float32)


def add_evidence(
    image_scores: np.ndarray,
    anomaly_maps: np.ndarray,
    evidence: ReferenceEvidence,
    distances: np.ndarray,
    grids: np.ndarray,
    map_maximum: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Add the evidence of distances to the scores and maps of the text prompts.

    Args:
        image_scores (`np.ndarray` of shape `(batch_size,)`): Probability of abnormal.
        anomaly_maps (`np.ndarray` of shape `(batch_size, height, width)`): Smoothed.
        evidence ([`ReferenceEvidence`]): Turns distances into evidence.
        distances (`np.ndarray` of shape `(batch_size,)`): Distance of each image.
        grids (`np.ndarray` of shape `(batch_size, rows, columns)`): Distance of each patch.
        map_maximum (`float`): Largest value that a map can have.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: scores and maps, in the same ranges.
    """
    if not (np.isfinite(distances).all() and np.isfinite(grids).all()):
        return np.full_like(image_scores, np.nan), anomaly_maps  # the caller names the images
    if not evidence.weight:
        return image_scores, anomaly_maps
    size = anomaly_maps.shape[1:]
    log_odds = np.stack([resize_map(grid, size) for grid in evidence(grids).astype(np.float32)])
    maps = shift_odds(anomaly_maps / map_maximum, log_odds) * np.float32(map_maximum)
    return shift_odds(image_scores, evidence(distances)), maps


__all__ = ["ReferenceEvidence", "add_evidence", "image_distances", "shift_odds"]
