# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from anomalyclip_hf import AnomalyCLIPModel
from anomalyclip_hf.cli import main


def command(clip_folder, parts_folder, out, *more) -> list[str]:
    options = {"--base-model": clip_folder, "--dataset": "folder", "--data-dir": parts_folder, "--output-dir": out}
    options |= {"--image-size": 40, "--cache-dtype": "float32"}
    return ["train", *(str(word) for pair in options.items() for word in pair), *map(str, more)]


@pytest.fixture
def run(clip_folder, parts_folder, tmp_path, monkeypatch, capsys):
    """Run `anomalyclip train` in this process; gives exit code and standard error."""

    def run_train(*more, out="out"):
        monkeypatch.setattr(sys, "argv", ["anomalyclip", *command(clip_folder, parts_folder, tmp_path / out, *more)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return run_train


def prompts(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "prompts.safetensors")


def assert_same(first, second, tolerance=0.0):
    for name, tensor in prompts(first).items():
        torch.testing.assert_close(prompts(second)[name], tensor, rtol=tolerance, atol=tolerance)


def test_a_model_comes_out(run, tmp_path):
    code, err = run("--epochs", 2)
    assert code == 0
    assert f"The model is in {tmp_path}/out" in err
    model = AnomalyCLIPModel.from_pretrained(tmp_path / "out")
    assert model.config.input_size == (40, 40)


def test_settings_reach_the_model(run, tmp_path):
    assert run("--epochs", 1, "--feature-layer", 2, "--feature-layer", 4, "--pixel-loss-weight", 0)[0] == 0
    config = AnomalyCLIPModel.from_pretrained(tmp_path / "out").config
    assert list(config.feature_layers) == [2, 4]
    assert config.pixel_loss_weight == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "mvtec"], "got 2 --dataset and 1 --data-dir"),
        (["--epochs", 0], "--epochs is 0; expected a number above 0"),
        (["--epochs", "nan"], "--epochs is nan"),
        (["--category", "screw"], "has no category 'screw'"),
        (["--learning-rate", 1e30], "the loss is"),
        (["--image-size", 41], "41"),
    ],
)
def test_mistakes_end_in_one_line(run, options, message):
    code, err = run("--epochs", 9, *options)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_of_an_earlier_training_is_overwritten(run, tmp_path):
    assert run("--epochs", 1)[0] == 0
    before = files(tmp_path / "out")
    code, err = run("--epochs", 1, "--seed", 7)
    assert code == 2
    assert "holds config.json already" in err
    assert "--resume" in err
    assert files(tmp_path / "out") == before
    assert run("--epochs", 2, "--resume")[0] == 0
    assert files(tmp_path / "out") != before


def test_a_model_without_checkpoints_is_not_trained_anew(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    code, err = run("--epochs", 1, "--resume")
    assert code == 2
    assert "no checkpoint that is whole" in err
    assert (tmp_path / "out" / "config.json").read_text() == "{}"


def test_checkpoints_of_a_stopped_training_are_kept(run, tmp_path):
    (tmp_path / "out" / "checkpoint-3").mkdir(parents=True)
    code, err = run("--epochs", 1)
    assert code == 2
    assert "holds checkpoint-3 already" in err
    assert "--resume" in err


@pytest.mark.parametrize(
    "name", ["README.md", "training.json", "model.safetensors", "checkpoint-2/trainer_state.json"]
)
def test_files_of_another_origin_are_kept(run, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    for options in ([], ["--resume"]):
        code, err = run("--epochs", 1, *options)
        assert code == 2
        assert f"holds {name} already and no checkpoint that is whole; choose another --output-dir." in err
    assert files(tmp_path / "out") == {name: b"mine"}


def test_a_checkpoint_that_was_never_finished_is_begun_again(run, tmp_path):
    (tmp_path / "out" / "checkpoint-2").mkdir(parents=True)
    assert run("--epochs", 1, "--resume")[0] == 0
    assert prompts(tmp_path / "out")


def test_an_output_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, err = run()
    assert code == 2
    assert "out" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_disk_that_fills_up(clip_folder, parts_folder, tmp_path):
    """Writing fails half-way, here since no file may grow beyond 20 kB; nothing half-written stays."""
    arguments = command(clip_folder, parts_folder, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "anomalyclip_hf.cli", *arguments],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2
    assert ": File too large; raise the limit" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_killed_run_resumes_to_the_same_prompts(clip_folder, parts_folder, tmp_path):
    """SIGKILL between checkpoints; --resume ends with exactly what an uninterrupted run gives."""
    program = [sys.executable, "-m", "anomalyclip_hf.cli"]
    arguments = command(clip_folder, parts_folder, tmp_path / "killed", "--epochs", 60, "--resume")
    process = subprocess.Popen([*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "killed").glob("checkpoint-*/complete.json"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "prompts.safetensors").exists()
    subprocess.run([*program, *arguments], check=True, capture_output=True)
    whole = command(clip_folder, parts_folder, tmp_path / "whole", "--epochs", 60)
    subprocess.run([*program, *whole], check=True, capture_output=True)
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_two_processes_learn_what_one_does(run, clip_folder, parts_folder, tmp_path):
    (parts_folder / "nut" / "test" / "scratch" / "003.png").unlink()  # 15 images: the last step is short
    assert run("--epochs", 3, out="one")[0] == 0
    # accelerate calls this launcher so; without a GPU the processes run on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    launch += ["--num_machines=1", "--main_process_port=0", "--mixed_precision=no", "--dynamo_backend=no"]
    launch += ["-m", "anomalyclip_hf.cli"]
    arguments = command(clip_folder, parts_folder, tmp_path / "two", "--epochs", 3, "--batch-size", 4)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "one", tmp_path / "two", tolerance=1e-5)
