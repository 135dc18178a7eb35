# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import functools
import json
import os
import re
import resource
import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from anomalyclip_hf import AnomalyCLIPModel
from anomalyclip_hf.loading_anomalyclip import PROMPTS_FILE
from conftest import is_same, tiny_model


@pytest.fixture(params=["learned", "ensemble"])
def on_clip(request, clip_folder) -> AnomalyCLIPModel:
    settings = {"deep_prompt_depth": 3} if request.param == "learned" else {}
    return AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), prompts=request.param, image_size=40, **settings)


@pytest.mark.parametrize("prompts_only", [False, True])
def test_both_forms_survive_bit_for_bit(on_clip, prompts_only, tmp_path):
    on_clip.save_pretrained(tmp_path / "saved", prompts_only=prompts_only)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"config.json", PROMPTS_FILE if prompts_only else "model.safetensors"}
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "saved")
    assert is_same(loaded, on_clip)
    assert loaded.config.prompts == on_clip.config.prompts
    assert not loaded.training


@pytest.mark.parametrize("prompts_only", [False, True])
def test_who_may_read_the_settings_may_read_the_weights(on_clip, prompts_only, tmp_path):
    before = os.umask(0o022)
    try:
        on_clip.save_pretrained(tmp_path, prompts_only=prompts_only)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("prompts_only", [False, True])
def test_other_weights_in_the_folder_keep_their_modes(on_clip, prompts_only, tmp_path):
    folder, secret, elsewhere = tmp_path / "shared", tmp_path / "shared" / "secret.safetensors", tmp_path / "blob"
    folder.mkdir()
    for path in (secret, elsewhere):
        path.touch()
        path.chmod(0o600)
    (folder / "linked.safetensors").symlink_to(elsewhere)
    (folder / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (folder / "cache.safetensors").mkdir(0o700)
    for _ in range(2):  # the second time over the first
        on_clip.save_pretrained(folder, prompts_only=prompts_only)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (secret, elsewhere)} == {0o600}
    assert stat.S_IMODE((folder / "cache.safetensors").stat().st_mode) == 0o700
    written = folder / (PROMPTS_FILE if prompts_only else "model.safetensors")
    assert written.stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize(("prompts_only", "limit"), [(False, 20_000), (True, 3_000)])
def test_a_full_disk_is_told_in_one_line(clip_folder, prompts_only, limit, tmp_path):
    """Here since no file may grow beyond a limit."""
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), image_size=40, deep_prompt_depth=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    line = f"{tmp_path}.*File too large"
    try:
        with pytest.raises(OSError, match=line):
            model.save_pretrained(tmp_path, prompts_only=prompts_only)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_prompts_only_size_for_the_papers_model():
    """The prompts of ViT-L/14: 2 x 12 + 8 x 4 vectors of 768 float32."""
    wide = tiny_model(text={"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 9, "vocab_size": 49408,
                            "intermediate_size": 8}, deep_prompt_depth=9)  # fmt: skip
    assert wide.num_parameters(only_trainable=True) * 4 == 172_032


def test_prompts_are_saved_in_float32(clip_folder, tmp_path):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=2, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path, prompts_only=True)
    assert {tensor.dtype for tensor in load_file(tmp_path / PROMPTS_FILE).values()} == {torch.float32}
    assert AnomalyCLIPModel.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_prompts_only_needs_to_know_its_clip(model, tmp_path):
    with pytest.raises(ValueError, match="base_model_name_or_path"):
        model.save_pretrained(tmp_path, prompts_only=True)
    model.save_pretrained(tmp_path, prompts_only=True, base_model_name_or_path="openai/clip-vit-base-patch32")
    assert json.loads((tmp_path / "config.json").read_text())["base_model_name_or_path"].startswith("openai/")


def test_the_two_forms_do_not_mix(on_clip, tmp_path):
    on_clip.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"already holds model\.safetensors"):
        on_clip.save_pretrained(tmp_path, prompts_only=True)


@pytest.fixture
def hub_cache(clip_folder, tmp_path, monkeypatch):
    """A cache as the Hub's client leaves it: branch `v2` of `someone/clip`, whose CLIP lies in a folder."""
    repository = tmp_path / "hub" / "models--someone--clip"
    for commit, branch in (("a" * 40, "main"), ("b" * 40, "v2")):
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        if branch == "v2":
            shutil.copytree(clip_folder, repository / "snapshots" / commit / "tower")
    return str(tmp_path / "hub")


def test_prompts_remember_revision_and_folder_of_their_clip(hub_cache, tmp_path):
    model = AnomalyCLIPModel.from_clip_pretrained(
        "someone/clip", revision="v2", subfolder="tower", cache_dir=hub_cache, deep_prompt_depth=3, image_size=40
    )
    assert model.config.base_model_revision == "b" * 40
    model.save_pretrained(tmp_path / "prompts", prompts_only=True)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "prompts", cache_dir=hub_cache)
    assert is_same(loaded, model)


def test_a_relative_clip_is_found_from_elsewhere(clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(clip_folder.parent)
    model = AnomalyCLIPModel.from_clip_pretrained(clip_folder.name, deep_prompt_depth=3)
    model.save_pretrained(tmp_path / "prompts", prompts_only=True)
    monkeypatch.chdir(tmp_path)
    assert AnomalyCLIPModel.from_pretrained("prompts").num_parameters() == model.num_parameters()


def test_prompts_only_takes_nothing_it_would_ignore(on_clip, tmp_path):
    with pytest.raises(ValueError, match="does not take max_shard_size"):
        on_clip.save_pretrained(tmp_path, prompts_only=True, max_shard_size="1GB")


def test_a_failing_save_leaves_the_old_prompts(on_clip, tmp_path, monkeypatch):
    on_clip.save_pretrained(tmp_path, prompts_only=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def disk_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anomalyclip_hf.loading_anomalyclip.save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        on_clip.save_pretrained(tmp_path, prompts_only=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ------------------------------------------------------------------------------------------------- bad checkpoints


def rewrite(path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def assert_one_line_error(folder, error, *words, **options):
    with pytest.raises(error) as caught:
        AnomalyCLIPModel.from_pretrained(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_missing_tensor(model_folder):
    rewrite(model_folder / "model.safetensors", lambda tensors: tensors.pop("prompt_learner.normal_prompt"))
    assert_one_line_error(model_folder, ValueError, str(model_folder), "lacks 1", "prompt_learner.normal_prompt")


def test_extra_tensor(model_folder):
    rewrite(model_folder / "model.safetensors", lambda tensors: tensors.update(surplus=torch.zeros(1)))
    assert_one_line_error(model_folder, ValueError, "holds unexpected 1", "surplus")


@pytest.mark.parametrize("name", ["a\nb", "x" * 5000])
def test_names_from_a_file_stay_in_one_short_line(model_folder, name):
    rewrite(model_folder / "model.safetensors", lambda tensors: tensors.update({name: torch.zeros(1)}))
    with pytest.raises(ValueError, match="holds unexpected 1") as caught:
        AnomalyCLIPModel.from_pretrained(model_folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_tensor_of_another_shape(model_folder):
    name = "prompt_learner.normal_prompt"
    rewrite(model_folder / "model.safetensors", lambda tensors: tensors.update({name: torch.zeros(3, 32)}))
    assert_one_line_error(model_folder, ValueError, name, "(3, 32)", "(12, 32)")


def test_a_plain_clip_is_not_taken_for_a_trained_model(clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "clip")
    with pytest.raises(ValueError, match="from_clip_pretrained|missing"):
        AnomalyCLIPModel.from_pretrained(tmp_path / "clip")


def test_an_anomalyclip_is_not_taken_for_a_clip(model_folder):
    with pytest.raises(ValueError, match="AnomalyCLIPModel.from_pretrained"):
        AnomalyCLIPModel.from_clip_pretrained(str(model_folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_whole_model_cut_short(model_folder, keep):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert_one_line_error(model_folder, OSError, str(model_folder), "damaged")


@pytest.mark.parametrize("keep", [0, 4, 60, -10])
def test_prompts_cut_short(on_clip, tmp_path, keep):
    on_clip.save_pretrained(tmp_path, prompts_only=True)
    weights = tmp_path / PROMPTS_FILE
    weights.write_bytes(weights.read_bytes()[:keep])
    assert_one_line_error(tmp_path, OSError, PROMPTS_FILE, "damaged or cut short")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("prompt_learner.deep_prompts"), "lacks 1"),
        (lambda tensors: tensors.update(surplus=torch.zeros(1)), "surplus"),
        (lambda tensors: tensors.update({"prompt_learner.deep_prompts": torch.zeros(1, 2, 3)}), "expected (2, 4, 32)"),
        (lambda tensors: tensors["prompt_learner.normal_prompt"].fill_(float("nan")), "NaN"),
    ],
)
def test_prompts_that_do_not_fit(clip_folder, tmp_path, change, words):
    AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3).save_pretrained(
        tmp_path, prompts_only=True
    )
    rewrite(tmp_path / PROMPTS_FILE, change)
    assert_one_line_error(tmp_path, ValueError, PROMPTS_FILE, words)


def test_prompts_whose_clip_is_gone(clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "clip")
    AnomalyCLIPModel.from_clip_pretrained(str(tmp_path / "clip"), deep_prompt_depth=3).save_pretrained(
        tmp_path / "prompts", prompts_only=True
    )
    shutil.rmtree(tmp_path / "clip")
    with pytest.raises(OSError, match=f"{PROMPTS_FILE} needs the CLIP .*{tmp_path / 'clip'}"):
        AnomalyCLIPModel.from_pretrained(tmp_path / "prompts")
    moved = AnomalyCLIPModel.from_pretrained(tmp_path / "prompts", base_model_name_or_path=str(clip_folder))
    assert moved.config.base_model_name_or_path == str(clip_folder)


def test_a_relative_base_model_given_later_is_found_from_elsewhere(clip_folder, on_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(clip_folder.parent)
    on_clip.save_pretrained(tmp_path / "prompts", prompts_only=True, base_model_name_or_path=clip_folder.name)
    loaded = AnomalyCLIPModel.from_pretrained(tmp_path / "prompts", base_model_name_or_path=clip_folder.name)
    assert loaded.config.base_model_name_or_path == str(clip_folder)
    monkeypatch.chdir(tmp_path)
    AnomalyCLIPModel.from_pretrained("prompts")


def test_another_base_model_may_lie_in_a_folder_of_its_own(clip_folder, on_clip, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "other" / "tower")
    on_clip.save_pretrained(
        tmp_path / "prompts",
        prompts_only=True,
        base_model_name_or_path=str(tmp_path / "other"),
        base_model_subfolder="tower",
    )
    assert is_same(AnomalyCLIPModel.from_pretrained(tmp_path / "prompts"), on_clip)


def test_an_id_stays_an_id_where_a_folder_has_its_name(on_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "clip").mkdir(parents=True)
    on_clip.save_pretrained(tmp_path / "prompts", prompts_only=True, base_model_name_or_path="someone/clip")
    assert json.loads((tmp_path / "prompts" / "config.json").read_text())["base_model_name_or_path"] == "someone/clip"


@pytest.mark.parametrize(
    ("tower", "name", "value"),
    [("", "projection_dim", 40), ("vision_config", "num_attention_heads", 2), ("text_config", "hidden_act", "gelu")],
)
def test_a_base_model_that_differs_in_what_no_prompt_shows(clip_folder, on_clip, tmp_path, tower, name, value):
    on_clip.save_pretrained(tmp_path / "prompts", prompts_only=True)
    config = CLIPConfig.from_pretrained(clip_folder)
    setattr(getattr(config, tower) if tower else config, name, value)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=f"has {tower}.?{name} {value}, expected .* as saved with the prompts"):
        AnomalyCLIPModel.from_pretrained(tmp_path / "prompts", base_model_name_or_path=str(tmp_path / "clip"))


def test_prompts_meet_another_clip_than_theirs(clip_folder, model, tmp_path):
    AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3).save_pretrained(
        tmp_path / "prompts", prompts_only=True
    )
    model.clip.save_pretrained(tmp_path / "other")
    path = tmp_path / "prompts" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "other")}))
    assert_one_line_error(tmp_path / "prompts", ValueError, "text_config.vocab_size 49408", "expected")


def test_settings_can_be_overridden_in_both_forms(on_clip, tmp_path):
    for prompts_only in (False, True):
        folder = tmp_path / str(prompts_only)
        on_clip.save_pretrained(folder, prompts_only=prompts_only)
        assert AnomalyCLIPModel.from_pretrained(folder, dpam_layers=1).config.dpam_layers == 1
        with pytest.raises(ValueError, match="dpam_layers is 9"):
            AnomalyCLIPModel.from_pretrained(folder, dpam_layers=9)


def test_a_config_that_contradicts_itself_on_disk(model_folder):
    path = model_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"feature_layers": [30]}))
    assert_one_line_error(model_folder, ValueError, "feature_layers is [30]")


# ------------------------------------------------------------------------------------------------- not trusted


class Bomb:
    """Leaves a file behind when an unpickler that can run code reads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_pickled_weights_of_a_model_are_not_read(model_folder, tmp_path):
    (model_folder / "model.safetensors").unlink()
    torch.save({"a": Bomb(tmp_path / "ran")}, model_folder / "pytorch_model.bin")
    for options in ({}, {"weights_only": False, "use_safetensors": False}):
        assert_one_line_error(model_folder, OSError, str(model_folder), "model.safetensors", **options)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_of_a_clip_are_read_and_run_nothing(clip_folder, tmp_path):
    folder, ran = tmp_path / "clip", tmp_path / "ran"
    shutil.copytree(clip_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    load = functools.partial(AnomalyCLIPModel.from_clip_pretrained, str(folder), prompts="ensemble")
    expected = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), prompts="ensemble")
    assert is_same(load(weights_only=False).clip, expected.clip)
    torch.save({"a": Bomb(ran)}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match=str(folder)):
        load(weights_only=False)
    assert not ran.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert ran.exists()  # the trap itself works


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/../../b.safetensors", "C:\\x", ""])
def test_shards_outside_the_folder_are_refused(model, tmp_path, name):
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert is_same(AnomalyCLIPModel.from_pretrained(tmp_path), model)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["clip.logit_scale"] = name
    index.write_text(json.dumps(content))
    assert_one_line_error(tmp_path, ValueError, str(index), repr(name))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite(model_folder, value, dtype):
    name = "clip.vision_model.encoder.layers.3.mlp.fc1.bias"

    def change(tensors):
        tensors[name] = tensors[name].to(dtype)
        tensors[name][5] = value

    rewrite(model_folder / "model.safetensors", change)
    assert_one_line_error(model_folder, ValueError, name)


@pytest.mark.parametrize("source", ["/not/there", "./not-there", "a/b/c", "with blank/model"])
def test_a_source_that_is_neither_a_folder_nor_an_id(source):
    for load in (AnomalyCLIPModel.from_pretrained, AnomalyCLIPModel.from_clip_pretrained):
        with pytest.raises(OSError, match=re.escape(source)):
            load(source)
