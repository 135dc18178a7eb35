# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the report: one HTML page with tables, plots and the images that the model ranks wrongly."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.catalogue import CATALOGUE
from ..data.samples import SampleReader
from ..io.atomic import atomic_write
from ..io.templates import render
from ..metrics.category import IMAGE_METRICS, Curve
from ..postprocessing_anomalyclip import draw_overlay, to_pil
from ..scoring.engine import AnomalyResult, AnomalyScorer
from .decisions import ALL, rows_by_category
from .tables import MEAN, TITLES, defined_metrics, percent, result_notes, result_rows


CURVES = {
    "image_roc": ("Images: ROC", "false-positive rate", "true-positive rate"),
    "image_pr": ("Images: precision and recall", "recall", "precision"),
    "pixel_roc": ("Pixels: ROC", "false-positive rate", "true-positive rate"),
    "pixel_pr": ("Pixels: precision and recall", "recall", "precision"),
    "pixel_pro": ("Pixels: per-region overlap", "false-positive rate", "mean overlap of regions"),
}
WORST = 3  # images shown per category and kind of mistake
PANEL_HEIGHT = 180  # px
BINS = 30  # of a score histogram
NORMAL_COLOUR, ANOMALOUS_COLOUR = "#4477aa", "#cc5544"


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Mapping[str, Curve]],
    scorer: AnomalyScorer,
    reader: SampleReader,
) -> None:
    """Write the report, one page that needs no other file and no network.

    Args:
        path (`Path`): File to write.
        summary (`Mapping`): Content of `results.json`.
        rows (`Sequence[Mapping]`): One per image, see [`EvaluationResult`].
        curves (`Mapping`): As returned by [`AnomalyDetectionMetric.curves`].
        scorer ([`AnomalyScorer`]): Scores the images that are shown once more, since maps are not kept.
        reader ([`SampleReader`]): Of the same images.
    """
    metrics, names = summary["metrics"], summary["settings"]["metrics"]
    columns = defined_metrics(metrics, names)
    page = render(
        Path(__file__).with_name("report.html"),
        autoescape=True,
        summary=summary,
        title=dataset_title(summary["dataset"]["name"]),
        titles=[TITLES[name] for name in columns],
        rows=table_rows(summary, rows, columns),
        recalls=recall_titles(summary["decisions"]),
        decisions=decision_rows(summary["thresholds"], summary["decisions"]),
        notes=result_notes(metrics, names),
        histograms=draw_histograms(rows, summary["thresholds"]),
        plots=draw_curves(curves),
        gallery=draw_gallery(find_worst(rows), summary["thresholds"], scorer, reader),
        maximum=scorer.map_maximum,
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")


def dataset_title(name: str) -> str:
    """Return the full name of a dataset of the catalogue; other names are returned as they are."""
    return CATALOGUE[name].title if name in CATALOGUE else name


def table_rows(
    summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Combine the metrics of each category with counts of images and confidence intervals.

    Returns:
        `list[dict]`: per category, and for the mean, `category`, `normal` and `anomalous` (numbers of images) and
        `cells`, each a pair of a percentage and an interval, or an empty string, as text.
    """
    intervals, entries = summary["confidence_intervals"], []
    for category, cells in result_rows(summary["metrics"], columns):
        mean = category == MEAN
        of_category = intervals if mean else intervals["per_category"][category]
        labels = [row["label"] for row in rows if row["error"] is None and (mean or row["category"] == category)]
        texts = [_interval_text(of_category[name]) if name in IMAGE_METRICS else "" for name in columns]
        cells_with_intervals = list(zip(cells, texts, strict=True))
        normal = labels.count(0)
        entries.append(
            {"category": category, "normal": normal, "anomalous": len(labels) - normal, "cells": cells_with_intervals}
        )
    if not intervals["per_category"]:
        entries[0]["category"] = ALL
    return entries


def find_worst(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Find images that are ranked wrongly: normal ones above an anomalous one, and anomalous ones below a normal one.

    Args:
        rows (`Sequence[Mapping]`): One per image, see [`EvaluationResult`].

    Returns:
        `list[dict]`: per category with such images `category`; `false_alarms`, at most three normal images with the
        highest scores, each above the score of an anomalous image; and `misses`, at most three anomalous images with
        the lowest scores, each below the score of a normal image.
    """
    found = []
    for category, of_category in rows_by_category(rows).items():
        ascending = sorted(of_category, key=lambda row: row["score"])
        kinds = [[row for row in ascending if row["label"] == label] for label in (0, 1)]
        if not all(kinds):
            continue
        normal, anomalous = kinds
        false_alarms = [row for row in reversed(normal) if row["score"] > anomalous[0]["score"]][:WORST]
        misses = [row for row in anomalous if row["score"] < normal[-1]["score"]][:WORST]
        if false_alarms or misses:
            found.append({"category": category, "false_alarms": false_alarms, "misses": misses})
    return found


def draw_gallery(
    worst: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Any], scorer: AnomalyScorer, reader: SampleReader
) -> list[dict[str, Any]]:
    """Add pictures to the images of [`find_worst`]; yellow in heat maps is the pixel threshold of their category.

    Returns:
        `list[dict]`: the same, where each image has `panels`, pairs of a label and a picture (data URL).
    """
    kinds = ("false_alarms", "misses")
    indices = [row["index"] for entry in worst for kind in kinds for row in entry[kind]]
    results = scorer.score_samples(reader, indices, keep_images=True) if indices else iter(())
    # Results come in the order of the indices.
    gallery = []
    for entry in worst:
        scale = scorer.map_maximum, thresholds[entry["category"]]["pixel"]
        drawn = {kind: [{**row, "panels": _panels(next(results), *scale)} for row in entry[kind]] for kind in kinds}
        gallery.append({**entry, **drawn})
    return gallery


def _panels(result: AnomalyResult, maximum: float, middle: float | None) -> list[tuple[str, str]]:
    if result.image is None or result.sample is None or result.anomaly_map is None:  # can no longer be read
        return []
    width = max(1, round(result.image.width * PANEL_HEIGHT / result.image.height))
    image = result.image.resize((width, PANEL_HEIGHT))
    overlay = draw_overlay(image, result.anomaly_map, maximum, middle=middle)
    panels = [("image", image), ("heat map", overlay)]
    if result.sample.label and result.sample.mask is not None:
        panels.append(("ground truth", to_pil(result.sample.mask > 0).resize((width, PANEL_HEIGHT))))
    return [(label, _data_url(panel)) for label, panel in panels]


def draw_histograms(rows: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Draw a histogram of the scores of normal and anomalous images per category.

    Returns:
        `list[tuple[str, str]]`: category and picture (data URL).
    """
    plots = []
    for category, of_category in rows_by_category(rows).items():
        scores = [[row["score"] for row in of_category if row["label"] == label] for label in (0, 1)]
        lowest, highest = min(map(min, filter(None, scores))), max(map(max, filter(None, scores)))
        figure, axes = _new_figure((3.7, 2.6))
        bins = np.linspace(lowest, highest if highest > lowest else lowest + 1e-6, BINS + 1)
        titles = [f"{len(values)} {kind}" for values, kind in zip(scores, ("normal", "anomalous"), strict=True)]
        axes.hist(scores, bins, label=titles, color=[NORMAL_COLOUR, ANOMALOUS_COLOUR])
        if (threshold := thresholds[category]["image"]) is not None:
            axes.axvline(threshold, color="black", linewidth=1, linestyle="--", label=f"best F1: {threshold:.3g}")
        axes.set(xlabel="score", ylabel="images")
        axes.legend(fontsize=7, loc="upper right")
        plots.append((category, _figure_url(figure)))
    return plots


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> list[tuple[str, str]]:
    """Draw one plot per kind of curve, with a line for each category.

    Returns:
        `list[tuple[str, str]]`: title and picture (data URL). Kinds that are defined in no category are left out.
    """
    plots = []
    for name, (title, x_label, y_label) in CURVES.items():
        lines = {category: found[name] for category, found in curves.items() if name in found}
        if not lines:
            continue
        figure, axes = _new_figure((3.7, 3.2))
        for category, (x, y) in lines.items():
            axes.plot(x, y, label=category, linewidth=1.3)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01))
        place = "lower left" if name.endswith("pr") else "lower right"
        axes.legend(fontsize=7, ncols=1 + len(lines) // 9, loc=place)
        plots.append((title, _figure_url(figure)))
    return plots


def _new_figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def recall_titles(decisions: Mapping[str, Any]) -> list[str]:
    """Return the recalls at which false alarms were counted, as text."""
    found = [entry for entry in decisions.values() if entry is not None]
    return [f"{100 * count['asked_recall']:g} %" for count in found[0]["at_recall"]] if found else []


def decision_rows(thresholds: Mapping[str, Any], decisions: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Format the thresholds of the best F1, the counts of images there, and the false-alarm rates at chosen recalls.

    Args:
        thresholds (`Mapping`): As returned by [`AnomalyDetectionMetric.thresholds`].
        decisions (`Mapping`): As returned by `decisions_of`.

    Returns:
        `list[tuple[str, list[str]]]`: category and cells of each row: both thresholds, the anomalous images found and
        missed, the false alarms, the normal images passed, and the false-alarm rate at each recall, in percent.
    """
    names = list(thresholds) if len(thresholds) != 2 else list(thresholds)[:1]  # one category is all images
    counts = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    rows = []
    for name in names:
        values = [thresholds[name][kind] for kind in ("image", "pixel")]
        cells = ["–" if value is None else f"{value:.4g}" for value in values]
        if (entry := decisions.get(name)) is None:
            cells += ["–"] * (len(counts) + len(recall_titles(decisions)))
        else:
            cells += [str(entry["best_f1"][count]) for count in counts]
            cells += [percent(count["false_alarm_rate"]) for count in entry["at_recall"]]
        rows.append((name, cells))
    return rows


def _interval_text(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def _figure_url(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return _encode(content.getvalue(), "png")


def _data_url(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=88)
    return _encode(content.getvalue(), "jpeg")


def _encode(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
