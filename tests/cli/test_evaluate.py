# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import sys

import pytest
import torch
from PIL import Image

from anomalyclip_hf.cli import main


def command(model_folder, parts_folder, out, *more) -> list[str]:
    options = {"--model": model_folder, "--dataset": "folder", "--data-dir": parts_folder, "--output-dir": out}
    return ["evaluate", *(str(word) for pair in options.items() for word in pair), *map(str, more)]


@pytest.fixture
def run(model_folder, parts_folder, tmp_path, monkeypatch, capsys):
    """Run `anomalyclip evaluate` in this process; returns exit code, standard output and standard error."""

    def run_evaluate(*more, out="out"):
        arguments = command(model_folder, parts_folder, tmp_path / out, *more)
        monkeypatch.setattr(sys, "argv", ["anomalyclip", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_evaluate


def metrics_of(folder) -> dict:
    return json.loads((folder / "results.json").read_text())["metrics"]


def test_table_and_files(run, tmp_path):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "scores.parquet", "report.html"}
    percent = f"{100 * metrics_of(tmp_path / 'out')['per_category']['bolt']['image_auroc']:.1f}"
    line = next(line for line in out.splitlines() if "bolt" in line)
    assert percent in line
    assert "16 images" in out
    summary = json.loads((tmp_path / "out" / "results.json").read_text())
    assert summary["dataset"]["name"] == "parts"  # its own name, not "folder"
    assert summary["dataset"]["split"] == "test"


def test_references_are_named_in_the_results(run, tmp_path):
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "good.png")
    assert run("--references", tmp_path / "good.png")[0] == 0
    settings = json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
    assert settings["references"]["images"] == 1


def test_tiles_are_named_in_the_results(run, tmp_path):
    assert run("--tile", 32, "--overlap", 0.1)[0] == 0
    settings = json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
    assert (settings["tile"], settings["overlap"]) == (32, 0.1)
    assert run("--tile", 32, "--overlap", 2)[0] == 2


def test_the_backend_is_named_in_the_results(run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    assert run("--backend", "compile", "--batch-size", 3)[0] == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["backend"] == "compile"
    assert run(out="plain")[0] == 0
    compiled, plain = metrics_of(tmp_path / "out")["per_category"], metrics_of(tmp_path / "plain")["per_category"]
    assert compiled["bolt"] == pytest.approx(plain["bolt"], rel=1e-4)


def test_images_of_a_category_are_compared_with_each_other(run, tmp_path):
    code, out, _ = run("--mutual", "--mutual-references", 3, "--mutual-radius", 2)
    assert code == 0
    assert "depend on the batch" in " ".join(out.split())
    assert json.loads((tmp_path / "out" / "results.json").read_text())["settings"]["mutual_references"] == 3


def test_categories_and_metrics_are_chosen(run, tmp_path):
    code, out, _ = run("--category", "nut", "--metrics", "image_auroc")
    assert code == 0
    assert "nut" in out
    assert "bolt" not in out
    assert "AUPRO" not in out
    assert metrics_of(tmp_path / "out")["pixel_auroc"] is None  # maps are not counted
    assert run("--category", "screw")[0] == 2


def test_unreadable_images(run, parts_folder):
    (parts_folder / "nut" / "test" / "good" / "002.png").write_bytes(b"")
    code, out, err = run()
    assert code == 2
    assert "15 images" in out
    assert len(err.splitlines()) == 1
    assert "nut/test/good/002.png" in err
    code, _, err = run("--on-error", "fail", out="strict")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "002.png" in err


def test_images_without_a_label_are_reported_and_skipped(run, parts_folder):
    lines = [
        "image;label",
        "bolt/test/good/000.png;gut-teil",
        "bolt/test/scratch/000.png;NG",
        "nut/test/good/000.png;",
    ]
    (parts_folder / "list.csv").write_bytes("sep=;\n".encode("utf-16") + "\n".join(lines).encode("utf-16-le"))
    options = ["--dataset", "csv", "--data-dir", parts_folder / "list.csv", "--normal-label", "Gutteil"]
    code, out, err = run(*options)
    assert code == 0
    assert "2 images" in out
    assert "no label: 3." in err
    assert "1 images have no label and are skipped" in err
    assert run(*options, "--on-error", "fail", out="strict")[0] == 2


def test_notes_about_masks_are_printed(run, parts_folder):
    for path in parts_folder.rglob("*_mask.png"):
        Image.new("L", Image.open(path).size).save(path)
    code, out, _ = run()
    assert code == 0
    assert "bolt/test/scratch/000.png" in out
    assert "5 more notes" in out
    assert "pixel AUROC" not in out.split("bolt:")[0]


def test_problems_of_the_dataset_are_printed_in_a_line(run, parts_folder):
    (parts_folder / "nut" / "test" / "dent").mkdir()
    _, _, err = run()
    assert len(err.splitlines()) == 1
    assert f"{parts_folder}/nut/test/dent" in err


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--dataset", "mvtek"], "mvtek"),
        (["--data-dir", "/nowhere"], "/nowhere"),
        (["--split", "train"], "train"),
        (["--aupro-limit", "0"], "aupro_limit"),
        (["--column", "image"], "--column image"),
        (["--device", "cuda:9"], "cuda:9"),
    ],
)
def test_mistakes_end_in_one_line(run, options, name):
    code, _, err = run(*options)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert name in err


def test_paper_masks(run, parts_folder, tmp_path):
    for path in parts_folder.rglob("*_mask.png"):
        Image.open(path).point(lambda value: 255 if value else 60).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    assert run(out="ours")[0] == 0
    assert run("--paper-masks", out="theirs")[0] == 0
    assert metrics_of(tmp_path / "ours")["pixel_auroc"] != metrics_of(tmp_path / "theirs")["pixel_auroc"]
