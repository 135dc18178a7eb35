# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.cli.evaluate import Metric
from anomalyclip_hf.evaluation.tables import TITLES, defined_metrics, result_notes, result_rows
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
        "masks": {"bolt": "one mask is empty"},
    },
}


def test_rows_are_in_percent_with_the_mean_last():
    rows = result_rows(RESULT, ["image_auroc", "pixel_auroc"])
    assert rows == [("skin", ["–", "–"]), ("bolt", ["91.5", "100.0"]), ("Mean", ["91.5", "–"])]


def test_a_single_category_has_no_mean():
    single = RESULT | {"per_category": {"bolt": RESULT["per_category"]["bolt"]}}
    assert result_rows(single, ["image_auroc"]) == [("bolt", ["91.5"])]
    assert result_rows(RESULT | {"per_category": {}}, ["image_auroc"]) == [("Mean", ["91.5"])]


def test_metrics_without_a_value_are_left_out():
    assert defined_metrics(RESULT) == ["image_auroc", "pixel_auroc"]
    assert defined_metrics(RESULT | {"per_category": {}}) == ["image_auroc"]
    assert defined_metrics(RESULT, ["pixel_auroc", "pixel_ap"]) == ["pixel_auroc"]


def test_notes_name_category_reason_and_metrics():
    masks = "bolt: one mask is empty (masks)"
    assert result_notes(RESULT, ["image_auroc", "image_ap"]) == [
        "skin: no normal images (image AUROC, image AP)",
        masks,
    ]
    assert result_notes(RESULT, ["pixel_auroc"]) == [masks]


def test_every_metric_has_a_title_and_an_option():
    assert tuple(TITLES) == METRICS == tuple(Metric)
