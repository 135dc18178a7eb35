# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
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


def assert_same(first, second, tolerance):
    for name, tensor in prompts(first).items():
        torch.testing.assert_close(prompts(second)[name], tensor, rtol=tolerance, atol=tolerance)


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_trained_and_saved_with_its_settings(run, tmp_path):
    options = ["--feature-layer", 2, "--feature-layer", 4, "--pixel-loss-weight", 0, "--license", "mit"]
    code, err = run("--epochs", 2, *options)
    assert code == 0
    assert str(tmp_path / "out") in err
    config = AnomalyCLIPModel.from_pretrained(tmp_path / "out").config
    assert config.input_size == (40, 40)
    assert list(config.feature_layers) == [2, 4]
    assert config.pixel_loss_weight == 0
    assert "license: mit" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--dataset", "mvtec"], "2 --dataset and 1 --data-dir"),
        (["--epochs", 0], "epochs"),
        (["--category", "screw"], "'screw'"),
        (["--learning-rate", 1e30], "the loss is"),
        (["--image-size", 41], "41"),
    ],
)
def test_mistakes_end_in_one_line(run, options, name):
    code, err = run("--epochs", 9, *options)
    assert code == 2
    assert name in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_earlier_training_is_kept_unless_it_is_resumed(run, tmp_path):
    assert run("--epochs", 1)[0] == 0
    before = files(tmp_path / "out")
    code, err = run("--epochs", 1, "--seed", 7)
    assert code == 2
    assert "--resume" in err
    assert files(tmp_path / "out") == before
    assert run("--epochs", 2, "--resume")[0] == 0
    assert files(tmp_path / "out") != before


def test_an_output_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, err = run()
    assert code == 2
    assert "out" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_full_disk_leaves_no_partial_files(run, tmp_path):
    """No file may grow beyond 20 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        code, err = run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "File too large" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not files(tmp_path / "out")


def test_a_killed_run_resumes_to_the_same_prompts(run, clip_folder, parts_folder, tmp_path):
    arguments = command(clip_folder, parts_folder, tmp_path / "killed", "--epochs", 12)
    process = subprocess.Popen([sys.executable, "-m", "anomalyclip_hf.cli", *arguments], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((tmp_path / "killed").glob("checkpoint-*/complete.json"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "prompts.safetensors").exists()
    assert run("--epochs", 12, "--resume", out="killed")[0] == 0
    assert run("--epochs", 12, out="whole")[0] == 0
    assert_same(tmp_path / "whole", tmp_path / "killed", tolerance=1e-5)
