# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from anomalyclip_hf import (
    AnomalyCLIPModel,
    AnomalyCLIPProcessor,
    AnomalyScorer,
    Calibration,
    calibrate,
    calibrate_model,
    evaluate_model,
    store_calibration,
)
from anomalyclip_hf.calibration.images import check_folder


@pytest.fixture(scope="module")
def normal() -> list[Image.Image]:
    """Twenty-four normal images."""
    rng = np.random.default_rng(8)
    return [Image.fromarray(rng.integers(90 - n, 120 + n, (40, 56, 3), dtype=np.uint8)) for n in range(24)]


@pytest.fixture
def calibrated(model_folder, normal):
    """Folder of a model with a calibration, and the calibration."""
    scorer = AnomalyScorer(model_folder, batch_size=8, num_workers=1)
    found = calibrate_model(scorer, normal, alpha=0.1, review_alpha=0.3, data="parts")
    assert store_calibration(found, model_folder) == model_folder / "processor_config.json"
    return model_folder, found


def test_scores_and_maps_are_those_of_the_engine(calibrated, normal):
    folder, found = calibrated
    scorer = AnomalyScorer(AnomalyCLIPModel.from_pretrained(folder), AnomalyCLIPProcessor.from_pretrained(folder))
    scorer.resolution = "model"
    results = list(scorer.score(normal))
    maxima = [result.anomaly_map.max() for result in results]
    expected = calibrate([result.score for result in results], alpha=0.1, review_alpha=0.3, map_maxima=maxima)
    for name in ("threshold", "review_threshold", "pixel_threshold"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-6)
    assert (found.normal, found.anomalous, found.data) == (24, 0, "parts")
    assert found.fingerprint == scorer.backend.fingerprint
    assert found.settings == scorer.score_settings


def test_the_engine_uses_a_stored_calibration(calibrated, normal, caplog):
    folder, found = calibrated
    scorer = AnomalyScorer(folder, resolution="original")
    assert (scorer.threshold, scorer.pixel_threshold) == (found.threshold, found.pixel_threshold)
    results = list(scorer.score(normal))
    assert sum(result.label == "anomalous" for result in results) <= 2
    assert sum(bool(result.regions) for result in results) <= 2
    for result in results:
        assert result.p_value == found.p_value(result.score)
        assert result.decision == found.decide(result.score)
        assert (result.label == "anomalous") == (result.decision == "reject")
    assert {result.decision for result in results} == {"accept", "look", "reject"}
    assert not caplog.records


def test_the_pipeline_agrees_with_the_engine(calibrated, normal):
    folder, _ = calibrated
    pipe = pipeline("anomaly-detection", model=str(folder))
    new = [image.rotate(180) for image in normal[:6]]  # equal scores may differ in their last bits
    for result, other in zip(AnomalyScorer(folder).score(new), pipe(new), strict=True):
        assert result.score == pytest.approx(other["score"], abs=1e-6)
        assert (result.label, result.decision) == (other["label"], other["decision"])
        assert (result.mask.any(), result.p_value) == (np.asarray(other["mask"]).any(), other["p_value"])
    assert pipe(normal[0], threshold=0.0, output="json")["label"] == "anomalous"


def test_scores_settings_of_pipeline_and_engine_are_the_same(model, processor):
    engine = AnomalyScorer(model, processor).score_settings
    assert {name: value for name, value in engine.items() if name != "precision"} == processor.score_settings


def test_a_threshold_that_is_given_comes_first(calibrated, normal):
    folder, found = calibrated
    scorer = AnomalyScorer(folder, threshold=0.0)
    (result,) = scorer.score(normal[:1])
    assert (result.label, result.decision) == ("anomalous", "reject")
    assert result.p_value == found.p_value(result.score)
    assert scorer.pixel_threshold == found.pixel_threshold


def change_weights(folder):
    model = AnomalyCLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.clip.visual_projection.weight.mul_(1.01)
    model.save_pretrained(folder)


def change_setting(folder):
    path = folder / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"smoothing_sigma": 2.0}))


@pytest.mark.parametrize(
    ("change", "options", "name"),
    [
        (change_weights, {}, "model"),
        (change_setting, {}, "smoothing_sigma"),
        (None, {"image_score": "fusion"}, "image_score"),
        (None, {"dtype": "bfloat16"}, "precision"),
        (None, {"value_range": (0, 4095)}, "value_range"),
    ],
)
def test_a_stale_calibration_is_warned_of_and_not_used(calibrated, normal, caplog, change, options, name):
    folder, _ = calibrated
    if change is not None:
        change(folder)
    with caplog.at_level(logging.WARNING):
        scorer = AnomalyScorer(folder, **options)
    (warning,) = caplog.messages
    assert name in warning
    assert "\n" not in warning
    assert (scorer.threshold, scorer.pixel_threshold, scorer.calibration) == (0.5, None, None)
    (result,) = scorer.score(normal[:1])
    assert (result.p_value, result.decision) == (None, None)


@pytest.mark.parametrize("change", [change_weights, change_setting])
def test_the_pipeline_does_not_use_a_stale_calibration(calibrated, normal, change, capsys):
    folder, _ = calibrated
    change(folder)
    pipe = pipeline("anomaly-detection", model=str(folder))
    assert pipe.calibration is None
    assert "p_value" not in pipe(normal[0])


def test_a_calibration_of_scores_alone_belongs_to_no_model(model, processor, caplog):
    processor.calibration = calibrate(np.linspace(0, 1, 25)).to_dict()
    scorer = AnomalyScorer(model, processor)
    assert scorer.calibration is None
    assert "stale" in caplog.text


def test_a_damaged_calibration_is_refused(calibrated):
    folder, _ = calibrated
    path = folder / "processor_config.json"
    stored = json.loads(path.read_text())
    stored["calibration"]["threshold"] = "high"
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="threshold"):
        AnomalyScorer(folder)


@pytest.mark.parametrize("kind", ["fusion", "top1%"])
def test_the_kind_of_score_is_stored_with_the_calibration(model_folder, normal, kind):
    scorer = AnomalyScorer(model_folder, image_score=kind, num_workers=1)
    store_calibration(calibrate_model(scorer, normal), model_folder)
    again = AnomalyScorer(model_folder)
    assert (again.image_score, again.settings["image_score"]) == (kind, kind)
    assert again.calibration["image_score"] == kind
    (result,) = again.score(normal[:1])
    assert pipeline("anomaly-detection", model=str(model_folder))(normal[0])["score"] == pytest.approx(result.score)


def test_an_engine_has_its_own_settings(model_folder, normal):
    with pytest.raises(ValueError, match="tile, batch_size"):
        calibrate_model(AnomalyScorer(model_folder), normal, tile=64, batch_size=2)


def test_thresholds_from_scores_leave_the_value_range(model_folder):
    processor = AnomalyCLIPProcessor.from_pretrained(model_folder, value_range=(0, 4095))
    processor.save_pretrained(model_folder)
    store_calibration(calibrate(np.linspace(0.2, 0.4, 39)), model_folder)
    again = AnomalyCLIPProcessor.from_pretrained(model_folder)
    assert again.value_range == (0, 4095)
    assert again.calibration is not None


def test_a_category_with_too_few_images_is_named_before_images_are_scored(model_folder, parts, monkeypatch):
    monkeypatch.setattr(AnomalyScorer, "score_samples", None)
    with pytest.raises(ValueError, match="4 normal images of bolt"):
        calibrate_model(str(model_folder), parts, alpha=0.15, per_category=True)


def test_thresholds_of_categories(model_folder, parts):
    scorer = AnomalyScorer(model_folder, num_workers=1)
    found = calibrate_model(scorer, parts, method="quantile", alpha=0.25, per_category=True)
    assert list(found.categories) == ["bolt", "nut"]
    assert (found.normal, found.anomalous, found.categories["nut"].normal) == (8, 8, 4)
    store_calibration(found, model_folder)
    again = AnomalyScorer(model_folder)
    for result in again.score(parts):
        part = found.categories[result.sample.category]
        assert result.label == ("anomalous" if result.score >= part.threshold else "normal")
        assert result.mask.any() == (result.anomaly_map >= part.pixel_threshold).any()
    result = evaluate_model(again, parts, show_progress=False, metrics=["image_auroc"])
    assert result.summary["settings"]["image_score"] == "paper"


def test_an_image_that_cannot_be_read_is_skipped_with_a_line(model, processor, normal, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    scorer = AnomalyScorer(model, processor, num_workers=1)
    with pytest.warns(UserWarning, match=r"broken\.png"):
        found = calibrate_model(scorer, [*normal, tmp_path / "broken.png"])
    assert found.normal == 24
    with pytest.warns(UserWarning, match=r"broken\.png"), pytest.raises(ValueError, match="none of the 1"):
        calibrate_model(scorer, [tmp_path / "broken.png"], method="quantile")


def test_too_few_images_are_refused_before_they_are_scored(model, processor, normal, monkeypatch):
    scorer = AnomalyScorer(model, processor)
    monkeypatch.setattr(scorer.backend, "run", None)
    with pytest.raises(ValueError, match="at least 99"):
        calibrate_model(scorer, normal, alpha=0.01)
    with pytest.raises(ValueError, match="1 of 2 images"):
        calibrate_model(scorer, [{"image": normal[0], "label": 0}, {"image": normal[1]}], method="quantile")


def test_calibration_images_that_are_references_void_the_guarantee(model, processor, normal):
    scorer = AnomalyScorer(model, processor, references=normal[:3], num_workers=1)
    with pytest.warns(UserWarning, match="3 of the 24 .* void"):
        found = calibrate_model(scorer, normal)
    assert any("void" in line for line in found.describe())
    clean = calibrate_model(scorer, normal[3:])
    assert (clean.notes, clean.normal) == ([], 21)
    assert clean.settings["references"] == scorer.references.digest
    processor.calibration = clean.to_dict()
    assert AnomalyScorer(model, processor, references=normal[:3]).threshold == clean.threshold
    assert AnomalyScorer(model, processor, references=normal[:2]).calibration is None  # other references
    assert AnomalyScorer(model, processor).calibration is None


def test_mutual_scores_are_not_calibrated(model, processor, normal):
    with pytest.raises(ValueError, match="mutual"):
        calibrate_model(AnomalyScorer(model, processor, mutual=True), normal)


def test_tiles_are_calibrated_at_the_size_of_the_images(model, processor, normal):
    scorer = AnomalyScorer(model, processor, tile=32, num_workers=1)
    found = calibrate_model(scorer, normal, alpha=0.1)
    processor.calibration = found.to_dict()
    assert AnomalyScorer(model, processor).calibration is None
    for resolution in ("model", "original"):
        again = AnomalyScorer(model, processor, tile=32, resolution=resolution)
        assert again.threshold == found.threshold
        assert sum(result.mask.any() for result in again.score(normal)) <= 2


def test_a_copy_of_the_model_is_calibrated(model_folder, normal, tmp_path):
    before = (model_folder / "processor_config.json").read_bytes()
    scorer = AnomalyScorer(model_folder, num_workers=1)
    found = calibrate_model(scorer, normal)
    store_calibration(found, tmp_path / "copy", scorer)
    assert (model_folder / "processor_config.json").read_bytes() == before
    assert AnomalyScorer(tmp_path / "copy").threshold == found.threshold
    stored = AnomalyCLIPProcessor.from_pretrained(tmp_path / "copy").calibration
    assert Calibration.from_dict(stored) == found
    in_memory = AnomalyScorer(scorer.model, scorer.processor)
    in_memory.name = "AnomalyCLIPModel"
    store_calibration(found, tmp_path / "saved", in_memory)
    assert AnomalyScorer(tmp_path / "saved").threshold == found.threshold
    shutil.rmtree(tmp_path / "saved")
    (tmp_path / "saved").mkdir()
    with pytest.raises(FileNotFoundError, match="processor_config"):
        store_calibration(found, tmp_path / "saved")


def test_the_folder_of_another_model_is_refused(model_folder, model, processor, tmp_path):
    scorer, other = AnomalyScorer(model_folder), tmp_path / "other"
    shutil.copytree(model_folder, other)
    check_folder(other, scorer)
    change_weights(other)
    with pytest.raises(ValueError, match="other weights"):
        check_folder(other, scorer)
    (other / "anomalyclip.json").write_text("{}")
    with pytest.raises(ValueError, match="exported"):
        check_folder(other, scorer)
    scorer.name, scorer.model = "exported", None
    with pytest.raises(ValueError, match="PyTorch"):
        check_folder(model_folder, scorer)
    with pytest.raises(NotADirectoryError, match="config"):
        check_folder(model_folder / "config.json", scorer)
    check_folder(tmp_path / "new", scorer)
