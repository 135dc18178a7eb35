# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example as a user does, in this process to save its start-up; returns what it prints."""

    def run_example(script, *options) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    return run_example


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
    out = run("ablation.py", *options, "--rows", "no global loss", "object-aware prompts")
    assert out.count("±") == 8
