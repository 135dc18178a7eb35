# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Loading from the Hub: one commit, checked files; the Hub is the one of tests/hub, the client the real one."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from hub.hub_server import Fault
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from transformers import AutoConfig, AutoModel, AutoProcessor

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.hub_files_anomalyclip import find_commit, find_file, pin_commit
from conftest import maps_of, tiny_model


def spoil(path: str | os.PathLike) -> None:
    """Turn one byte in the middle of a file, wherever links lead."""
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 0x01
    Path(path).write_bytes(data)


def cached(repo: str, name: str) -> Path:
    path = try_to_load_from_cache(repo, name)
    assert isinstance(path, str), f"{name} is not in the cache"
    return Path(path)


def is_right(model: AnomalyCLIPModel) -> bool:
    return torch.equal(maps_of(model), maps_of(tiny_model()))


def put_folder(hub, repo: str, folder: Path) -> str:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.storage.put(repo, files)
    return repo


# ----------------------------------------------------------------------------------------------------- finding files


def test_files_of_a_folder_and_of_nothing(model_folder):
    assert find_file(model_folder, "config.json") == str(model_folder / "config.json")
    assert find_file(model_folder, "prompts.safetensors") is None
    assert find_file(model_folder.parent, "config.json", subfolder="model") == str(model_folder / "config.json")
    assert find_file(None, "config.json") is None
    assert pin_commit(model_folder, {"token": "x"}) == {"token": "x"}
    assert find_commit(None) is None


@pytest.mark.parametrize("source", ["/not/there", "./not-there", "a/b/c", "with blank/model"])
def test_what_is_neither_a_folder_nor_an_id_is_named(source):
    for load in (AnomalyCLIPModel.from_pretrained, AnomalyCLIPModel.from_clip_pretrained):
        with pytest.raises(OSError, match=f"^{source} does not exist; expected the folder of a model, or a Hub id"):
            load(source)
    with pytest.raises(OSError, match=f"^{source} does not exist"):
        AnomalyCLIPProcessor.from_pretrained(source)


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "clip.pt").touch()
    with pytest.raises(OSError, match="clip.pt is a file; expected the folder of a model"):
        AnomalyCLIPModel.from_clip_pretrained(str(tmp_path / "clip.pt"))


def test_an_id_is_named_where_there_is_no_connection():
    with pytest.raises(OSError, match="^nobody/nothing is no folder here, and cannot be fetched: ") as caught:
        AnomalyCLIPModel.from_pretrained("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_what_a_repository_lacks_is_asked_once_for_each_commit(hub, model_repo):
    where = pin_commit(model_repo, {})
    assert [find_file(model_repo, "prompts.safetensors", **where) for _ in range(3)] == [None] * 3
    assert len(hub.asked("HEAD .*/prompts.safetensors")) == 1
    hub.storage.put(model_repo, {"prompts.safetensors": b"new"})
    assert Path(find_file(model_repo, "prompts.safetensors")).read_bytes() == b"new"


def test_an_answer_of_trouble_is_not_taken_for_a_missing_file(hub, model_repo, waits):
    hub.faults.append(Fault("HEAD .*/prompts.safetensors", status=503, times=None))
    with pytest.raises(OSError, match=r"the Hub did not deliver prompts.safetensors of someone/model: .*503"):
        AnomalyCLIPModel.from_pretrained(model_repo)


def test_without_a_connection_the_cache_is_enough(hub, model_repo, waits):
    for path in HfApi().list_repo_files(model_repo):  # as `hf download` does: prompts are never asked for
        hf_hub_download(model_repo, path)
    hub.stop()
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo))


def test_a_repository_without_weights_says_so(hub):
    hub.storage.put("someone/empty", {"config.json": tiny_model().config.to_json_string().encode()})
    with pytest.raises(OSError, match="someone/empty has no weights; expected one of model.safetensors"):
        AnomalyCLIPModel.from_pretrained("someone/empty")


def test_all_files_are_of_one_commit(hub, model_repo, monkeypatch):
    """A push between the configuration and the weights changes nothing for who is loading."""
    load = AnomalyCLIPConfig.from_dict.__func__

    def push_meanwhile(cls, config_dict, **kwargs):
        hub.storage.put(model_repo, {"model.safetensors": b"another model", "config.json": b"{}"})
        return load(cls, config_dict, **kwargs)

    monkeypatch.setattr(AnomalyCLIPConfig, "from_dict", classmethod(push_meanwhile))
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo))


def test_what_is_cached_costs_one_request(hub, model_repo):
    AnomalyCLIPModel.from_pretrained(model_repo)
    before = len(hub.requests)
    AnomalyCLIPModel.from_pretrained(model_repo)
    assert [str(request) for request in hub.requests[before:]] == [f"HEAD /{model_repo}/resolve/main/config.json"]


def test_a_forced_download_fetches_weights_once(hub, model_repo):
    AnomalyCLIPModel.from_pretrained(model_repo)
    spoil(cached(model_repo, "model.safetensors"))
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo, force_download=True))
    assert len(hub.asked("GET /files/.*model.safetensors")) == 2


def test_the_configuration_may_come_from_elsewhere(hub, model_repo, model_folder):
    hub.storage.put("someone/settings", {"config.json": (model_folder / "config.json").read_bytes()})
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo, config="someone/settings"))
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo, config=str(model_folder)))


# ----------------------------------------------------------------------------------------------------- damaged files


def test_the_cache_is_laid_out_as_the_check_takes_it_to_be(hub, model_repo):
    AnomalyCLIPModel.from_pretrained(model_repo)
    for name, command in (("model.safetensors", ["sha256sum"]), ("config.json", ["git", "hash-object"])):
        path = cached(model_repo, name)
        assert path.is_symlink()
        assert path.resolve().parent.name == "blobs"
        done = subprocess.run([*command, path], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == path.resolve().name


@pytest.mark.parametrize("load", [AnomalyCLIPModel.from_pretrained, AutoModel.from_pretrained])
def test_damaged_weights_never_load(hub, model_repo, load):
    load(model_repo)
    spoil(cached(model_repo, "model.safetensors"))
    blob = cached(model_repo, "model.safetensors").resolve()
    with pytest.raises(OSError, match="model.safetensors of someone/model is damaged: .* load it again") as caught:
        load(model_repo, local_files_only=True)
    assert "\n" not in str(caught.value)
    assert not blob.exists()
    with pytest.raises(OSError, match="has no weights"):
        load(model_repo, local_files_only=True)
    assert is_right(load(model_repo))


def test_damaged_weights_are_fetched_again_where_the_hub_is_there(hub, model_repo):
    AnomalyCLIPModel.from_pretrained(model_repo)
    spoil(cached(model_repo, "model.safetensors"))
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo))
    assert len(hub.asked("GET /files/.*model.safetensors")) == 2


@pytest.mark.parametrize(
    "load",
    [
        AnomalyCLIPModel.from_pretrained,
        AutoModel.from_pretrained,
        AnomalyCLIPConfig.from_pretrained,
        AnomalyCLIPProcessor.from_pretrained,
        AutoProcessor.from_pretrained,
    ],
)
def test_a_damaged_configuration_never_loads(hub, model_repo, load):
    load(model_repo)
    find_commit(model_repo)  # whoever reads it has it in the cache
    config = cached(model_repo, "config.json")
    config.write_bytes(config.read_bytes().replace(b'"temperature": 0.07', b'"temperature": 0.08'))
    with pytest.raises(OSError, match=r"config.json of someone/model is damaged"):
        load(model_repo)
    load(model_repo)
    assert AutoConfig.from_pretrained(model_repo).temperature == 0.07


def test_a_damaged_processor_is_fetched_again(hub, model_repo):
    AnomalyCLIPProcessor.from_pretrained(model_repo)
    path = cached(model_repo, "processor_config.json")
    path.write_bytes(path.read_bytes().replace(b'"smoothing_sigma": 1.0', b'"smoothing_sigma": 9.0'))
    assert AnomalyCLIPProcessor.from_pretrained(model_repo).smoothing_sigma == 1.0


def test_a_hub_that_sends_the_wrong_content_is_not_believed(hub, model_repo):
    hub.faults.append(Fault("GET /files/", spoiled=True, times=2))
    with pytest.raises(OSError, match="model.safetensors of someone/model is damaged"):
        AnomalyCLIPModel.from_pretrained(model_repo)
    assert try_to_load_from_cache(model_repo, "model.safetensors") is None
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo))


@pytest.mark.parametrize("subfolder", ["", "tower"])
def test_every_shard_is_checked(hub, tmp_path, subfolder):
    folder = tmp_path / "sharded" / subfolder
    tiny_model().save_pretrained(folder, max_shard_size="100KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    repo = put_folder(hub, "someone/sharded", tmp_path / "sharded")
    assert is_right(AnomalyCLIPModel.from_pretrained(repo, subfolder=subfolder))
    for name in (shards[-1], "model.safetensors.index.json"):
        spoil(cached(repo, f"{subfolder}/{name}".lstrip("/")))
        with pytest.raises(OSError, match=f"{name} of someone/sharded is damaged"):
            AnomalyCLIPModel.from_pretrained(repo, subfolder=subfolder, local_files_only=True)
        assert is_right(AnomalyCLIPModel.from_pretrained(repo, subfolder=subfolder))


def test_weights_of_other_names_are_checked(hub, model_repo, model_folder, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "variant", variant="small")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    config, binary = (model_folder / "config.json").read_bytes(), (tmp_path / "pytorch_model.bin").read_bytes()
    variant = put_folder(hub, "someone/variant", tmp_path / "variant")
    hub.storage.put("someone/bin", {"config.json": config, "pytorch_model.bin": binary})
    for repo, name in ((variant, "model.small.safetensors"), ("someone/bin", "pytorch_model.bin")):
        options = {"variant": "small"} if "small" in name else {}
        assert is_right(AnomalyCLIPModel.from_pretrained(repo, **options))
        spoil(cached(repo, name))
        with pytest.raises(OSError, match=f"{name} of {repo} is damaged"):
            AnomalyCLIPModel.from_pretrained(repo, local_files_only=True, **options)


def test_the_clip_under_prompts_is_checked_and_pinned(hub, clip_folder, tmp_path):
    clip = put_folder(hub, "openai/clip", clip_folder)
    model = AnomalyCLIPModel.from_clip_pretrained(clip, deep_prompt_depth=3, image_size=40)
    commit = HfApi().model_info(clip).sha
    assert model.config.base_model_revision == commit
    model.save_pretrained(tmp_path / "prompts", prompts_only=True)
    prompts = put_folder(hub, "someone/prompts", tmp_path / "prompts")
    hub.storage.put(clip, {"model.safetensors": b"another CLIP"})
    expected = maps_of(model)  # now: its weights are the cached file itself, mapped into memory
    assert torch.equal(maps_of(AnomalyCLIPModel.from_pretrained(prompts)), expected)
    for repo, name in ((clip, "model.safetensors"), (prompts, "prompts.safetensors")):
        spoil(try_to_load_from_cache(repo, name, revision=commit if repo == clip else "main"))
        with pytest.raises(OSError, match=f"{name} of {repo} is damaged"):
            AnomalyCLIPModel.from_pretrained(prompts, local_files_only=True)
        assert torch.equal(maps_of(AnomalyCLIPModel.from_pretrained(prompts)), expected)


def test_the_tokenizer_of_a_clip_is_checked(hub, clip_folder):
    clip = put_folder(hub, "openai/clip", clip_folder)
    AnomalyCLIPModel.from_clip_pretrained(clip, deep_prompt_depth=3)
    spoil(cached(clip, "tokenizer.json"))
    with pytest.raises(OSError, match="tokenizer.json of openai/clip is damaged"):
        AnomalyCLIPModel.from_clip_pretrained(clip, deep_prompt_depth=3, local_files_only=True)


def test_blobs_in_a_shared_store_are_named_otherwise(hub, model_repo):
    """There the link in `blobs` keeps the hash, and leads to a file with the name that Xet has for it."""
    AnomalyCLIPModel.from_pretrained(model_repo)
    blob = cached(model_repo, "model.safetensors").resolve()
    store = hub.home / "hub" / "blobs" / "ab" / ("ab" * 32)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(os.path.relpath(store, blob.parent))
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo, local_files_only=True))
    spoil(store)
    with pytest.raises(OSError, match="is damaged"):
        AnomalyCLIPModel.from_pretrained(model_repo, local_files_only=True)
    assert not store.exists()
    assert not blob.is_symlink()


def test_a_cache_of_copies_has_nothing_to_compare_with(hub, model_repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo))
    assert not cached(model_repo, "model.safetensors").is_symlink()
    assert is_right(AnomalyCLIPModel.from_pretrained(model_repo, local_files_only=True))


def test_a_damaged_file_that_cannot_be_removed_is_named(hub, model_repo, monkeypatch):
    AnomalyCLIPModel.from_pretrained(model_repo)
    spoil(cached(model_repo, "model.safetensors"))

    def read_only(self, **kwargs):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError, match=r"cannot be removed from the cache \(.*Read-only.*\); delete .*blobs"):
        AnomalyCLIPModel.from_pretrained(model_repo, local_files_only=True)
