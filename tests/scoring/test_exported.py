# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The description of an exported model: what is written is read again, and what cannot be right is named."""

import json

import pytest

from anomalyclip_hf import calibrate
from anomalyclip_hf.scoring.exported import ExportedModel, is_exported, read_exported


PREPROCESSING = {"size": [40, 48], "mean": [0.5] * 3, "std": [0.2] * 3, "resample": 3, "value_range": None}
CALIBRATION = calibrate([0.5, 0.75], method="quantile", alpha=0.5).to_dict()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"0123456789")
    exported = ExportedModel(
        format="onnx", precision="int8", fingerprint="abc", image_size=[40, 48], grid=[5, 6],
        preprocessing=PREPROCESSING, pixel_threshold=0.25, calibration=CALIBRATION, files={"model.onnx": 10},
    )  # fmt: skip
    exported.save(tmp_path)
    return tmp_path


def change(folder, **settings):
    path = folder / "anomalyclip.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_reads_what_was_written(folder):
    assert is_exported(folder)
    exported = read_exported(folder)
    assert (exported.image_size, exported.pixel_threshold, exported.calibration) == ([40, 48], 0.25, CALIBRATION)
    assert json.loads(exported.metadata["calibration"]) == CALIBRATION
    assert float(exported.metadata["threshold"]) == CALIBRATION["threshold"]
    assert exported.metadata["precision"] == "int8"
    assert "files" not in exported.metadata


def test_a_model_folder_is_no_export(model_folder):
    assert not is_exported(model_folder)
    assert not is_exported(None)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format": "tflite"}, "tflite"),
        ({"image_size": [0, 40]}, "image_size"),
        ({"grid": "5x6"}, "grid"),
        ({"files": {"../model.onnx": 10, "model.onnx": 10}}, r"\.\./model"),
        ({"files": {}}, "files"),
        ({"files": {"model.onnx": "10"}}, "files"),
        ({"format": ["onnx"]}, "format is"),
        ({"precision": 8}, "precision is 8"),
        ({"fingerprint": None}, "fingerprint is None"),
        ({"dynamic_batch": "yes"}, "dynamic_batch is 'yes'"),
        ({"calibration": []}, "calibration"),
        ({"calibration": {"threshold": 0.5}}, "calibration has no valid categories"),
        ({"calibration": CALIBRATION | {"threshold": "x"}}, "threshold is 'x'"),
        ({"threshold": "x"}, "threshold is 'x'"),
        ({"threshold": 7}, "threshold is 7"),
        ({"threshold": None}, "threshold is None"),
        ({"pixel_threshold": 2}, "pixel_threshold is 2"),
        ({"map_maximum": 0}, "map_maximum is 0"),
        ({"smoothing_sigma": -1}, "smoothing_sigma is -1"),
        ({"input": "video"}, "input is 'video'"),
        ({"labels": ["normal"]}, "labels is"),
        ({"image_score": "foo"}, "image_score is 'foo'"),
        ({"feature_layers": [9]}, r"feature_layers is \[9\]"),
        ({"feature_layers": "9"}, "feature_layers is '9'"),
        ({"preprocessing": {}}, "preprocessing is"),
        ({"preprocessing": PREPROCESSING | {"std": [0, 1, 1]}}, "preprocessing is"),
        ({"preprocessing": PREPROCESSING | {"further": 1}}, "preprocessing is"),
        ({"preprocessing": PREPROCESSING | {"value_range": "x"}}, "value_range is 'x'"),
    ],
)
def test_a_description_that_cannot_be_right_is_named(folder, settings, named):
    change(folder, **settings)
    with pytest.raises(ValueError, match=named) as error:
        read_exported(folder)
    assert "anomalyclip.json" in str(error.value)


def test_a_later_version_may_have_further_settings(folder):
    change(folder, further=1)
    assert read_exported(folder).precision == "int8"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[]", '{"format_version": 1}', " " * 1_000_001])
def test_a_damaged_description_is_named(folder, content):
    (folder / "anomalyclip.json").write_text(content)
    with pytest.raises(ValueError, match=r"anomalyclip\.json"):
        read_exported(folder)


def test_a_truncated_file_is_named(folder):
    (folder / "model.onnx").write_bytes(b"01234")
    with pytest.raises(OSError, match=r"model\.onnx has 5 bytes"):
        read_exported(folder)


def test_missing_weights_beside_the_model_are_named(folder):
    change(folder, files={"model.onnx": 10, "model.onnx.data": 1000})
    with pytest.raises(FileNotFoundError, match=r"model\.onnx\.data"):
        read_exported(folder)
