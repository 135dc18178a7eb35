# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import ast
import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example as a user does, in this process to save its start-up; returns what it prints."""

    def run_example(script, *options) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    return run_example


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_use_public_python_and_fit_a_page_or_two(path):
    assert len(path.read_text().splitlines()) <= 140
    assert importlib.util.find_spec(path.stem) is None, "beside a script, this name hides an installed package"
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.startswith("anomalyclip_hf.cli")]


def test_predict(run, model_folder, tmp_path, photo):
    photo.save(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [tmp_path / "photo.png", tmp_path / "broken.png"]
    out = run("predict.py", *images, "--model", model_folder, "--output-dir", tmp_path / "out")
    scored, failed = (next(line for line in out.splitlines() if path.name in line) for path in images)
    assert scored.endswith((" normal", " anomalous"))
    assert failed.count("broken.png") >= 1
    heat_map = np.asarray(Image.open(tmp_path / "out" / "photo.tiff"))
    assert heat_map.shape == (photo.height, photo.width)
    assert heat_map.dtype == np.float32


def test_bulk_score(run, model_folder, parts_folder, tmp_path):
    inputs = parts_folder / "nut" / "test"
    out = run("bulk_score.py", inputs, "--model", model_folder, "--output-dir", tmp_path / "out")
    assert "8 of 8" in out
    assert out.splitlines()[-1].endswith((" normal", " anomalous"))


def test_evaluate_dataset(run, model_folder, parts_folder, tmp_path):
    out = run("evaluate_dataset.py", "folder", parts_folder, "--model", model_folder, "--output-dir", tmp_path / "out")
    assert {"bolt", "nut"} <= {line.split()[0] for line in out.splitlines() if line.strip()}
    metrics = json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    assert f"'image_auroc': {round(metrics['per_category']['bolt']['image_auroc'], 3)}" in out
    assert (tmp_path / "out" / "report.html").exists()


def test_own_data(run, model_folder):
    out = run("own_data.py", "--model", model_folder)
    values = dict(line.split(": ") for line in out.splitlines() if line.count(": ") == 1)
    assert {"image_auroc", "pixel_auroc", "threshold"} <= set(values)
    assert 0 <= float(values["threshold"]) <= 1


def test_train(run, parts_folder, clip_folder, tmp_path):
    options = [
        "--base-model",
        clip_folder,
        "--train",
        "folder",
        parts_folder / "bolt",
        "--epochs",
        1,
        "--image-size",
        40,
    ]
    out = run("train.py", *options, "--test", "folder", parts_folder / "nut", "--output-dir", tmp_path / "out")
    assert (tmp_path / "out" / "prompts.safetensors").exists()
    metrics = json.loads(out[out.rindex("{\n") :])
    assert 0 <= metrics["eval_pixel_aupro"] <= 1


def test_push(run, hub, model_folder):
    out = run("push.py", model_folder, "someone/parts", "--private")
    assert "someone/parts" in out
    assert "loads again" in out


def test_a_row_of_the_ablation(run, parts_folder, clip_folder, tmp_path):
    options = ["--base-model", clip_folder, "--train", parts_folder / "bolt", "--test", parts_folder / "nut"]
    options += ["--train-object", "bolt", "--test-object", "nut", "--epochs", 1, "--seeds", 2]
    options += ["--image-size", 40, "--output-dir", tmp_path]
    out = run("ablation.py", *options, "--rows", "two layers selected", "object-aware prompts")
    assert out.count("±") == 8
