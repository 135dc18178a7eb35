# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from anomalyclip_hf import AnomalyCLIPProcessor, AnomalyScorer, calibrate_model, store_calibration
from anomalyclip_hf.serving.demo_scoring import DISPLAY_SIDE, DemoModel, ScoredImage


@pytest.fixture
def detector(model_folder) -> DemoModel:
    return DemoModel(str(model_folder))


@pytest.fixture
def image(photo, tmp_path):
    path = tmp_path / "a.png"
    photo.save(path)
    return path


def test_results_are_those_of_the_pipeline_however_large_the_image(detector, model_folder, photo, tmp_path):
    path = tmp_path / "a large one.png"
    photo.resize((DISPLAY_SIDE * 2, 1000)).save(path)
    scored = detector.score(path, 10_000_000)
    assert scored.size == (1000, DISPLAY_SIDE * 2)
    assert scored.picture.size == (DISPLAY_SIDE, 500)
    level = float(scored.full_map().max()) * 0.97
    result, overlay = detector.draw(scored, 0.5, level, 0.7)
    assert overlay.size == (DISPLAY_SIDE, 500)

    expected = pipeline("anomaly-detection", model=str(model_folder), device="cpu")(str(path), pixel_threshold=level)
    name, content = scored.map_file()
    assert name == "a large one_map.tiff"
    written = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_allclose(written, np.asarray(expected["anomaly_map"]), atol=1e-5)
    name, content = scored.result_file(result)
    assert name == "a large one_result.json"
    assert json.loads(content) == result
    assert (result["score"], result["label"]) == (pytest.approx(expected["score"], abs=1e-5), expected["label"])
    assert [r["box"].keys() for r in result["regions"]] == [r["box"].keys() for r in expected["regions"]]
    areas = [[region["area"] for region in found["regions"]] for found in (result, expected)]
    assert sum(areas[0]) == pytest.approx(sum(areas[1]), rel=1e-2)


def test_drawing_again_does_not_run_the_model(detector, image, monkeypatch):
    scored = detector.score(image, 10_000)
    _, first = detector.draw(scored, 0.5, 0.1, 0.7)
    monkeypatch.setattr(detector.scorer, "backend", None)
    assert detector.draw(scored, 0.5, 0.1, 0.7)[1].tobytes() == first.tobytes()
    assert detector.draw(scored, 0.5, 0.1, 0.2)[1].tobytes() != first.tobytes()


def test_the_outline_follows_the_pixel_threshold(detector, image, photo):
    scored = detector.score(image, 10_000)
    level = float(np.quantile(scored.full_map(), 0.8))
    result, overlay = detector.draw(scored, 0.5, level, 0.0)  # nothing but the outline
    changed = (np.asarray(overlay) != np.asarray(photo)).any(2)
    inside = scored.full_map() >= level
    assert sum(region["area"] for region in result["regions"]) == inside.sum()
    assert changed.any()
    assert not (changed & ~inside).any()


def test_colours_are_the_same_for_every_image(detector, photo):
    """A map of tiny values stays without colour, whatever the slider says; it is not scaled to its own peak."""

    def colour(value):
        scored = ScoredImage("a", Image.new("RGB", (40, 40), "grey"), (40, 40), 0.1, torch.full((40, 40), value))
        return np.asarray(detector.draw(scored, 0.5, 1.0, 0.7)[1])[20, 20].astype(int)

    maximum = detector.scorer.map_maximum
    grey = np.array([128, 128, 128])
    np.testing.assert_allclose(colour(1.6e-6), grey, atol=1)
    red, green, blue = colour(0.999 * maximum)
    assert red > 200 > green
    red, green, blue = colour(detector.middle)
    assert blue < min(red, green)


def test_too_many_pixels(detector, image):
    with pytest.raises(ValueError, match=r"a\.png.*80x50.*3999"):
        detector.score(image, 3999)


def test_deep_images_have_the_range_of_the_processor(model_folder, photo, tmp_path):
    processor = AnomalyCLIPProcessor.from_pretrained(model_folder)
    processor.value_range = (0, 4095)
    processor.save_pretrained(model_folder)
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 16  # 12 bits
    Image.fromarray(deep).save(tmp_path / "deep.png")
    scored = DemoModel(str(model_folder)).score(tmp_path / "deep.png", 10_000)
    np.testing.assert_allclose(np.asarray(scored.picture)[..., 0], np.asarray(photo.convert("L")), atol=1)


def test_a_value_range_is_used(model_folder, tmp_path):
    pixels = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    Image.fromarray((pixels / 4095 * 255).round().astype(np.uint8)).save(tmp_path / "plain.png")
    ranged = DemoModel(str(model_folder), (0, 4095)).score(tmp_path / "deep.png", 10**6)
    plain = DemoModel(str(model_folder)).score(tmp_path / "plain.png", 10**6)
    assert ranged.score == pytest.approx(plain.score, abs=1e-4)


def test_tiles_are_those_of_predict(model_folder, photo, tmp_path):
    photo.resize((160, 100)).save(tmp_path / "large.png")
    detector = DemoModel(str(model_folder), tile=64)
    scored = detector.score(tmp_path / "large.png", 10**6)
    (expected,) = AnomalyScorer(model_folder, tile=64).score([str(tmp_path / "large.png")])
    assert scored.score == pytest.approx(expected.score, abs=1e-5)
    assert (
        scored.anomaly_map.shape != DemoModel(str(model_folder)).score(tmp_path / "large.png", 10**6).anomaly_map.shape
    )
    np.testing.assert_allclose(scored.full_map(), expected.anomaly_map, atol=0.02)
    assert detector.draw(scored, 0.5, 0.5, 0.7)[1].size == (160, 100)


def test_a_calibrated_model_gives_its_decision(model_folder, image):
    scorer = AnomalyScorer(model_folder)
    found = calibrate_model(scorer, [str(image)] * 25)
    store_calibration(found, model_folder)
    detector = DemoModel(str(model_folder))
    assert detector.middle == found.pixel_threshold
    scored = detector.score(image, 10_000)
    drawn, _ = detector.draw(scored, found.threshold, found.pixel_threshold, 0.7)
    assert drawn["decision"] == found.decide(drawn["score"])
    for threshold, label, decision in ((0.0, "anomalous", "reject"), (1.0, "normal", "accept")):  # by the slider
        drawn, _ = detector.draw(scored, threshold, found.pixel_threshold, 0.7)
        assert (drawn["label"], drawn["decision"]) == (label, decision)
    assert drawn["p_value"] == found.p_value(drawn["score"])
