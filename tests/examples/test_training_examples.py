# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import os
import subprocess
import sys
from pathlib import Path


EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *options):
    command = [sys.executable, EXAMPLES / script, *options]
    environment = os.environ | {"COLUMNS": "150", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe(parts_folder, clip_folder, tmp_path):
    options = ["--base-model", clip_folder, "--train", "folder", parts_folder / "bolt", "--epochs", 1]
    out = run("train.py", *options, "--test", "folder", parts_folder / "nut", "--output-dir", tmp_path / "out")
    assert (tmp_path / "out" / "prompts.safetensors").exists()
    figures = json.loads(out[out.rindex("{\n") :])
    assert 0 <= figures["eval_pixel_aupro"] <= 1


def test_the_recipe_is_a_page():
    assert len((EXAMPLES / "train.py").read_text().splitlines()) <= 120


def test_a_row_of_the_ablation(parts_folder, clip_folder, tmp_path):
    options = ["--base-model", clip_folder, "--train", parts_folder / "bolt", "--test", parts_folder / "nut"]
    options += [
        "--epochs",
        1,
        "--seeds",
        2,
        "--output-dir",
        tmp_path,
        "--train-object",
        "bolt",
        "--test-object",
        "nut",
    ]
    out = run("ablation.py", *options, "--rows", "no global loss", "object-aware prompts")
    assert "bolt to nut, percent, 2 seeds" in out
    assert out.count("±") == 8
