# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def run_command(*arguments):
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setattr(sys, "argv", ["anomalyclip", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_command


@pytest.fixture
def normal(tmp_path):
    """Folder of 22 normal images."""
    folder, rng = tmp_path / "good", np.random.default_rng(8)
    folder.mkdir()
    for number in range(22):
        pixels = rng.integers(90 - number, 120 + number, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def test_calibrate_and_predict(run, model_folder, normal, tmp_path):
    code, out, err = run("calibrate", "--normal", normal, "--model", model_folder, "--review-alpha", "0.2")
    assert (code, err) == (0, "")
    assert "5 %" in out
    assert "22 normal" in out
    stored = json.loads((model_folder / "processor_config.json").read_text())["calibration"]
    assert (stored["method"], stored["alpha"], stored["normal"], stored["data"]) == ("conformal", 0.05, 22, "good")
    code, out, err = run("predict", normal, "--model", model_folder, "--output-dir", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "p-value" in out
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert {row["decision"] for row in rows} <= {"accept", "look", "reject"}
    assert all(float(row["threshold"]) == stored["threshold"] for row in rows)
    assert all((row["decision"] == "reject") == (row["label"] == "anomalous") for row in rows)
    assert min(float(row["p_value"]) for row in rows) == pytest.approx(2 / 23, abs=1e-6)


def test_a_dataset_with_categories_and_another_score(run, model_folder, parts_folder, tmp_path):
    arguments = ["--dataset", "folder", "--data-dir", parts_folder, "--model", model_folder, "--per-category"]
    arguments += ["--method", "f1", "--image-score", "top1%", "--output-dir", tmp_path / "copy"]
    code, out, _ = run("calibrate", *arguments)
    assert code == 0
    assert "nut" in out
    stored = json.loads((tmp_path / "copy" / "processor_config.json").read_text())
    assert stored["image_score"] == stored["calibration"]["image_score"] == "top1%"
    assert list(stored["calibration"]["categories"]) == ["bolt", "nut"]
    assert "calibration" not in json.loads((model_folder / "processor_config.json").read_text()) or (
        json.loads((model_folder / "processor_config.json").read_text())["calibration"] is None
    )
    code, _, _ = run(
        "evaluate", "--dataset", "folder", "--data-dir", parts_folder, "--model", tmp_path / "copy",
        "--output-dir", tmp_path / "evaluation", "--metrics", "image_auroc",
    )  # fmt: skip
    assert code == 0
    settings = json.loads((tmp_path / "evaluation" / "results.json").read_text())["settings"]
    assert settings["image_score"] == "top1%"
    assert settings["calibration"].startswith("f1")


def test_another_score_is_named_and_makes_the_calibration_stale(run, model_folder, normal, tmp_path):
    assert run("calibrate", "--normal", normal, "--model", model_folder)[0] == 0
    arguments = ["predict", normal, "--model", model_folder, "--outputs", "none", "--image-score", "fusion"]
    code, out, err = run(*arguments, "--output-dir", tmp_path / "out")
    assert code == 0
    assert "p-value" not in out
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert {row["threshold"] for row in rows} == {"0.5"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--normal", "GOOD", "--alpha", "0"], "alpha"),
        (["--normal", "GOOD", "--alpha", "1.5"], "alpha"),
        (["--normal", "GOOD", "--alpha", "0.01"], "at least 99"),
        (["--normal", "GOOD", "--method", "f1"], "f1"),
        (["--normal", "GOOD", "--review-alpha", "0.01"], "review_alpha"),
        (["--normal", "GOOD", "--per-category"], "--per-category"),
        (["--normal", "missing"], "missing"),
        (["--dataset", "folder"], "--data-dir"),
        (["--dataset", "folder", "--data-dir", "GOOD", "--normal", "GOOD"], "--normal"),
        ([], "--normal"),
    ],
)
def test_wrong_options_end_in_one_line(run, model_folder, normal, options, name):
    options = [str(normal) if word == "GOOD" else word for word in options]
    code, out, err = run("calibrate", *options, "--model", model_folder)
    assert (code, out) == (2, "")
    assert name in err.splitlines()[0]
    stored = json.loads((model_folder / "processor_config.json").read_text())
    assert stored.get("calibration") is None


def test_a_model_that_is_not_in_a_folder_needs_an_output_folder(run, normal):
    code, _, err = run("calibrate", "--normal", normal)
    assert code == 2
    assert "--output-dir" in err


def test_a_wrong_folder_is_named_before_images_are_scored(run, model_folder, normal, monkeypatch):
    monkeypatch.setattr("anomalyclip_hf.calibration.images.calibrate_model", None)
    code, out, err = run("calibrate", "--normal", normal, "--model", model_folder, "--output-dir", normal)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "good has no processor_config.json" in err


@pytest.mark.parametrize("option", ["--normal", "--anomalous"])
def test_a_folder_without_images_is_named_before_the_model_is_loaded(
    run, model_folder, normal, tmp_path, monkeypatch, option
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("anomalyclip_hf.scoring.engine.AnomalyScorer", None)
    options = [*([] if option == "--normal" else ["--normal", normal]), option, tmp_path / "empty"]
    code, out, err = run("calibrate", *options, "--model", model_folder)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "empty" in err
