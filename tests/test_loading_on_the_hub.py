# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""To the Hub and back with the real client and a Hub of our own; and without the package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub.hub_server import OTHER_TOKEN, READ_TOKEN
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModel, AutoProcessor, CLIPModel, pipeline

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor, AnomalyDetectionPipeline
from anomalyclip_hf.loading_anomalyclip import CODE_FILES, CUSTOM_PIPELINES, add_code
from conftest import is_same, tiny_model


REPO = "someone/bolts"


@pytest.fixture
def base_repo(hub, clip_folder) -> str:
    """The plain CLIP on the Hub."""
    api = HfApi()
    api.create_repo("someone/clip")
    api.upload_folder(repo_id="someone/clip", folder_path=clip_folder)
    return "someone/clip"


def trained(base: str, **kwargs) -> AnomalyCLIPModel:
    """Prompts on a CLIP, far from where they begin."""
    model = AnomalyCLIPModel.from_clip_pretrained(base, image_size=40, **kwargs)
    for prompt in model.prompt_learner.parameters():
        torch.nn.init.normal_(prompt.data, std=0.5)
    return model


# ------------------------------------------------------------------------------------------------ push and pull


@pytest.mark.parametrize(
    ("push", "pull"),
    [
        ({}, {}),
        ({"revision": "try/other"}, {"revision": "try/other"}),
        ({"subfolder": "prompts/visa"}, {"subfolder": "prompts/visa"}),
        ({"private": True, "commit_message": "First", "commit_description": "Of many."}, {}),
        ({"create_pr": True}, {"revision": "refs/pr/1"}),
        ({"max_shard_size": "100KB"}, {}),
    ],
    ids=["full", "branch", "subfolder", "private", "pull-request", "shards"],
)
def test_a_whole_model_comes_back_bit_for_bit(hub, model, processor, push, pull):
    model.push_to_hub(REPO, **push)
    places = {name: value for name, value in push.items() if name in ("revision", "subfolder")}
    processor.push_to_hub(REPO, **places, create_pr=push.get("create_pr", False))
    loaded = AnomalyCLIPModel.from_pretrained(REPO, **pull)
    assert is_same(model, loaded)
    assert is_same(model, AutoModel.from_pretrained(REPO, **pull))
    assert loaded.num_parameters(only_trainable=True) == model.num_parameters(only_trainable=True) > 0
    if not push.get("create_pr"):
        assert AnomalyCLIPProcessor.from_pretrained(REPO, **pull).smoothing_sigma == processor.smoothing_sigma
    if "commit_message" in push:
        assert HfApi().model_info(REPO).private
        assert ("First", "Of many.") in [(c.title, c.message) for c in HfApi().list_repo_commits(REPO)]


@pytest.mark.parametrize("prompts", ["learned", "ensemble"])
@pytest.mark.parametrize("place", [{}, {"subfolder": "visa"}, {"revision": "branch"}], ids=["root", "sub", "branch"])
def test_prompts_alone_fetch_their_pinned_clip(hub, base_repo, place, prompts):
    if prompts == "learned":
        model = trained(base_repo)
    else:
        model = AnomalyCLIPModel.from_clip_pretrained(base_repo, prompts="ensemble", image_size=40)
    pinned = HfApi().model_info(base_repo).sha
    model.push_to_hub(REPO, prompts_only=True, **place)
    api = HfApi()
    names = api.list_repo_files(REPO, revision=place.get("revision"))
    folder = f"{place['subfolder']}/" if "subfolder" in place else ""
    assert f"{folder}prompts.safetensors" in names
    assert not [name for name in names if name.endswith("model.safetensors")]
    torch.manual_seed(9)  # somebody changes the CLIP; the prompts still get the one they were learned on
    changed = CLIPModel.from_pretrained(base_repo)
    torch.nn.init.normal_(changed.visual_projection.weight)
    changed.push_to_hub(base_repo)
    loaded = AnomalyCLIPModel.from_pretrained(REPO, **place)
    assert (loaded.config.base_model_name_or_path, loaded.config.base_model_revision) == (base_repo, pinned)
    assert is_same(model, loaded)


def test_a_pipeline_goes_and_comes_in_one_commit(hub, model, processor, photo):
    pipe = AnomalyDetectionPipeline(model=model, processor=processor, task="anomaly-detection")
    info = pipe.push_to_hub(REPO)
    assert len(HfApi().list_repo_commits(REPO)) == 2  # that of the empty repository, and ours
    loaded = pipeline(model=REPO, revision=info.oid)  # the task is in the card
    assert type(loaded) is AnomalyDetectionPipeline
    result, expected = loaded(photo), pipe(photo)
    assert result["score"] == pytest.approx(expected["score"], abs=1e-5)
    np.testing.assert_allclose(result["anomaly_map"], expected["anomaly_map"], atol=1e-5)


def test_save_pretrained_pushes_too(hub, tmp_path, base_repo, processor):
    model = trained(base_repo)
    model.save_pretrained(tmp_path / "local", prompts_only=True, push_to_hub=True, repo_id=REPO, private=True)
    processor.save_pretrained(tmp_path / "local", push_to_hub=True, repo_id=REPO)
    assert is_same(model, AnomalyCLIPModel.from_pretrained(REPO))
    assert HfApi().model_info(REPO).private
    assert "processor_config.json" in HfApi().list_repo_files(REPO)
    model.save_pretrained(tmp_path / "screws", push_to_hub=True)
    assert HfApi().repo_exists("someone/screws")


def test_a_second_push_sends_only_what_is_new(hub, model):
    model.push_to_hub(REPO)
    sent = len(hub.asked("PUT /upload/"))
    model.push_to_hub(REPO)
    assert sent == len(hub.asked("PUT /upload/")) == 1


def test_weights_of_another_form_do_not_stay_behind(hub, base_repo):
    model, api = trained(base_repo), HfApi()
    model.push_to_hub(REPO, max_shard_size="100KB")
    assert "model.safetensors.index.json" in api.list_repo_files(REPO)
    model.push_to_hub(REPO, prompts_only=True)
    assert not [name for name in api.list_repo_files(REPO) if name.startswith("model")]
    model.push_to_hub(REPO, subfolder="whole")
    assert {"prompts.safetensors", "whole/model.safetensors"} <= set(api.list_repo_files(REPO))
    model.push_to_hub(REPO)
    assert "prompts.safetensors" not in api.list_repo_files(REPO)
    assert is_same(model, AnomalyCLIPModel.from_pretrained(REPO))


def test_offline_loads_what_was_fetched_and_nothing_else(hub, tmp_path, model, monkeypatch):
    model.push_to_hub(REPO)
    cache = tmp_path / "elsewhere"
    AnomalyCLIPModel.from_pretrained(REPO, cache_dir=cache)
    asked = len(hub.requests)
    loaded = AnomalyCLIPModel.from_pretrained(REPO, cache_dir=cache, local_files_only=True)
    assert is_same(model, loaded)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert is_same(model, AnomalyCLIPModel.from_pretrained(REPO, cache_dir=cache))
    with pytest.raises(OSError, match="couldn't find them in the cached files"):
        AnomalyCLIPModel.from_pretrained(REPO, cache_dir=tmp_path / "empty")
    assert len(hub.requests) == asked


def test_tokens_decide_who_reads_and_writes(hub, model, monkeypatch):
    model.push_to_hub(REPO, private=True)
    with pytest.raises(OSError, match=REPO):
        AnomalyCLIPModel.from_pretrained(REPO, token=OTHER_TOKEN)
    with pytest.raises(HfHubHTTPError, match="403"):
        model.push_to_hub(REPO, token=READ_TOKEN)
    assert AnomalyCLIPModel.from_pretrained(REPO, token=READ_TOKEN).config.image_size == 40
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OSError, match=REPO):
        AnomalyCLIPModel.from_pretrained(REPO, cache_dir=hub.home / "other", token=False)
    hub.home.mkdir(exist_ok=True)
    (hub.home / "token").write_text(READ_TOKEN)  # where `hf auth login` leaves it
    assert AnomalyCLIPModel.from_pretrained(REPO, cache_dir=hub.home / "third").config.image_size == 40


@pytest.mark.parametrize("subfolder", ["../other", "/etc", "a/../../b"])
def test_a_subfolder_stays_in_its_repository(hub, model, subfolder):
    with pytest.raises(ValueError, match="subfolder"):
        model.push_to_hub(REPO, subfolder=subfolder)
    assert not HfApi().repo_exists(REPO)


# ---------------------------------------------------------------------------------------- what is said of a model


def test_paths_of_this_machine_stay_on_it(hub, clip_folder):
    model = trained(str(clip_folder))
    with pytest.raises(ValueError, match="base_model_name_or_path"):
        model.push_to_hub(REPO, prompts_only=True)
    assert not HfApi().repo_exists(REPO)
    model.push_to_hub(REPO)
    path = HfApi().hf_hub_download(REPO, "config.json")
    assert str(clip_folder) not in Path(path).read_text()
    assert is_same(model, AnomalyCLIPModel.from_pretrained(REPO))


def test_the_card_has_what_the_hub_reads(hub, base_repo):
    model, api = trained(base_repo), HfApi()
    model.push_to_hub(REPO, prompts_only=True, tags=["factory"])
    info = api.model_info(REPO)
    assert (info.library_name, info.pipeline_tag) == ("transformers", "anomaly-detection")
    card = ModelCard.load(REPO)
    assert card.data.base_model == base_repo
    assert {"anomalyclip", "zero-shot", "factory"} <= set(card.data.tags)
    assert f'model="{REPO}"' in card.text


def test_a_card_that_is_there_stays(hub, model):
    api = HfApi()
    api.create_repo(REPO)
    own = b"---\nlicense: mit\ntags:\n- mine\n---\n# Mine\nWords.\n"
    api.upload_file(path_or_fileobj=own, path_in_repo="README.md", repo_id=REPO)
    model.push_to_hub(REPO)
    card = ModelCard.load(REPO)
    assert "Words." in card.text
    assert (card.data.license, card.data.library_name) == ("mit", "transformers")
    assert card.data.tags[0] == "mine"


# ------------------------------------------------------------------------------------- without the package


WITHOUT_PACKAGE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "anomalyclip_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
try:
    import anomalyclip_hf
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package is there")

import json
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

photo, *sources = sys.argv[1:]
AutoModel.from_pretrained(sources[0], subfolder="visa", trust_remote_code=True)
rows = []
for source in sources:
    refusals = []
    for trust in (None, False):
        try:
            AutoModel.from_pretrained(source, trust_remote_code=trust)
        except (ValueError, OSError, EOFError) as error:
            refusals.append(str(error).splitlines()[0])
    model = AutoModel.from_pretrained(source, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
    with torch.no_grad():
        score = model(**processor(images=photo)).image_scores.item()
    result = pipeline(model=source, trust_remote_code=True)(photo)
    kinds = [type(model).__module__.split(".")[0], type(processor).__name__]
    rows.append([source, refusals, kinds, score, result["score"]])
    model.save_pretrained(source.replace("/", "_") + "_again")
json.dump(rows, open("rows.json", "w"))
"""


def test_loading_without_the_package(hub, tmp_path, base_repo, processor, photo):
    pipe = AnomalyDetectionPipeline(model=trained(base_repo), processor=processor, task="anomaly-detection")
    folder, prompts = str(tmp_path / "folder"), "someone/prompts"
    pipe.save_pretrained(folder, include_code=True)
    pipe.push_to_hub(REPO, include_code=True)
    pipe.push_to_hub(REPO, include_code=True, subfolder="visa")
    pipe.push_to_hub(prompts, include_code=True, prompts_only=True)
    photo.save(tmp_path / "photo.png")
    environment = {**hub.environment, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path / "photo.png"), REPO, prompts, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, input="n\n" * 3)
    assert done.returncode == 0, done.stderr
    expected = pipe(str(tmp_path / "photo.png"))["score"]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [source for source, *_ in rows] == [REPO, prompts, folder]
    for _, refusals, kinds, score, of_pipeline in rows:
        assert any("custom code" in line for line in refusals)
        assert kinds == ["transformers_modules", "AnomalyCLIPProcessor"]
        assert score == pytest.approx(expected, abs=1e-6)
        assert of_pipeline == pytest.approx(expected, abs=1e-6)


def test_where_the_package_is_its_own_code_is_used(tmp_path, model_folder, photo):
    for loaded in (AnomalyCLIPModel.from_pretrained(model_folder), AnomalyCLIPProcessor.from_pretrained(model_folder)):
        loaded.save_pretrained(tmp_path / "shared", include_code=True)
    for name in CODE_FILES:
        assert (tmp_path / "shared" / name).exists()
        (tmp_path / "shared" / name).write_text("raise RuntimeError('ran')")
    for trust in (None, False, True):
        source = str(tmp_path / "shared")
        assert type(AutoModel.from_pretrained(source, trust_remote_code=trust)) is AnomalyCLIPModel
        assert type(AutoProcessor.from_pretrained(source, trust_remote_code=trust)) is AnomalyCLIPProcessor
        loaded = pipeline("anomaly-detection", model=source, trust_remote_code=trust)
        assert type(loaded) is AnomalyDetectionPipeline


def test_code_goes_along_only_when_asked_for(tmp_path, model, model_folder):
    assert not list(model_folder.glob("*.py"))
    assert "auto_map" not in json.loads((model_folder / "config.json").read_text())
    add_code(model_folder)
    assert json.loads((model_folder / "config.json").read_text())["custom_pipelines"] == CUSTOM_PIPELINES
    AnomalyCLIPModel.from_pretrained(model_folder).save_pretrained(tmp_path / "again")
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_ensemble_models_are_shared_too(hub):
    model = tiny_model(prompts="ensemble")
    model.prompt_ensemble.text_embeds.normal_(generator=torch.Generator().manual_seed(1))
    model.push_to_hub(REPO, include_code=True)
    assert is_same(model, AnomalyCLIPModel.from_pretrained(REPO))


# ------------------------------------------------------------------------------------------------- one commit


def test_prompts_get_the_commit_of_their_clip(hub, base_repo):
    commit = HfApi().model_info(base_repo).sha
    model = trained(base_repo)
    assert model.config.base_model_revision == commit
    model.push_to_hub(REPO, prompts_only=True)
    hub.storage.put(base_repo, {"model.safetensors": b"another CLIP"})
    assert is_same(AnomalyCLIPModel.from_pretrained(REPO), model)


def test_all_files_are_of_one_commit(hub, model_repo, monkeypatch):
    """A push between the configuration and the weights changes nothing for the one who loads."""
    load = AnomalyCLIPConfig.from_dict.__func__

    def push_meanwhile(cls, config_dict, **kwargs):
        hub.storage.put(model_repo, {"model.safetensors": b"another model", "config.json": b"{}"})
        return load(cls, config_dict, **kwargs)

    monkeypatch.setattr(AnomalyCLIPConfig, "from_dict", classmethod(push_meanwhile))
    assert is_same(AnomalyCLIPModel.from_pretrained(model_repo), tiny_model())


def test_without_a_connection_the_cache_is_enough(hub, model_repo, waits):
    for path in HfApi().list_repo_files(model_repo):  # as `hf download` does: prompts are never asked for
        HfApi().hf_hub_download(model_repo, path)
    hub.stop()
    assert is_same(AnomalyCLIPModel.from_pretrained(model_repo), tiny_model())


def test_the_configuration_may_come_from_elsewhere(hub, model_repo, model_folder):
    hub.storage.put("someone/settings", {"config.json": (model_folder / "config.json").read_bytes()})
    for config in ("someone/settings", str(model_folder)):
        assert is_same(AnomalyCLIPModel.from_pretrained(model_repo, config=config), tiny_model())


def test_other_folders_of_the_repository_keep_their_weights(hub, model):
    model.push_to_hub(REPO, subfolder="models/visa")
    model.push_to_hub(REPO, max_shard_size="100KB")
    assert "models/visa/model.safetensors" in HfApi().list_repo_files(REPO)
