# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from anomalyclip_hf.cli import main


def command(model_folder, parts_folder, out, *more) -> list[str]:
    options = {"--model": model_folder, "--dataset": "folder", "--data-dir": parts_folder, "--output-dir": out}
    return ["evaluate", *(str(word) for pair in options.items() for word in pair), *map(str, more)]


@pytest.fixture
def run(model_folder, parts_folder, tmp_path, monkeypatch, capsys):
    """Run `anomalyclip evaluate` in this process; gives exit code, standard output and standard error."""

    def run_evaluate(*more, out="out"):
        arguments = command(model_folder, parts_folder, tmp_path / out, *more)
        monkeypatch.setattr(sys, "argv", ["anomalyclip", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_evaluate


def figures(folder) -> dict:
    return json.loads((folder / "results.json").read_text())["metrics"]


def test_table_and_files(run, tmp_path):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "scores.parquet", "report.html"}
    percent = f"{100 * figures(tmp_path / 'out')['per_category']['bolt']['image_auroc']:.1f}"
    line = next(line for line in out.splitlines() if "bolt" in line)
    assert percent in line
    assert "Percent, of 16 images" in out


def test_categories_and_metrics_are_chosen(run, tmp_path):
    code, out, _ = run("--category", "nut", "--metrics", "image_auroc")
    assert code == 0
    assert "nut" in out
    assert "bolt" not in out
    assert "AUPRO" not in out
    assert figures(tmp_path / "out")["pixel_auroc"] is None  # maps are not counted when nobody asks for them
    assert run("--category", "screw")[0] == 2


def test_unreadable_images(run, parts_folder):
    (parts_folder / "nut" / "test" / "good" / "002.png").write_bytes(b"")
    code, out, err = run()
    assert code == 2
    assert "Percent, of 15 images" in out
    assert len(err.splitlines()) == 1
    assert "nut/test/good/002.png is empty (0 bytes)" in err
    code, out, err = run("--on-error", "fail", out="strict")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "002.png is empty" in err


def test_oddities_of_the_data_are_said_in_a_line(run, parts_folder):
    (parts_folder / "nut" / "test" / "dent").mkdir()
    _, _, err = run()
    assert err.splitlines() == [f"anomalyclip: {parts_folder}/nut/test/dent hold no images: half-unpacked?"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "mvtek"], "data set 'mvtek' is unknown; expected one of mvtec, visa"),
        (["--data-dir", "/nowhere"], "/nowhere does not exist"),
        (["--split", "train"], "has no split 'train'"),
        (["--aupro-limit", "0"], "aupro_limit is 0"),
        (["--column", "image"], "expected OURS=THEIRS"),
        (["--device", "cuda:9"], "--device cuda:9 is not there"),
    ],
)
def test_mistakes_end_in_one_line(run, options, message):
    code, _, err = run(*options)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_paper_masks(run, parts_folder, tmp_path):
    for path in parts_folder.rglob("*_mask.png"):
        Image.open(path).point(lambda value: 255 if value else 60).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    assert run(out="ours")[0] == 0
    assert run("--paper-masks", out="theirs")[0] == 0
    assert figures(tmp_path / "ours")["pixel_auroc"] != figures(tmp_path / "theirs")["pixel_auroc"]  # 60 counts there


def test_a_killed_run_goes_on_to_the_same_figures(model_folder, parts_folder, tmp_path):
    """SIGKILL after the first progress is on disk; the same command again ends with what a whole run gives."""
    photo = Image.open(parts_folder / "bolt" / "test" / "good" / "000.png")
    for number in range(100, 400):  # so that the kill comes before the end
        photo.save(parts_folder / "bolt" / "test" / "good" / f"{number}.png")
    program = [sys.executable, "-m", "anomalyclip_hf.cli"]
    killed = command(model_folder, parts_folder, tmp_path / "killed", "--batch-size", 1)
    process = subprocess.Popen([*program, *killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "killed").glob("progress/*.npz")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    subprocess.run([*program, *killed], check=True, capture_output=True)
    whole = command(model_folder, parts_folder, tmp_path / "whole", "--batch-size", 1)
    subprocess.run([*program, *whole], check=True, capture_output=True)
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    assert not (tmp_path / "killed" / "progress").exists()


def test_two_processes_give_the_figures_of_one(run, model_folder, parts_folder, tmp_path):
    assert run("--batch-size", 1, out="one")[0] == 0
    # accelerate calls this launcher so; without a GPU the processes run on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    launch += ["--num_machines=1", "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no"]
    launch += ["-m", "anomalyclip_hf.cli"]
    arguments = command(model_folder, parts_folder, tmp_path / "two", "--batch-size", 1)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    one, two = figures(tmp_path / "one"), figures(tmp_path / "two")
    assert one["notes"] == two["notes"]
    for category in ("bolt", "nut"):
        assert two["per_category"][category] == pytest.approx(one["per_category"][category], abs=1e-9)
    assert done.stdout.count("Percent, of 16 images") == 1
