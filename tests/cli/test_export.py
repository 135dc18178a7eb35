# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip export`."""

import json
import sys

import pytest

from anomalyclip_hf import DEFAULT_MODEL
from anomalyclip_hf.cli import main
from anomalyclip_hf.pipeline_anomaly_detection import DEMONSTRATION_NOTE


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["anomalyclip", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_writes_a_folder_and_says_how_it_differs(model_folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, model_folder, "--output-dir", out, "--to", "openvino", "--feature-layer", 2) == 0
    printed = capsys.readouterr().out
    assert str(out) in printed
    assert "batch size 1 and 2" in printed
    assert {path.name for path in out.iterdir()} == {
        "anomalyclip.json",
        "openvino_model.bin",
        "openvino_model.xml",
        "processor_config.json",
    }
    description = json.loads((out / "anomalyclip.json").read_text())
    assert description["feature_layers"] == [2]
    assert description["smoothing_sigma"] == 1.0  # from the processor beside the model


def test_without_a_model_it_is_the_demonstration_model(tmp_path, monkeypatch, capsys):
    written = []
    monkeypatch.setattr("anomalyclip_hf.export.onnx.export_onnx", lambda model, *_, **__: written.append(model))
    assert run(monkeypatch, "--output-dir", tmp_path / "out") == 0
    assert written[0].name_or_path == str(DEFAULT_MODEL)
    assert DEMONSTRATION_NOTE in capsys.readouterr().err


def test_an_export_is_not_exported_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "anomalyclip.json").write_text("{}")
    assert run(monkeypatch, tmp_path, "--output-dir", tmp_path / "out") == 2
    assert f"{tmp_path} is an export already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--precision", "bfloat16"], "bfloat16"),
        (["--to", "openvino", "--precision", "int8"], "--calibration-images"),
        (["--image-size", "41"], "41"),
        (["--feature-layer", "9"], "--feature-layer 9"),
        (["--calibration-images", "nowhere"], "nowhere"),
        (["--to", "web", "--precision", "int8"], "--precision"),
        (["--to", "web", "--preprocessing"], "--preprocessing"),
        (["--to", "web", "--runtime-dir", "nowhere"], "nowhere"),
        (["--runtime-dir", "nowhere"], "--runtime-dir"),
    ],
)
def test_a_wrong_option_is_one_line(model_folder, tmp_path, monkeypatch, capsys, options, named):
    assert run(monkeypatch, model_folder, "--output-dir", tmp_path / "out", *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert not (tmp_path / "out").exists()


def test_writes_a_page(model_folder, runtime_package, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, model_folder, "--output-dir", out, "--to", "web", "--runtime-dir", runtime_package) == 0
    assert str(out) in capsys.readouterr().out
    assert {"index.html", "model.onnx", "page.json", "runtime"} <= {path.name for path in out.iterdir()}
    assert json.loads((out / "page.json").read_text())["name"] == model_folder.name
