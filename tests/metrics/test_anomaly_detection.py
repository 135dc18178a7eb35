# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import pickle
import subprocess
import sys

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from slow_metrics import data, slow_aupro, slow_score_metrics

from anomalyclip_hf.metrics import AnomalyDetectionMetric
from anomalyclip_hf.metrics.category import METRICS


CATEGORIES = ["bottle", "screw", "bottle", "screw", "screw", "bottle", "screw", "bottle"]


def batch(categories: list[str] | None = CATEGORIES) -> dict:
    """Eight images, of each category two normal and two anomalous."""
    maps, masks = data("signed", number=8)
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    masks[4:] = False
    scores = np.array([0.9, 0.4, 0.3, 0.8, 0.1, 0.35, 0.5, 0.2])
    return {"image_scores": scores, "labels": labels, "anomaly_maps": maps, "masks": masks, "categories": categories}


def part(whole: dict, indices) -> dict:
    return {name: None if column is None else [column[index] for index in indices] for name, column in whole.items()}


def assert_close(result: dict, expected: dict) -> None:
    """Compare keys, notes and, up to rounding, metrics."""
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_close(result[name], value)
        else:
            assert result[name] == (value if isinstance(value, (str, type(None))) else pytest.approx(value, abs=1e-12))


def test_means_over_categories():
    whole = batch()
    metric = AnomalyDetectionMetric()
    metric.add_batch(**whole)
    result = metric.compute()
    rows = []
    for category in ("bottle", "screw"):
        one = part(whole, [index for index, name in enumerate(CATEGORIES) if name == category])
        maps, masks = np.stack(one["anomaly_maps"]), np.stack(one["masks"])
        images, pixels = slow_score_metrics(one["image_scores"], one["labels"]), slow_score_metrics(maps, masks)
        rows.append([*images, *pixels, slow_aupro(maps, masks, 0.3)])
        metrics = [result["per_category"][category][name] for name in METRICS[:-1]]
        assert metrics[:3] == pytest.approx(images, abs=1e-13)
        assert metrics == pytest.approx(rows[-1], abs=1e-4)
    assert [result[name] for name in METRICS[:-1]] == pytest.approx(np.mean(rows, axis=0), abs=1e-4)
    bounds = [metrics["pixel_error_bound"] for metrics in result["per_category"].values()]
    assert result["pixel_error_bound"] == max(bounds) < 1e-3
    assert result["notes"] == {}
    assert json.loads(json.dumps(result)) == result


def test_without_categories_all_images_are_one():
    whole = batch(categories=None)
    metric = AnomalyDetectionMetric(aupro_limit=0.1)
    result = metric.compute(**whole)
    assert result["image_auroc"] == pytest.approx(slow_score_metrics(whole["image_scores"], whole["labels"])[0])
    assert result["pixel_aupro"] == pytest.approx(slow_aupro(whole["anomaly_maps"], whole["masks"], 0.1), abs=1e-4)
    assert result["per_category"] == {}


def test_compute_resets_the_counts():
    metric = AnomalyDetectionMetric()
    first = metric.compute(**batch())
    assert len(metric) == 0
    with pytest.raises(ValueError, match="add_batch"):
        metric.compute()
    metric.add_batch(**batch())
    assert len(metric) == 8
    assert metric.compute() == first


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_input_types(dtype):
    whole = batch()
    whole["anomaly_maps"] = torch.tensor(whole["anomaly_maps"]).to(dtype).float().numpy()
    whole["image_scores"] = torch.tensor(whole["image_scores"]).to(dtype).double().numpy()
    expected = AnomalyDetectionMetric().compute(**whole)
    tensors = {
        "image_scores": torch.tensor(whole["image_scores"], requires_grad=True).to(dtype),
        "labels": torch.tensor(whole["labels"]),
        "anomaly_maps": torch.tensor(whole["anomaly_maps"], requires_grad=True).to(dtype),
        "masks": torch.tensor(whole["masks"]).to(dtype),
    }
    lists = {
        "image_scores": list(tensors["image_scores"].detach()),
        "labels": whole["labels"].astype(bool).tolist(),
        "anomaly_maps": [Image.fromarray(values) for values in whole["anomaly_maps"]],
        "masks": [(mask * 255).astype(np.uint8) for mask in whole["masks"]],
    }
    for inputs in (tensors, lists):
        assert AnomalyDetectionMetric().compute(**inputs, categories=CATEGORIES) == expected


def test_images_one_by_one_and_of_different_sizes():
    whole = batch()
    whole["anomaly_maps"] = [values[: 20 + index] for index, values in enumerate(whole["anomaly_maps"])]
    whole["masks"] = [mask[: 20 + index] if mask.any() else None for index, mask in enumerate(whole["masks"])]
    expected = AnomalyDetectionMetric().compute(**whole)
    metric = AnomalyDetectionMetric()
    singular = ("image_score", "label", "anomaly_map", "mask", "category")
    for index in (3, 0, 7, 1, 2, 6, 5, 4):
        metric.add(**dict(zip(singular, (column[index] for column in whole.values()), strict=True)))
    assert_close(metric.compute(), expected)
    assert expected["notes"] == {}


def test_processes_give_the_result_of_one(tmp_path):
    expected = AnomalyDetectionMetric().compute(**batch())
    parts = [part(batch(), indices) for indices in ([6, 0, 3], [7], [1, 5, 4, 2])]
    (tmp_path / "part").write_bytes(pickle.dumps(parts[0]))
    program = """
import pickle, sys
import anomalyclip_hf.metrics as metrics
metrics.PixelCounts()
assert "evaluate" not in sys.modules  # it is slow to import
metric = metrics.AnomalyDetectionMetric()
assert "evaluate" in sys.modules
with open(sys.argv[1], "rb") as file:
    metric.add_batch(**pickle.load(file))
sys.stdout.buffer.write(pickle.dumps(metric))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "part")]
    metrics = [pickle.loads(subprocess.run(command, check=True, capture_output=True).stdout)]
    for other in parts[1:]:
        metrics.append(AnomalyDetectionMetric())
        metrics[-1].add_batch(**other)
    merged = AnomalyDetectionMetric()
    for metric in metrics:
        merged.merge(metric)
    assert [len(metric) for metric in metrics] == [3, 1, 4]
    assert_close(merged.compute(), expected)


@pytest.mark.parametrize("categories", [CATEGORIES, None])
def test_pickle_and_state_keep_everything(categories, tmp_path):
    metric = AnomalyDetectionMetric(aupro_limit=0.2)
    metric.add_batch(**batch(categories))
    metric.add(image_score=0.5, label=1, anomaly_map=np.eye(3), mask=None, category=categories and "screw")
    metric.add(image_score=0.6, label=1, anomaly_map=np.eye(3), mask=np.zeros((3, 3)), category=categories and "nut")
    np.savez(tmp_path / "progress.npz", **metric.state())
    with np.load(tmp_path / "progress.npz", allow_pickle=False) as file:
        copies = [AnomalyDetectionMetric.from_state(file), pickle.loads(pickle.dumps(metric))]
    assert len(pickle.dumps(metric)) < 500_000
    expected = metric.compute()
    assert expected["notes"]["masks"]
    for copy in copies:
        assert copy.compute() == expected


def test_merging_metrics_of_different_settings_is_refused():
    metric, other = AnomalyDetectionMetric(), AnomalyDetectionMetric(aupro_limit=0.1)
    with pytest.raises(ValueError, match="aupro_limit"):
        metric.merge(other)
    metric.add(image_score=0, label=0)
    with pytest.raises(ValueError, match="categories"):
        metric.add(image_score=0, label=0, category="nut")
    assert len(metric) == 1
    other = AnomalyDetectionMetric()
    other.add(image_score=0, label=0, category="nut")
    with pytest.raises(ValueError, match="categories"):
        metric.merge(other)
    for limit in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="aupro_limit"):
            AnomalyDetectionMetric(aupro_limit=limit)


def test_undefined_metrics_have_a_note_and_are_left_out_of_the_mean():
    maps, masks = data("signed", number=2)
    metric = AnomalyDetectionMetric()
    metric.add_batch(**batch())
    expected = metric.compute()
    metric.add_batch(**batch())
    for category, label in (("all_normal", 0), ("all_anomalous", 1)):
        mask = np.full(maps[0].shape, label)
        metric.add_batch(
            image_scores=[0, 1], labels=[label] * 2, anomaly_maps=maps, masks=[mask] * 2, categories=[category] * 2
        )
    metric.add_batch(image_scores=[0.1, 0.9], labels=[0, 1], categories=["without_maps"] * 2)
    result = metric.compute()
    assert result["image_auroc"] == pytest.approx((2 * expected["image_auroc"] + 1) / 3)
    assert {name: result[name] for name in METRICS[3:]} == {name: expected[name] for name in METRICS[3:]}
    images = {"all_normal": "no anomalous images", "all_anomalous": "no normal images"}
    pixels = {"all_normal": "no anomalous pixels", "all_anomalous": "no normal pixels"}
    pixels["without_maps"] = "no anomaly maps"
    assert result["notes"] == {name: images if name in METRICS[:3] else pixels for name in METRICS}
    for name in METRICS[:3]:
        assert result["per_category"]["all_normal"][name] is None
        assert result["per_category"]["all_anomalous"][name] is None
    for category in pixels:
        undefined = [result["per_category"][category][name] for name in (*METRICS[3:], "pixel_error_bound")]
        assert undefined == [None] * 6


def test_metrics_undefined_in_every_category_are_none():
    result = AnomalyDetectionMetric().compute(image_scores=[0.1, 0.2], labels=[0, 0])
    assert [result[name] for name in (*METRICS, "pixel_error_bound")] == [None] * 9
    assert result["notes"]["image_ap"] == {"all images": "no anomalous images"}
    assert result["notes"]["pixel_aupro"] == {"all images": "no anomaly maps"}


def test_equal_scores_are_chance_with_a_note():
    masks = np.zeros((2, 4, 4))
    masks[1, 0] = 1
    result = AnomalyDetectionMetric().compute(
        image_scores=[0.5, 0.5], labels=[0, 1], anomaly_maps=np.full((2, 4, 4), -2.0), masks=masks
    )
    assert (result["image_auroc"], result["pixel_auroc"]) == (0.5, 0.5)
    assert result["pixel_aupro"] == pytest.approx(0.15)
    assert result["pixel_aupro_published"] is None
    assert result["pixel_error_bound"] == 0
    assert result["notes"] == {
        name: {"all images": "all scores are equal" if name in METRICS[:3] else "all map values are equal"}
        for name in METRICS
    }


def test_published_aupro_without_a_curve_is_none():
    maps, masks = np.zeros((1, 10, 10)), np.zeros((1, 10, 10))
    maps[0, 0, :5] = masks[0, 0, :5] = 1
    result = AnomalyDetectionMetric().compute(image_scores=[1], labels=[1], anomaly_maps=maps, masks=masks)
    assert result["pixel_aupro"] == 1
    assert result["pixel_aupro_published"] is None
    assert result["notes"]["pixel_aupro_published"] == {
        "all images": "fewer than two different false-positive rates below 0.3 at the 200 thresholds"
    }


def test_images_with_empty_or_missing_masks_are_left_out_of_the_pixel_metrics():
    whole = batch(categories=None)
    expected = AnomalyDetectionMetric().compute(**whole)
    rng = np.random.default_rng(4)
    extra = {"image_scores": [0.7, 0.6], "labels": [1, 1], "anomaly_maps": rng.normal(size=(2, 32, 36))}
    metric = AnomalyDetectionMetric()
    metric.add_batch(**whole)
    metric.add_batch(**extra, masks=[None, None])
    missing = metric.compute()
    assert {name: missing[name] for name in METRICS[3:]} == {name: expected[name] for name in METRICS[3:]}
    assert missing["image_ap"] != expected["image_ap"]
    assert set(missing["notes"]) == {"masks"}
    assert "2" in missing["notes"]["masks"]["all images"]

    metric.add_batch(**whole)
    metric.add_batch(**extra, masks=np.zeros((2, 32, 36)))
    assert metric.compute() == missing  # an empty mask says as little as none

    alone = AnomalyDetectionMetric().compute(**extra)
    assert alone["notes"]["pixel_ap"] == {"all images": "no masks of anomalous images"}
    del whole["masks"]
    assert AnomalyDetectionMetric().compute(**whole)["notes"]["pixel_ap"] == {"all images": "no anomalous pixels"}


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("image_scores", 5, np.nan, "score of image 5 .*bottle.*nan"),
        ("labels", 6, 2, "label of image 6 .*screw.* 2"),
        ("anomaly_maps", 7, np.full((32, 36), np.inf), "map of image 7 .*bottle"),
        ("anomaly_maps", 7, np.full((32, 36), 1e300), "map of image 7 .*bottle"),
        ("anomaly_maps", 7, np.full((32, 36), -np.nan), "map of image 7 .*bottle"),
        ("anomaly_maps", 7, np.zeros((1, 32, 36)), r"map of image 7 .*\(1, 32, 36\)"),
        ("anomaly_maps", 7, None, "image 7 .*map"),
        ("masks", 3, np.zeros((32, 35)), r"mask of image 3 .*\(32, 35\).*\(32, 36\)"),
        ("masks", 3, np.full((32, 36), np.nan), "mask of image 3 .*NaN"),
        ("masks", 7, np.ones((32, 36)), "image 7 .*normal.*1152 pixels"),
        ("categories", 7, None, "category of image 7 .*None"),
    ],
)
def test_a_batch_with_one_wrong_image_is_not_counted(name, index, value, message):
    whole = {key: list(column) for key, column in batch().items()}
    whole[name][index] = value
    metric = AnomalyDetectionMetric()
    with pytest.raises(ValueError, match=message):
        metric.add_batch(**whole)
    assert len(metric) == 0
    assert metric.state()["categories"].tolist() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, "2 labels .*8 image_scores"),
        ({"masks": [None]}, "1 masks .*8 image_scores"),
        ({"categories": "bottle"}, "categories is 'bottle'"),
        ({"image_scores": 0.5}, "image_scores is float"),
        ({"image_scores": ["high"] * 8}, "image_scores is list"),
        ({"image_scores": None}, "image_scores is NoneType"),
        ({"anomaly_maps": None}, "anomaly_maps"),
    ],
)
def test_columns_of_different_length_or_type_are_refused(change, message):
    metric = AnomalyDetectionMetric()
    with pytest.raises(ValueError, match=message):
        metric.add_batch(**(batch() | change))
    assert len(metric) == 0


def test_only_defined_curves_are_returned():
    metric = AnomalyDetectionMetric()
    metric.add_batch(**batch())
    metric.add(image_score=0, label=0, category="nut")
    curves = metric.curves()
    assert list(curves) == ["bottle", "nut", "screw"]
    assert curves["nut"] == {}
    assert set(curves["screw"]) == {"image_roc", "image_pr", "pixel_roc", "pixel_pr", "pixel_pro"}
    rate, found = curves["screw"]["pixel_roc"]
    area = ((rate[1:] - rate[:-1]) * (found[1:] + found[:-1]) / 2).sum()
    assert area == pytest.approx(metric.compute()["per_category"]["screw"]["pixel_auroc"], abs=1e-3)


def test_thresholds_give_the_best_f1():
    whole = batch()
    metric = AnomalyDetectionMetric()
    metric.add_batch(**whole)
    thresholds = metric.thresholds()
    assert list(thresholds) == ["bottle", "screw", "all images"]
    result = metric.compute()
    for category in ("bottle", "screw"):
        one = part(whole, [index for index, name in enumerate(CATEGORIES) if name == category])
        columns = {"image": ("image_scores", "labels"), "pixel": ("anomaly_maps", "masks")}
        for kind, (values, truth) in columns.items():
            found = np.stack(one[values]) >= thresholds[category][kind]
            f1 = f1_score(np.ravel(np.stack(one[truth])), np.ravel(found))
            assert f1 == pytest.approx(result["per_category"][category][f"{kind}_f1_max"], abs=1e-9)
    found = whole["image_scores"] >= thresholds["all images"]["image"]
    assert f1_score(whole["labels"], found) == pytest.approx(
        slow_score_metrics(whole["image_scores"], whole["labels"])[2]
    )

    metric.add(image_score=0.2, label=0)
    assert metric.thresholds() == {"all images": {"image": None, "pixel": None}}


def test_confidence_intervals():
    rng = np.random.default_rng(0)
    labels, names = rng.random(200) > 0.4, np.where(np.arange(200) % 2, "nut", "bolt").tolist()
    scores = rng.normal(size=200) + labels
    metric = AnomalyDetectionMetric()
    metric.add_batch(image_scores=scores, labels=labels, categories=names)
    intervals = metric.confidence_intervals(resamples=250)
    assert intervals == metric.confidence_intervals(resamples=250)
    assert intervals != metric.confidence_intervals(resamples=250, seed=1)
    wide = metric.confidence_intervals(resamples=250, level=0.99)
    metric.add_batch(image_scores=[0.5, 0.6], labels=[1, 1], categories=["screw"] * 2)
    assert metric.confidence_intervals(resamples=4)["per_category"]["screw"]["image_auroc"] is None
    result = metric.compute()

    # The reference draws the images themselves.
    drawn = {"bolt": [], "nut": []}
    for category, values in drawn.items():
        kinds = [np.flatnonzero((np.array(names) == category) & (labels == label)) for label in (False, True)]
        for _ in range(250):
            chosen = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
            values.append(slow_score_metrics(scores[chosen], labels[chosen]))
    for category, values in drawn.items():
        expected = np.quantile(values, [0.025, 0.975], axis=0).T
        found = [intervals["per_category"][category][name] for name in METRICS[:3]]
        np.testing.assert_allclose(found, expected, atol=0.03)
    expected = np.quantile(np.mean(list(drawn.values()), axis=0), [0.025, 0.975], axis=0).T
    np.testing.assert_allclose([intervals[name] for name in METRICS[:3]], expected, atol=0.03)
    for name in METRICS[:3]:
        low, high = intervals[name]
        assert wide[name][0] < low < result[name] < high < wide[name][1]


def test_it_is_an_evaluate_metric_that_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))
    metric = AnomalyDetectionMetric()
    assert isinstance(metric, evaluate.Metric)
    assert "2310.18961" in metric.citation
    assert list(metric.features) == list(batch())
    metric.add_batch(**batch())
    assert metric.compute()["pixel_aupro"] > 0
    assert "image_scores" in metric.add_batch.__doc__
    assert list(tmp_path.iterdir()) == []


def test_public_names():
    import anomalyclip_hf.metrics as metrics

    with pytest.raises(AttributeError, match="Nothing"):
        metrics.Nothing  # noqa: B018
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__
