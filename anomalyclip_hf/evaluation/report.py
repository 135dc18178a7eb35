# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""One self-contained HTML page: table, curves, and the images on which the model was most wrong."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..io.atomic import atomic_write
from ..io.templates import render
from ..metrics.category import METRICS, Curve
from ..postprocessing_anomalyclip import draw_overlay, to_pil
from .scoring import Evaluation, Example, Scorer


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
CURVES = {
    "image_roc": ("Images: ROC", "false-positive rate", "true-positive rate"),
    "image_pr": ("Images: precision and recall", "recall", "precision"),
    "pixel_roc": ("Pixels: ROC", "false-positive rate", "true-positive rate"),
    "pixel_pr": ("Pixels: precision and recall", "recall", "precision"),
    "pixel_pro": ("Pixels: per-region overlap", "false-positive rate", "mean overlap of regions"),
}
WORST = 3  # false alarms and misses of each category
GALLERY_HEIGHT = 180  # px
MEAN = "Mean"


def result_rows(result: Mapping[str, Any], metrics: list[str]) -> list[tuple[str, list[str]]]:
    """The table as the paper prints it: percent with one digit, a row a category, the mean last.

    Args:
        result (`Mapping`): Of [`AnomalyDetectionMetric.compute`].
        metrics (`list[str]`): Names of the columns, of `TITLES`.

    Returns:
        `list[tuple[str, list[str]]]`: name and cells; a dash where a figure is undefined.
    """

    def cells(values: Mapping[str, float | None]) -> list[str]:
        return ["–" if (value := values[name]) is None else f"{100 * value:.1f}" for name in metrics]

    rows = [(category, cells(values)) for category, values in result["per_category"].items()]
    return [*rows, (MEAN, cells(result))]


def result_notes(result: Mapping[str, Any], metrics: list[str]) -> list[str]:
    """Why figures are missing or say nothing, each reason in one line."""
    places: dict[tuple[str, str], list[str]] = {}
    for name, notes in result["notes"].items():
        if name in metrics or name not in METRICS:
            for category, note in notes.items():
                places.setdefault((category, note), []).append(TITLES.get(name, name))
    return [f"{category}: {note} ({', '.join(names)})" for (category, note), names in places.items()]


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    metrics: list[str],
    curves: Mapping[str, Mapping[str, Curve]],
    evaluation: Evaluation,
    scorer: Scorer,
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        path (`Path`): Where.
        summary (`Mapping`): What `results.json` holds.
        metrics (`list[str]`): Columns of the table.
        curves (`Mapping`): Of [`AnomalyDetectionMetric.curves`].
        evaluation ([`Evaluation`]): All that was scored.
        scorer ([`Scorer`]): To score the worst images once more, since maps are not kept.
    """
    page = render(
        Path(__file__).with_name("report.html"),
        autoescape=True,
        summary=summary,
        titles=[TITLES[name] for name in metrics],
        rows=result_rows(summary["metrics"], metrics),
        notes=result_notes(summary["metrics"], metrics),
        plots=draw_curves(curves),
        gallery=draw_gallery(evaluation, scorer),
    )
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> list[tuple[str, str]]:
    """One plot a kind of curve, with a line for each category.

    Returns:
        `list[tuple[str, str]]`: title and picture as a data URL; kinds that are defined nowhere are absent.
    """
    from matplotlib.figure import Figure

    plots = []
    for name, (title, x_label, y_label) in CURVES.items():
        lines = {category: found[name] for category, found in curves.items() if name in found}
        if not lines:
            continue
        figure = Figure(figsize=(5, 4.2), dpi=110, layout="constrained")
        axes = figure.subplots()
        for category, (x, y) in lines.items():
            axes.plot(x, y, label=category, linewidth=1.3)
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, ncols=1 + len(lines) // 9)
        content = io.BytesIO()
        figure.savefig(content, format="png")
        plots.append((title, _data_url(content.getvalue())))
    return plots


def draw_gallery(evaluation: Evaluation, scorer: Scorer) -> list[dict[str, Any]]:
    """Pictures of the normal images with the highest scores and the anomalous ones with the lowest.

    Returns:
        `list[dict]`: by category `category`, `false_alarms` and `misses`, each a list of `path`, `defect_type`,
        `score` and `picture` (a data URL: image, heat map, mask).
    """
    scored = sorted((row for row in evaluation.rows if row["score"] is not None), key=lambda row: row["index"])
    gallery = []
    for category in sorted({row["category"] for row in scored}):
        of_category = sorted((row for row in scored if row["category"] == category), key=lambda row: row["score"])
        misses = [row for row in of_category if row["label"]][:WORST]
        false_alarms = [row for row in reversed(of_category) if not row["label"]][:WORST]
        entry = {"misses": _pictures(misses, scorer), "false_alarms": _pictures(false_alarms, scorer)}
        gallery.append({"category": category, **entry})
    return gallery


def _pictures(rows: list[dict[str, Any]], scorer: Scorer) -> list[dict[str, Any]]:
    entries = []
    for row in rows:
        example = scorer.read(row["index"])
        anomaly_map = scorer.predict([example])[0]["anomaly_map"]
        size = (example.image.height, example.image.width)
        if anomaly_map.shape != size:
            anomaly_map = torch.nn.functional.interpolate(anomaly_map[None, None], size=size, mode="bilinear")[0, 0]
        content = io.BytesIO()
        overlay = draw_overlay(example.image, anomaly_map, scorer.processor.map_maximum)
        _side_by_side(example, overlay).save(content, format="PNG")
        entries.append({**row, "picture": _data_url(content.getvalue())})
    return entries


def _side_by_side(example: Example, overlay: Image.Image) -> Image.Image:
    """Image, heat map and, of an anomalous image, its mask."""
    panels = [example.image, overlay]
    if example.mask is not None and example.mask.any():
        panels.append(to_pil(example.mask).convert("RGB"))
    width = max(1, round(example.image.width * GALLERY_HEIGHT / example.image.height))
    return Image.fromarray(np.hstack([np.asarray(panel.resize((width, GALLERY_HEIGHT))) for panel in panels]))


def _data_url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
