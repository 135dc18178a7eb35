# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import runpy
import sys
from pathlib import Path

import pytest


SCRIPT = Path(__file__).parents[2] / "examples" / "reproduce_paper.py"


@pytest.fixture
def run(model_folder, parts_folder, tmp_path, monkeypatch, capsys):
    """Run the script on two of the paper's datasets made of the parts; returns what it prints."""
    for number, category in (("Class1", "bolt"), ("Class2", "nut")):
        (tmp_path / "data" / "DAGM").mkdir(parents=True, exist_ok=True)
        (parts_folder / category).rename(tmp_path / "data" / "DAGM" / number)
    medical = tmp_path / "data" / "BrainMRI" / "brain_tumor_dataset"
    for folder, kind in (("no", "good"), ("yes", "scratch")):
        (medical / folder).mkdir(parents=True)
        for path in (tmp_path / "data" / "DAGM" / "Class1" / "test" / kind).iterdir():
            (medical / folder / path.name).write_bytes(path.read_bytes())

    def run_script(*more):
        options = ["--model", model_folder, "--data-dir", tmp_path / "data", "--output-dir", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, [*options, *more])])
        monkeypatch.setenv("COLUMNS", "150")
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr()

    return run_script


def test_tables_show_ours_and_the_published_value(run, tmp_path):
    done = run("--trained-on", "mvtec")
    metrics = json.loads((tmp_path / "out" / "dagm" / "results.json").read_text())["metrics"]
    line = next(line for line in done.out.splitlines() if "dagm" in line)
    assert f"{100 * metrics['image_auroc']:.1f} (97.5)" in line
    assert f"{100 * metrics['pixel_aupro_published']:.1f} (91.0)" in line
    brain = next(line for line in done.out.splitlines() if "brainmri" in line)
    assert "(90.3)" in brain
    assert "– (–)" in brain  # no masks
    assert "not found" in done.err
    assert "visa" in done.err

    changed = json.loads((tmp_path / "out" / "dagm" / "results.json").read_text())
    changed["metrics"]["image_auroc"] = 0.123  # shows that what is finished is read, not made again
    (tmp_path / "out" / "dagm" / "results.json").write_text(json.dumps(changed))
    assert "12.3 (97.5)" in run("--trained-on", "mvtec").out


def test_no_dataset_is_there(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--trained-on", "visa")
    assert stopped.value.code == 2
    assert "mvtec" in capsys.readouterr().err
