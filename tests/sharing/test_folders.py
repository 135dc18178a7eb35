# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Folders to the Hub and back, against a Hub of our own."""

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.sharing.folders import CheckpointFolder, pull_checkpoint


REPO = "someone/bolts"


def test_what_belongs_to_a_checkpoint_is_shared_and_no_more(hub, model_folder):
    for stray in ("optimizer.pt", "training_args.bin", "notes.doc"):
        (model_folder / stray).write_text("mine")
    (model_folder / "_features").mkdir()
    (model_folder / "_features" / "model.safetensors").write_text("mine")
    (model_folder / "checkpoint-3").mkdir()
    CheckpointFolder(model_folder).push_to_hub(REPO)
    assert set(HfApi().list_repo_files(REPO)) == {
        *(".gitattributes", "README.md", "config.json", "model.safetensors", "processor_config.json")
    }
    assert HfApi().list_repo_commits(REPO)[0].title == f"Upload {model_folder.name}"


def test_the_folder_is_not_changed_but_for_its_card(hub, model_folder):
    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    CheckpointFolder(model_folder).push_to_hub(REPO, include_code=True)
    after = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    assert after.keys() - before.keys() == {"README.md"}
    assert {name: after[name] for name in before} == before
    assert "modeling_anomalyclip.py" in HfApi().list_repo_files(REPO)


def test_a_card_in_the_folder_goes_along(hub, model_folder):
    (model_folder / "README.md").write_text("---\nlicense: mit\n---\n# Bolts\nMade by us.\n")
    CheckpointFolder(model_folder).push_to_hub(REPO, tags=["bolts"])
    card = ModelCard.load(REPO)
    assert "Made by us." in card.text
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "anomaly-detection")
    assert "bolts" in card.data.tags


def test_pulling_makes_a_folder_that_needs_no_hub(hub, tmp_path, clip_folder, monkeypatch):
    api = HfApi()
    api.create_repo("someone/clip")
    api.upload_folder(repo_id="someone/clip", folder_path=clip_folder)
    model = AnomalyCLIPModel.from_clip_pretrained("someone/clip", image_size=40)
    model.push_to_hub(REPO, prompts_only=True, subfolder="visa")
    pulled = pull_checkpoint(REPO, tmp_path / "model", subfolder="visa")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "model")
    assert AnomalyCLIPProcessor.from_pretrained(tmp_path / "model").size == (40, 40)
    assert len(hub.requests) == asked
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
        assert torch.equal(tensor, pulled.state_dict()[name])


def test_a_pull_that_fails_leaves_nothing(hub, tmp_path):
    with pytest.raises(OSError, match="nobody/nothing"):
        pull_checkpoint("nobody/nothing", tmp_path / "model")
    assert not list(tmp_path.glob("*model*"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="full"):
        pull_checkpoint(REPO, tmp_path / "full")


def test_folders_that_are_no_checkpoint(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match="nothing"):
        CheckpointFolder(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"config\.json"):
        CheckpointFolder(tmp_path)
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights"):
        CheckpointFolder(model_folder)
