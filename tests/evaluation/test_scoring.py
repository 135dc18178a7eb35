# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalyclip_hf import AnomalyDetectionMetric, load_anomaly_dataset
from anomalyclip_hf.evaluation.scoring import Evaluation, Scorer
from anomalyclip_hf.image_processing_anomalyclip import masks_to_tensor


def scored(scorer: Scorer, batch_size: int = 3) -> Evaluation:
    evaluation = Evaluation(AnomalyDetectionMetric())
    assert sum(scorer.score(range(len(scorer.dataset)), batch_size, evaluation)) == len(scorer.dataset)
    return evaluation


@pytest.mark.parametrize("resolution", ["model", "original"])
def test_against_a_slow_loop(make_scorer, model, parts_folder, resolution):
    scorer = make_scorer(resolution=resolution)
    evaluation = scored(scorer)
    labels, scores, pixels, values = {}, {}, {}, {}
    for row in load_anomaly_dataset("folder", parts_folder):
        with torch.no_grad():
            outputs = model(**scorer.processor(images=row["image"]))
        size = [row["image"].size[::-1]] if resolution == "original" else None
        result = scorer.processor.post_process_anomaly_detection(outputs, target_sizes=size)[0]
        mask = np.asarray(row["mask"]) > 0 if row["mask"] else np.zeros(row["image"].size[::-1], bool)
        if resolution == "model":
            mask = masks_to_tensor([mask], tuple(result["anomaly_map"].shape))[0].numpy() > 0
        labels.setdefault(row["category"], []).append(row["label"])
        scores.setdefault(row["category"], []).append(result["score"])
        pixels.setdefault(row["category"], []).append(mask.ravel())
        values.setdefault(row["category"], []).append(result["anomaly_map"].numpy().ravel())
    figures = evaluation.metric.compute()
    assert set(figures["per_category"]) == {"bolt", "nut"}
    for category, found in figures["per_category"].items():
        assert found["image_auroc"] == pytest.approx(roc_auc_score(labels[category], scores[category]), abs=1e-12)
        exact = roc_auc_score(np.concatenate(pixels[category]), np.concatenate(values[category]))
        assert found["pixel_auroc"] == pytest.approx(exact, abs=1e-4)
    assert [row["score"] for row in evaluation.rows] == pytest.approx(scores["bolt"] + scores["nut"], abs=1e-6)


def test_the_batch_size_changes_nothing(make_scorer):
    one, many = (scored(make_scorer(), batch_size).metric.compute() for batch_size in (1, 16))
    assert one["pixel_auroc"] == pytest.approx(many["pixel_auroc"], abs=1e-4)
    assert one["image_auroc"] == many["image_auroc"]


def test_an_unreadable_image_is_skipped_and_counted(make_scorer, parts_folder):
    (parts_folder / "nut" / "test" / "good" / "002.png").write_bytes(b"no image")
    evaluation = scored(make_scorer())
    failed = [row for row in evaluation.rows if row["error"]]
    assert [row["path"] for row in failed] == ["nut/test/good/002.png"]
    assert "is not an image" in failed[0]["error"]
    assert len(evaluation.metric) == 15
    with pytest.raises(ValueError, match=r"002\.png is not an image"):
        scored(make_scorer(on_error="fail"))


def test_a_mask_of_another_resolution_counts_and_of_another_shape_does_not(make_scorer, parts_folder):
    path = parts_folder / "bolt" / "ground_truth" / "scratch" / "001_mask.png"
    mask = Image.open(path)
    mask.resize((128, 96)).save(path)
    assert not any(row["error"] for row in scored(make_scorer()).rows)
    mask.resize((48, 64)).save(path)
    errors = [row["error"] for row in scored(make_scorer()).rows if row["error"]]
    assert errors == ["bolt/test/scratch/001.png is 64x48 px and its mask 48x64; expected one shape."]


def test_without_pixels(make_scorer):
    figures = scored(make_scorer(count_pixels=False)).metric.compute()
    assert figures["pixel_auroc"] is None
    assert figures["image_auroc"] is not None


def test_a_model_that_gives_nan_stops(make_scorer, model):
    with torch.no_grad():
        model.clip.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"bolt/test/good/000\.png … .*the model gave NaN"):
        scored(make_scorer())


def test_images_without_labels(tmp_path, model, make_scorer, photo):
    (tmp_path / "flat").mkdir()
    photo.save(tmp_path / "flat" / "a.png")
    with pytest.raises(ValueError, match="1 images have no label"):
        Scorer(model, make_scorer().processor, load_anomaly_dataset("folder", tmp_path / "flat"))
    with pytest.raises(ValueError, match="expected one of model, original"):
        make_scorer(resolution="huge")
