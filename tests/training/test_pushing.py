# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Pushing from the trainer, to a Hub of our own."""

import json
import sys

import pytest
import torch
from hub.hub_server import Fault
from huggingface_hub import HfApi, ModelCard

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments
from anomalyclip_hf.cli import main
from anomalyclip_hf.sharing.model_card import TRAINING_FILE
from conftest import tiny_model


REPO = "someone/bolts"


@pytest.fixture
def make_trainer(hub, parts, tmp_path):
    def make(model, **settings):
        defaults = {"num_train_epochs": 2, "report_to": "none", "disable_tqdm": True, "hub_model_id": REPO}
        args = AnomalyCLIPTrainingArguments(str(tmp_path / "out"), **(defaults | settings))
        return AnomalyCLIPTrainer(model, args, train_dataset=parts)

    return make


@pytest.fixture
def on_hub_clip(hub, clip_folder) -> AnomalyCLIPModel:
    api = HfApi()
    api.create_repo("someone/clip")
    api.upload_folder(repo_id="someone/clip", folder_path=clip_folder)
    return AnomalyCLIPModel.from_clip_pretrained("someone/clip", image_size=40)


def assert_same_prompts(model, loaded):
    for name, tensor in model.prompt_learner.state_dict().items():
        assert torch.equal(tensor, loaded.prompt_learner.state_dict()[name])


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_trained_prompts_are_pushed(make_trainer, on_hub_clip, tmp_path, strategy):
    trainer = make_trainer(on_hub_clip, push_to_hub=True, hub_strategy=strategy, hub_private_repo=True)
    trainer.train()
    trainer.push_to_hub(license="mit", dataset_tags="someone/parts", tags=["bolts"])
    api, loaded = HfApi(), AnomalyCLIPModel.from_pretrained(REPO)
    assert_same_prompts(on_hub_clip, loaded)
    assert loaded.config.base_model_name_or_path == "someone/clip"
    names = set(api.list_repo_files(REPO))
    assert {"prompts.safetensors", "config.json", "processor_config.json", "README.md", TRAINING_FILE} <= names
    assert (tmp_path / "out" / "_features").is_dir()
    assert not [name for name in names if name.startswith("_features")]
    assert api.model_info(REPO).private
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"end": set(), "every_save": set(), "checkpoint": {"last-checkpoint"}}.get(
        strategy, {"checkpoint-2", "checkpoint-4"}
    )
    titles = [commit.title for commit in api.list_repo_commits(REPO)]
    assert any("Training in progress" in title for title in titles) == (strategy != "end")
    card = ModelCard.load(REPO)
    assert (card.data.license, card.data.datasets, card.data.base_model) == ("mit", ["someone/parts"], "someone/clip")
    assert all(word in card.text for word in ("16 images", "8 normal", "8 anomalous", "bolt, nut"))
    assert "| epochs | 2 |" in card.text
    assert "| optimiser | adamw, " in card.text


def test_every_push_during_training_can_be_loaded(make_trainer, on_hub_clip):
    trainer = make_trainer(on_hub_clip, push_to_hub=True)
    trainer.train()
    trainer.push_to_hub()
    pushes = HfApi().list_repo_commits(REPO)[:-1]  # without the commit that created the repository
    assert len(pushes) >= 2
    for commit in pushes:
        assert AnomalyCLIPModel.from_pretrained(REPO, revision=commit.commit_id).config.prompts == "learned"


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [({"hub_strategy": "all_checkpoints"}, {1, 2, 3}), ({"hub_always_push": True}, {1, 2, 3}), ({}, {1})],
)
def test_pushes_over_a_slow_network(hub, make_trainer, on_hub_clip, settings, epochs):
    hub.faults.append(Fault("POST .*/commit/", delay=0.4, times=None))
    trainer = make_trainer(on_hub_clip, push_to_hub=True, num_train_epochs=3, **settings)
    trainer.train()
    trainer.push_to_hub()
    titles = {commit.title for commit in HfApi().list_repo_commits(REPO)}
    assert {f"Training in progress, epoch {epoch}" for epoch in epochs} <= titles
    assert_same_prompts(on_hub_clip, AnomalyCLIPModel.from_pretrained(REPO))


def test_training_resumes_from_a_pushed_checkpoint(make_trainer, on_hub_clip, tmp_path):
    trainer = make_trainer(on_hub_clip, push_to_hub=True, hub_strategy="all_checkpoints")
    trainer.train()
    trainer.push_to_hub()
    fetched = HfApi().snapshot_download(REPO, allow_patterns="checkpoint-2/*", local_dir=tmp_path / "fetched")
    again = AnomalyCLIPModel.from_clip_pretrained("someone/clip", image_size=40)
    second = make_trainer(again)
    second.train(resume_from_checkpoint=f"{fetched}/checkpoint-2")
    assert_same_prompts(on_hub_clip, again)


def test_a_model_whose_clip_is_not_on_the_hub_is_pushed_whole(make_trainer, clip_folder):
    for model in (tiny_model(), AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40)):
        trainer = make_trainer(model, push_to_hub=True, hub_strategy="end", num_train_epochs=1, include_code=True)
        trainer.train()
        trainer.push_to_hub()
        names = HfApi().list_repo_files(REPO)
        assert {"model.safetensors", "modeling_anomalyclip.py"} <= set(names)
        assert str(clip_folder) not in json.dumps(HfApi().model_info(REPO).config or {})
        assert_same_prompts(model, AnomalyCLIPModel.from_pretrained(REPO))


def test_prompts_that_nobody_could_load_are_refused_before_training(make_trainer, clip_folder):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40)
    with pytest.raises(ValueError, match="prompts_only=False"):
        make_trainer(model, push_to_hub=True, prompts_only=True)
    trainer = make_trainer(model)
    with pytest.raises(ValueError, match="on this machine"):
        trainer.push_to_hub()
    assert not HfApi().repo_exists(REPO)


def test_the_command_line_pushes_and_writes_cards(on_hub_clip, parts_folder, tmp_path, monkeypatch):
    def run(*more):
        options = ["--base-model", "someone/clip", "--dataset", "folder", "--data-dir", parts_folder]
        options += ["--image-size", 40, "--epochs", 1, "--license", "mit", *more]
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "train", *map(str, options)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code

    assert run("--output-dir", tmp_path / "local") == 0
    assert ModelCard.load(tmp_path / "local" / "README.md").data.license == "mit"
    assert run("--output-dir", tmp_path / "pushed", "--push-to-hub", REPO, "--private") == 0
    assert ModelCard.load(REPO).data.license == "mit"
    assert HfApi().model_info(REPO).private
    local = AnomalyCLIPModel.from_pretrained(tmp_path / "local")
    assert_same_prompts(local, AnomalyCLIPModel.from_pretrained(REPO))
