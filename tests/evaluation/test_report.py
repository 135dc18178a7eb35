# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from anomalyclip_hf.evaluation.report import dataset_title, decision_rows, find_worst, recall_titles
from anomalyclip_hf.evaluation.tables import TITLES


def make_row(index: int, label: int, score: float | None, category: str | None = "bolt") -> dict:
    error = "unreadable" if score is None else None
    return {"index": index, "label": label, "score": score, "category": category, "error": error}


def indices(rows) -> list[int]:
    return [row["index"] for row in rows]


def test_only_images_on_the_wrong_side_are_shown():
    normal, anomalous = [0.1, 0.2, 0.55, 0.7], [0.5, 0.6, 0.9]
    rows = [make_row(index, 0, score) for index, score in enumerate(normal)]
    rows += [make_row(10 + index, 1, score) for index, score in enumerate(anomalous)]
    rows += [make_row(20, 0, None), make_row(21, 0, 0.1, "nut"), make_row(22, 1, 0.2, "nut")]
    (bolt,) = find_worst(rows)  # the nuts are ranked correctly
    assert bolt["category"] == "bolt"
    assert indices(bolt["false_alarms"]) == [3, 2]
    assert indices(bolt["misses"]) == [10, 11]


def test_at_most_three_images_of_a_kind_are_shown():
    rows = [make_row(index, 0, 0.5 + index / 100, None) for index in range(9)]
    rows += [make_row(10 + index, 1, index / 100, None) for index in range(9)]
    (everything,) = find_worst(rows)
    assert everything["category"] == "all images"
    assert indices(everything["false_alarms"]) == [8, 7, 6]
    assert indices(everything["misses"]) == [10, 11, 12]


def test_equal_scores_and_a_single_kind_are_not_wrong():
    assert find_worst([make_row(0, 0, 0.5), make_row(1, 1, 0.5)]) == []
    assert find_worst([make_row(0, 1, 0.5), make_row(1, 1, 0.4)]) == []


def test_titles_of_datasets():
    assert dataset_title("mvtec") == "MVTec AD"
    assert dataset_title("ball_screw") == "ball_screw"


class Page(HTMLParser):
    """Collect the tags and texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def name() -> str:
    return "<script>alert(1)</script>"


def test_the_page_needs_no_other_file(tmp_path, evaluate, name):
    result = evaluate(output_dir=tmp_path, dataset_name=name)
    page = Page((tmp_path / "report.html").read_text())
    assert not any(tag == "script" for tag, _ in page.tags)
    assert name in page.texts
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    pictures = [re.fullmatch(r"data:image/(?:png|jpeg);base64,([^\"]+)", source).group(1) for source in sources]
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()
    worst = find_worst(result.rows)
    panels = sum(2 * len(entry["false_alarms"]) + 3 * len(entry["misses"]) for entry in worst)
    assert len(pictures) == 2 + 5 + panels  # histograms of two categories and curves
    assert panels > 0
    labels = [page.texts.count(label) for label in ("image", "heat map", "ground truth")]
    assert labels[0] == labels[1] == sum(len(entry["false_alarms"]) + len(entry["misses"]) for entry in worst)
    assert labels[2] == sum(len(entry["misses"]) for entry in worst)
    for text in (*TITLES.values(), "bolt", "nut", "Mean"):
        assert text in page.texts
    low, high = result.summary["confidence_intervals"]["image_auroc"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in page.texts
    assert {"found", "missed", "false alarms", "passed", "90 %", "95 %", "100 %"} <= set(page.texts)


def test_rows_of_decisions(evaluate):
    summary = evaluate(metrics=["image_auroc"]).summary
    (name, cells), *others = decision_rows(summary["thresholds"], summary["decisions"])
    counts = summary["decisions"]["bolt"]["best_f1"]
    assert (name, [row for row, _ in others]) == ("bolt", ["nut", "all images"])
    assert cells[1] == "–"  # pixels were not counted
    assert cells[2:6] == [
        str(number)
        for number in (
            counts["true_positives"],
            counts["false_negatives"],
            counts["false_positives"],
            counts["true_negatives"],
        )
    ]
    assert len(cells) == 6 + len(recall_titles(summary["decisions"]))
    one_kind = decision_rows({"bolt": {"image": None, "pixel": None}}, {"bolt": None})
    assert one_kind == [("bolt", ["–"] * 6)]


def test_columns_without_values_are_left_out(tmp_path, evaluate, parts_folder):
    for path in parts_folder.rglob("*_mask.png"):
        path.unlink()
    evaluate(output_dir=tmp_path)
    texts = Page((tmp_path / "report.html").read_text()).texts
    assert "image AUROC" in texts
    assert not {"pixel AUROC", "AUPRO", "AUPRO pub."} & set(texts)
    assert any("no mask" in text for text in texts)
