# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Commands that share their work between two processes give what one process gives."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments, load_anomaly_dataset
from anomalyclip_hf.cli import app


# `anomalyclip evaluate` that is killed as soon as it has saved some progress
KILLED = """
import os, signal
from anomalyclip_hf.cli import main
from anomalyclip_hf.evaluation.progress import Progress

def save_and_kill(progress, counted, save=Progress.save):
    save(progress, counted)
    os.kill(os.getpid(), signal.SIGKILL)

Progress.save = save_and_kill
main()
"""
# Runs several commands, since processes take long to start, and evaluates in the Trainer.
PROGRAM = """
import json, sys
from accelerate import PartialState
from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments, load_anomaly_dataset
from anomalyclip_hf.cli import app

commands, parts, trained = json.loads(sys.argv[1])
for command in commands:
    app(command, standalone_mode=False)
    PartialState().wait_for_everyone()
args = AnomalyCLIPTrainingArguments(trained, report_to="none", cache_dtype="float32", per_device_eval_batch_size=2)
trainer = AnomalyCLIPTrainer(AnomalyCLIPModel.from_pretrained(trained), args)
metrics = trainer.evaluate(load_anomaly_dataset("folder", parts))
if trainer.is_world_process_zero():
    json.dump(metrics, open(f"{trained}/metrics.json", "w"))
"""


@pytest.fixture
def commands(parts_folder, model_folder, clip_folder, tmp_path):
    """Return the arguments of predict, evaluate and train, which write into folders below the given one."""
    (parts_folder / "nut" / "test" / "scratch" / "003.png").unlink()  # 15 images: the last step of training is short
    data = ["--dataset", "folder", "--data-dir", str(parts_folder)]

    def arguments(out: Path, batch_size: int) -> list[list[str]]:
        predict, evaluate, train = (["--output-dir", str(out / name)] for name in ("predict", "evaluate", "train"))
        predict += ["--model", str(model_folder), "--json"]
        evaluate += ["--model", str(model_folder), "--batch-size", "1"]
        train += ["--base-model", str(clip_folder), "--image-size", "40", "--cache-dtype", "float32"]
        train += ["--epochs", "3", "--batch-size", str(batch_size)]
        images = str(parts_folder / "bolt" / "test" / "good")
        return [["predict", images, *predict], ["evaluate", *data, *evaluate], ["train", *data, *train]]

    return arguments


def test_they_predict_train_and_continue_an_evaluation_as_one_does(commands, parts_folder, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    for command in commands(one, batch_size=8):
        app(command, standalone_mode=False)
    scores = json.JSONDecoder().raw_decode(capsys.readouterr().out)[0]

    _, evaluate, _ = commands(two, batch_size=4)
    killed = subprocess.run([sys.executable, "-c", KILLED, *evaluate], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((two / "evaluate" / "progress").glob("*.npz"))
    assert not (two / "evaluate" / "results.json").exists()

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    # The module that `accelerate launch` runs; without a GPU the processes use the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    launch += ["--num_machines=1", "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no"]
    given = json.dumps([commands(two, batch_size=4), str(parts_folder), str(two / "train")])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, str(program), given], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    check_predictions(two / "predict", done.stdout, scores)
    check_evaluation(two / "evaluate", done.stdout, one / "evaluate")
    check_training(two / "train", one / "train", parts_folder)


def check_predictions(folder: Path, printed: str, expected: list[dict]) -> None:
    found, _ = json.JSONDecoder().raw_decode(printed)
    assert printed.count('"image":') == 4  # one process prints
    assert [row["image"] for row in found] == [row["image"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-5)
    with (folder / "scores.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [row["image"] for row in expected]
    assert len(list(folder.glob("*_overlay.jpg"))) == 4


def check_evaluation(folder: Path, printed: str, expected: Path) -> None:
    assert printed.count("15 images") == 1  # one process prints
    assert not (folder / "progress").exists()
    continued, whole = (json.loads((path / "results.json").read_text())["metrics"] for path in (folder, expected))
    assert continued["notes"] == whole["notes"]
    for category in ("bolt", "nut"):
        assert continued["per_category"][category] == pytest.approx(whole["per_category"][category], abs=1e-6)


def check_training(folder: Path, expected: Path, parts_folder: Path) -> None:
    found = load_file(folder / "prompts.safetensors")
    for name, tensor in load_file(expected / "prompts.safetensors").items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)
    args = AnomalyCLIPTrainingArguments(str(expected), report_to="none", cache_dtype="float32")
    trainer = AnomalyCLIPTrainer(AnomalyCLIPModel.from_pretrained(folder), args)
    whole = trainer.evaluate(load_anomaly_dataset("folder", parts_folder))
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro"):
        assert metrics[f"eval_{name}"] == pytest.approx(whole[f"eval_{name}"], abs=1e-4)
