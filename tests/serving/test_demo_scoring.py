# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import io
import json

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline

from anomalyclip_hf.serving.demo_scoring import DISPLAY_SIDE, DemoModel, map_file, result_file, slider_range


@pytest.fixture
def detector(model_folder) -> DemoModel:
    return DemoModel(str(model_folder))


def test_files_hold_what_the_pipeline_gives_however_large_the_image(detector, model_folder, photo, tmp_path):
    path = tmp_path / "a large one.png"
    photo.resize((DISPLAY_SIDE * 2, 1000)).save(path)
    scored = detector.score(path, 10_000_000)
    assert scored.size == (1000, DISPLAY_SIDE * 2)
    assert scored.picture.size == (DISPLAY_SIDE, 500)
    level = detector.map_peak(scored) * 0.97
    drawing = detector.draw(scored, 0.5, level, 0.7)
    assert drawing.overlay.size == (DISPLAY_SIDE, 500)

    expected = pipeline("anomaly-detection", model=str(model_folder), device="cpu")(str(path), pixel_threshold=level)
    name, content = map_file(scored, drawing)
    assert name == "a large one_map.tiff"
    np.testing.assert_allclose(
        np.asarray(Image.open(io.BytesIO(content))), np.asarray(expected["anomaly_map"]), atol=1e-6
    )
    name, content = result_file(scored, drawing, 0.5, level)
    result = json.loads(content)
    assert name == "a large one_result.json"
    assert result["regions"] == expected["regions"]
    assert (result["score"], result["label"]) == (pytest.approx(expected["score"]), expected["label"])


def test_drawing_again_does_not_run_the_model(detector, photo, tmp_path, monkeypatch):
    photo.save(tmp_path / "a.png")
    scored = detector.score(tmp_path / "a.png", 10_000)
    first = detector.draw(scored, 0.5, 0.1, 0.7)
    monkeypatch.setattr(detector.pipe.model, "forward", None)
    again = detector.draw(scored, 0.5, 0.1, 0.7)
    assert again.overlay.tobytes() == first.overlay.tobytes()
    assert detector.draw(scored, 0.5, 0.1, 0.2).overlay.tobytes() != first.overlay.tobytes()


def test_the_outline_follows_the_threshold(detector, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    scored = detector.score(tmp_path / "a.png", 10_000)
    (values,) = detector.pipe([photo])
    level = float(np.quantile(np.asarray(values["anomaly_map"]), 0.8))
    drawing = detector.draw(scored, 0.5, level, 0.0)  # nothing but the outline
    changed = (np.asarray(drawing.overlay) != np.asarray(photo)).any(2)
    inside = np.asarray(values["anomaly_map"]) >= level
    assert changed.any()
    assert not (changed & ~inside).any()


def test_too_many_pixels(detector, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^a\.png is too large: 80x50 px, the limit is 3999"):
        detector.score(tmp_path / "a.png", 3999)


@pytest.mark.parametrize("peak", [0.0, 1e-12, 3.4e-6, 0.0999, 0.1, 0.9213, 1.0, 3.99])
def test_the_slider_reaches_over_the_whole_map(peak):
    maximum, value = slider_range(peak, None)
    assert peak <= maximum <= max(peak * 1.12, 1e-9)
    assert 0 < value < maximum
    assert slider_range(peak, 0.25) == (pytest.approx(max(maximum, 0.25)), 0.25)
