# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables of metrics as text, for the terminal, the report and the model card."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..metrics.category import METRICS


TITLES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1",
    "pixel_aupro": "AUPRO",
    "pixel_aupro_published": "AUPRO pub.",
}
MEAN = "Mean"


def defined_metrics(result: Mapping[str, Any], names: Iterable[str] = METRICS) -> list[str]:
    """Return the names of the metrics that have a value in any category.

    Args:
        result (`Mapping`): As returned by [`AnomalyDetectionMetric.compute`].
        names (`Iterable[str]`, *optional*): Metrics to choose from; defaults to all.
    """
    everything = [*result["per_category"].values(), result]
    return [name for name in names if any(values.get(name) is not None for values in everything)]


def result_rows(result: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Format metrics as the paper does: percent with one digit, a row per category, the mean last.

    The mean of a single category is left out.

    Args:
        result (`Mapping`): As returned by [`AnomalyDetectionMetric.compute`].
        names (`Sequence[str]`): Metrics of the columns, keys of `TITLES`.

    Returns:
        `list[tuple[str, list[str]]]`: category and cells of each row; undefined values are a dash.

    Example:
    ```python
    >>> from anomalyclip_hf.evaluation.tables import result_rows

    >>> per_category = {"bolt": {"image_auroc": 0.9155}, "nut": {"image_auroc": None}}
    >>> result_rows({"image_auroc": 0.9155, "per_category": per_category}, ["image_auroc"])
    [('bolt', ['91.5']), ('nut', ['–']), ('Mean', ['91.5'])]

    ```
    """
    rows = [
        (category, [percent(values[name]) for name in names]) for category, values in result["per_category"].items()
    ]
    return rows if len(rows) == 1 else [*rows, (MEAN, [percent(result[name]) for name in names])]


def result_notes(result: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Explain in one line each why metrics are undefined or meaningless.

    Args:
        result (`Mapping`): As returned by [`AnomalyDetectionMetric.compute`].
        names (`Iterable[str]`): Metrics of interest. Notes about masks are always included.
    """
    chosen = set(names)
    places: dict[tuple[str, str], list[str]] = {}
    for name, notes in result["notes"].items():
        if name in chosen or name not in METRICS:
            for category, note in notes.items():
                places.setdefault((category, note), []).append(TITLES.get(name, name))
    return [f"{category}: {note} ({', '.join(titles)})" for (category, note), titles in places.items()]


def percent(value: float | None) -> str:
    """Format a fraction as percent with one digit, or as a dash if it is `None`."""
    return "–" if value is None else f"{100 * value:.1f}"


__all__ = ["MEAN", "TITLES", "defined_metrics", "percent", "result_notes", "result_rows"]
