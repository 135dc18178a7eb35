# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor, AnomalyScorer, calibrate_model, store_calibration
from anomalyclip_hf.export.folders import describe_model
from anomalyclip_hf.export.onnx import export_onnx


pytest_plugins = ["export.exports"]


@pytest.fixture
def normal() -> list[Image.Image]:
    rng = np.random.default_rng(8)
    return [Image.fromarray(rng.integers(90 - n, 120 + n, (40, 56, 3), dtype=np.uint8)) for n in range(24)]


@pytest.fixture
def calibrated(model_folder, normal):
    """Model and calibrated processor, whose score is the fusion."""
    scorer = AnomalyScorer(model_folder, image_score="fusion", num_workers=1)
    store_calibration(calibrate_model(scorer, normal, review_alpha=0.2), model_folder)
    return AnomalyCLIPModel.from_pretrained(model_folder), AnomalyCLIPProcessor.from_pretrained(model_folder)


def test_an_export_decides_as_the_model(calibrated, normal, tmp_path, caplog):
    model, processor = calibrated
    folder = tmp_path / "exported"
    export_onnx(model, folder, processor=processor)
    with caplog.at_level(logging.WARNING, logger="anomalyclip_hf"):
        exported = AnomalyScorer(folder)
    assert not [record for record in caplog.records if record.name.startswith("anomalyclip_hf")]
    assert exported.threshold == processor.calibration["threshold"]
    assert exported.image_score == "fusion"
    new = [image.rotate(180) for image in normal]
    for result, other in zip(exported.score(new), AnomalyScorer(model, processor).score(new), strict=True):
        assert result.score == pytest.approx(other.score, abs=1e-4)
        assert 0 < result.p_value <= 1
        assert result.p_value == pytest.approx(other.p_value, abs=0.05)
    found = calibrate_model(exported, normal, method="quantile")
    assert store_calibration(found, folder) == folder / "anomalyclip.json"
    assert AnomalyScorer(folder).calibration["method"] == "quantile"


def test_a_calibration_does_not_go_along_into_another_precision(calibrated, caplog):
    model, processor = calibrated
    kept = describe_model(model, processor, format="onnx", precision="float32")
    assert kept.calibration == processor.calibration
    assert json.loads(kept.metadata["calibration"]) == processor.calibration
    assert json.loads(kept.metadata["threshold"]) == processor.calibration["threshold"]
    with caplog.at_level(logging.WARNING, logger="anomalyclip_hf"):
        dropped = describe_model(model, processor, format="onnx", precision="int8")
    assert dropped.calibration is None
    assert dropped.threshold == 0.5
    assert "precision" in caplog.text


@pytest.mark.parametrize(("kind", "is_shared"), [("onnxruntime", True), ("onnxruntime int8", False)])
def test_a_calibration_in_float32_holds_for_all_runtimes(exports, normal, tmp_path, caplog, kind, is_shared):
    shutil.copytree(exports(kind), tmp_path / "out")
    store_calibration(calibrate_model(AnomalyScorer(tmp_path / "out"), normal), tmp_path / "out")
    assert AnomalyScorer(tmp_path / "out").calibration is not None
    caplog.clear()
    other = AnomalyScorer(tmp_path / "out", backend="openvino")
    assert (other.calibration is not None) == is_shared
    assert ("runtime" in caplog.text) != is_shared
