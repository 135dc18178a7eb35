# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import re

from PIL import Image

from anomalyclip_hf.cli.evaluate import Metric
from anomalyclip_hf.evaluation.evaluating import run, write_results
from anomalyclip_hf.evaluation.report import TITLES, draw_gallery, result_notes, result_rows
from anomalyclip_hf.metrics.category import METRICS


RESULT = {
    "image_auroc": 0.91549,
    "pixel_auroc": None,
    "per_category": {
        "skin": {"image_auroc": None, "pixel_auroc": None},
        "bolt": {"image_auroc": 0.91549, "pixel_auroc": 1.0},
    },
    "notes": {
        "image_auroc": {"skin": "no normal images"},
        "image_ap": {"skin": "no normal images"},
        "masks": {"bolt": "anomalous images with an empty mask: 1"},
    },
}


def test_rows_are_the_papers():
    rows = result_rows(RESULT, ["image_auroc", "pixel_auroc"])
    assert rows == [("skin", ["–", "–"]), ("bolt", ["91.5", "100.0"]), ("Mean", ["91.5", "–"])]


def test_notes_name_category_reason_and_figures():
    assert result_notes(RESULT, ["image_auroc", "image_ap"]) == [
        "skin: no normal images (image AUROC, image AP)",
        "bolt: anomalous images with an empty mask: 1 (masks)",
    ]
    assert result_notes(RESULT, ["pixel_auroc"]) == ["bolt: anomalous images with an empty mask: 1 (masks)"]


def test_the_gallery_shows_the_worst(tmp_path, make_scorer):
    scorer = make_scorer()
    evaluation = run(scorer, tmp_path, show_progress=False)
    bolt, nut = draw_gallery(evaluation, scorer)
    assert (bolt["category"], nut["category"]) == ("bolt", "nut")
    scores = {
        label: [row["score"] for row in evaluation.rows if row["category"] == "nut" and row["label"] == label]
        for label in (0, 1)
    }
    assert [row["score"] for row in nut["false_alarms"]] == sorted(scores[0], reverse=True)[:3]
    assert [row["score"] for row in nut["misses"]] == sorted(scores[1])[:3]


def test_the_page_needs_nothing_else(tmp_path, make_scorer):
    scorer = make_scorer()
    evaluation = run(scorer, tmp_path, show_progress=False)
    description = {
        "model": "<script>alert(1)</script>",
        "dataset": {"name": "parts", "split": "test", "description": "two"},
    }
    write_results(tmp_path, evaluation, scorer, list(TITLES), **description, settings={"resolution": "model"})
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page  # what users name is escaped
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 5 + 2 * 6  # curves, and three false alarms and misses of two parts
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()
    for title in (*TITLES.values(), "bolt", "nut", "Mean"):
        assert title in page


def test_every_figure_has_a_title_and_an_option():
    assert tuple(TITLES) == METRICS == tuple(Metric)
