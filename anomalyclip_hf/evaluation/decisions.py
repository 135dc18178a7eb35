# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Count right and wrong decisions about images at chosen thresholds: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics.ranking import f1_threshold, rank_scores


ALL = "all images"
RECALLS = (0.9, 0.95, 1.0)


def count_decisions(scores: Any, labels: Any, threshold: float) -> dict[str, Any]:
    """Count the images on each side of a threshold; a score equal to it counts as anomalous.

    Args:
        scores (of shape `(images,)`): Finite, higher = more anomalous.
        labels (of shape `(images,)`): 0 normal, 1 anomalous.
        threshold (`float`): Score from which an image is called anomalous.

    Returns:
        `dict`: `threshold`; `true_positives`, `false_positives`, `false_negatives` and `true_negatives` (numbers of
        images); and `precision`, `recall`, `f1` and `false_alarm_rate` (share of the normal images that are called
        anomalous), each in [0, 1], or `None` where it is undefined.

    Example:
    ```python
    >>> from anomalyclip_hf.evaluation.decisions import count_decisions

    >>> counts = count_decisions([0.2, 0.6, 0.4, 0.8], [0, 0, 1, 1], threshold=0.5)
    >>> counts["true_positives"], counts["false_positives"], counts["recall"], counts["false_alarm_rate"]
    (1, 1, 0.5, 0.5)

    ```
    """
    called, actual = np.asarray(scores) >= threshold, np.asarray(labels, dtype=bool)
    found, false_alarms = int((called & actual).sum()), int((called & ~actual).sum())
    missed, passed = int((~called & actual).sum()), int((~called & ~actual).sum())
    return {
        "threshold": float(threshold),
        "true_positives": found,
        "false_positives": false_alarms,
        "false_negatives": missed,
        "true_negatives": passed,
        "precision": _share(found, found + false_alarms),
        "recall": _share(found, found + missed),
        "f1": _share(2 * found, 2 * found + false_alarms + missed),
        "false_alarm_rate": _share(false_alarms, false_alarms + passed),
    }


def recall_threshold(scores: Any, labels: Any, recall: float) -> float:
    """Return the highest threshold that finds at least a share of the anomalous images.

    Args:
        scores (of shape `(images,)`): Finite, higher = more anomalous.
        labels (of shape `(images,)`): 0 normal, 1 anomalous; at least one is 1.
        recall (`float`): Share of the anomalous images to find, in (0, 1].

    Returns:
        `float`: the score of an anomalous image.

    Example:
    ```python
    >>> from anomalyclip_hf.evaluation.decisions import recall_threshold

    >>> recall_threshold([0.2, 0.6, 0.4, 0.8, 0.9], [0, 0, 1, 1, 1], recall=0.6)
    0.8

    ```
    """
    anomalous = np.sort(np.asarray(scores, dtype=np.float64)[np.asarray(labels, dtype=bool)])[::-1]
    return float(anomalous[int(np.ceil(recall * len(anomalous) - 1e-9)) - 1])


def decisions_of(
    rows: Sequence[Mapping[str, Any]], recalls: Sequence[float] = RECALLS
) -> dict[str, dict[str, Any] | None]:
    """Count decisions at the threshold of the best F1 and at chosen recalls, per category and for all images together.

    Args:
        rows (`Sequence[Mapping]`): One per image, see [`EvaluationResult`].
        recalls (`Sequence[float]`, *optional*): Shares of the anomalous images to find, each in (0, 1].

    Returns:
        `dict`: by category, and for `"all images"`, `best_f1` as [`count_decisions`] returns it, and `at_recall`, a
        list of the same for each recall; `None` without images of both kinds.
    """
    groups = rows_by_category(rows)
    groups.pop(ALL, None)  # images without a category
    groups[ALL] = [row for row in rows if row["error"] is None]
    return {name: _decisions(group, recalls) for name, group in groups.items()}


def rows_by_category(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group the scored images by category, in alphabetical order; those without a category are `"all images"`."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["error"] is None:
            groups.setdefault(row["category"] or ALL, []).append(row)
    return dict(sorted(groups.items()))


def _decisions(rows: Sequence[Mapping[str, Any]], recalls: Sequence[float]) -> dict[str, Any] | None:
    scores, labels = np.array([row["score"] for row in rows]), np.array([row["label"] for row in rows])
    best = f1_threshold(*rank_scores(scores, labels)) if rows else None
    if best is None:
        return None
    thresholds = [recall_threshold(scores, labels, recall) for recall in recalls]
    at_recall = [
        {"asked_recall": recall, **count_decisions(scores, labels, threshold)}
        for recall, threshold in zip(recalls, thresholds, strict=True)
    ]
    return {"best_f1": count_decisions(scores, labels, best), "at_recall": at_recall}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


__all__ = ["RECALLS", "count_decisions", "decisions_of", "recall_threshold"]
