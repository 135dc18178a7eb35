# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import sys

import pytest
import torch
from fixtures.reference_weights import clip_state_dict, prompt_state_dict

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.cli import main


@pytest.fixture
def published(tmp_path):
    """A CLIP and a prompt file as they are published."""
    torch.save(clip_state_dict(vw=64, vl=2, patch=8, res=32, tw=64, tl=3, embed=16), tmp_path / "clip.pt")
    torch.save({"prompt_learner": prompt_state_dict(64, 6, 3, 2)}, tmp_path / "epoch_15.pth")
    return tmp_path


@pytest.fixture
def run(published, monkeypatch, capsys):
    def run_convert(*arguments):
        monkeypatch.chdir(published)
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "convert", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_convert


def test_a_folder_that_loads(run, published):
    code, out, _ = run("clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "model", "--image-size", "48",
                       "--feature-layer", "1", "--feature-layer", "2", "--dpam-layers", "1")  # fmt: skip
    assert code == 0
    assert "from_pretrained" in out
    model = AnomalyCLIPModel.from_pretrained(published / "model")
    assert (model.config.image_size, model.config.feature_layers, model.config.dpam_layers) == (48, [1, 2], 1)
    assert AnomalyCLIPProcessor.from_pretrained(published / "model").size == (48, 48)
    assert not list(published.glob(".*partial*"))


def test_prompts_only(run, published):
    code, _, _ = run("clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "model", "--prompts-only",
                     "--base-model", "openai/clip-vit-base-patch16")  # fmt: skip
    assert code == 0
    assert {path.name for path in (published / "model").iterdir()} == {
        "config.json",
        "processor_config.json",
        "prompts.safetensors",
    }


def test_an_anomalyclip_is_blamed_and_not_its_prompts(run, published):
    assert run("clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "model")[0] == 0
    for name in ("model", str(published / "model")):
        code, _, err = run(name, "--prompts", "epoch_15.pth", "--output-dir", "again")
        assert code == 2
        assert "AnomalyCLIPModel.from_pretrained" in err
        assert "epoch_15.pth" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clip.pt", "--prompts", "gone.pth", "--output-dir", "new"], "gone.pth does not exist"),
        (["gone.pt", "--output-dir", "new"], "gone.pt does not exist"),
        (["epoch_15.pth", "--output-dir", "new"], "'prompt_learner' is a dict"),
        (["clip.pt", "--prompts", "clip.pt", "--output-dir", "new"], "lacks ctx_pos"),
        (
            ["clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "new", "--feature-layer", "30"],
            "feature_layers is",
        ),
        (["clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "new", "--image-size", "45"], "image_size is 45"),
        (["clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "new", "--prompts-only"], "--base-model"),
        (["clip.pt", "--prompts", "epoch_15.pth", "--output-dir", "."], "is not an empty folder"),
    ],
)
def test_mistakes_leave_nothing_behind(run, published, arguments, words):
    code, _, err = run(*arguments)
    assert code == 2
    *notes, line = err.strip().splitlines()
    assert words in line
    assert all("not a file that OpenAI publishes" in note for note in notes)
    assert {path.name for path in published.iterdir()} == {"clip.pt", "epoch_15.pth"}
