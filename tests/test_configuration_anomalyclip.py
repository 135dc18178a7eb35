# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPConfig

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel
from anomalyclip_hf.configuration_anomalyclip import (
    ABNORMAL_STATES,
    NORMAL_STATES,
    PHOTO_TEMPLATES,
    ensemble_sentences,
    is_inside,
)
from conftest import tiny_config


@pytest.mark.parametrize(
    ("layers", "patch", "dpam_layers", "image_size"),
    [(24, 14, 19, 518), (12, 16, 10, 512), (12, 32, 10, 512), (32, 14, 26, 518), (4, 8, 4, 512)],
)
def test_defaults_follow_the_tower(layers, patch, dpam_layers, image_size):
    config = AnomalyCLIPConfig(vision_config={"num_hidden_layers": layers, "patch_size": patch})
    assert (config.dpam_layers, config.feature_layers, config.image_size) == (dpam_layers, [layers], image_size)


def test_paper_defaults():
    config = AnomalyCLIPConfig()
    assert (config.num_prompt_tokens, config.deep_prompt_depth, config.num_deep_prompt_tokens) == (12, 9, 4)
    assert (config.temperature, config.pixel_loss_weight, config.dpam_attention) == (0.07, 4.0, "vv")
    assert config.prompt_words == ("object.", "damaged object.")
    assert config.normal_token_ids == [49406, 14115, 269, 49407]
    assert config.abnormal_token_ids == [49406, 13568, 14115, 269, 49407]


def test_survives_the_disk(tmp_path):
    config = tiny_config(feature_layers=(3, 1), image_size=(40, 64), temperature=1, dpam_layers=2)
    config.save_pretrained(tmp_path)
    for loaded in (AnomalyCLIPConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is AnomalyCLIPConfig
        assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
        assert (loaded.feature_layers, loaded.image_size, loaded.input_size) == ([1, 3], [40, 64], (40, 64))


def test_from_clip_config_takes_the_towers():
    clip_config = CLIPConfig(vision_config={"hidden_act": "gelu", "num_hidden_layers": 6}, projection_dim=64)
    config = AnomalyCLIPConfig.from_clip_config(clip_config, dpam_layers=2)
    assert config.vision_config.hidden_act == "gelu"
    assert (config.projection_dim, config.dpam_layers, config.feature_layers) == (64, 2, [6])
    assert config.to_clip_config().model_type == "clip"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"feature_layers": [30]}, ["feature_layers is [30]", "from 1 to 4"]),
        ({"feature_layers": []}, ["feature_layers is []"]),
        ({"feature_layers": [0]}, ["feature_layers is [0]"]),
        ({"dpam_layers": -1}, ["dpam_layers is -1", "0 to 4"]),
        ({"dpam_layers": 5}, ["dpam_layers is 5"]),
        ({"image_size": 45}, ["image_size is 45", "patch size 8"]),
        ({"image_size": [40, 45]}, ["image_size is [40, 45]"]),
        ({"image_size": 0}, ["image_size is 0"]),
        ({"image_size": [40, 40, 40]}, ["image_size is [40, 40, 40]"]),
        ({"num_prompt_tokens": 0}, ["num_prompt_tokens is 0"]),
        ({"deep_prompt_depth": 0}, ["deep_prompt_depth is 0", "to 3"]),
        ({"deep_prompt_depth": 4}, ["deep_prompt_depth is 4"]),
        ({"num_deep_prompt_tokens": 13}, ["num_deep_prompt_tokens is 13", "(12)"]),
        ({"num_prompt_tokens": 75}, ["num_prompt_tokens", "79", "77"]),
        ({"image_size": [40]}, ["image_size is [40]"]),
        ({"temperature": 0}, ["temperature is 0"]),
        ({"temperature": float("inf")}, ["temperature is inf", "expected"]),
        ({"pixel_loss_weight": -1}, ["pixel_loss_weight is -1"]),
        ({"image_loss_weight": -1}, ["image_loss_weight is -1"]),
        ({"abnormal_template": "damaged {x}"}, ["'damaged {x}'"]),
        ({"normal_template": "thing"}, ["'thing'"]),
        ({"object_name": "screw"}, ["normal_token_ids is missing", "from_clip_pretrained"]),
        ({"text": {"vocab_size": 400}}, ["normal_token_ids is missing", "vocabulary of 400"]),
        ({"normal_token_ids": []}, ["normal_token_ids is []", "start of text"]),
        ({"normal_token_ids": [1, 99999], "abnormal_token_ids": [1, 2]}, ["normal_token_ids is [1, 99999]", "49408"]),
    ],
)
def test_contradictions_are_named_in_one_line(settings, words):
    with pytest.raises(ValueError, match="expected|missing") as caught:
        tiny_config(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_wrong_types_on_disk_are_named_in_one_line(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"dpam_layers": 4', '"dpam_layers": "many"'))
    with pytest.raises(ValueError, match="dpam_layers") as caught:
        AnomalyCLIPConfig.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", [{"dpam_layers": "many"}, {"dpam_attention": "vq"}, {"prompts": "magic"}, {"feature_layers": ["a"]}]
)
def test_wrong_types_and_unknown_words_are_refused(setting, tmp_path):
    (name,) = setting
    with pytest.raises(StrictDataclassError, match=name):
        tiny_config(**setting)
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=name) as caught:
        AnomalyCLIPConfig.from_pretrained(tmp_path, **setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "{}"])
def test_no_configuration_is_not_the_default_one(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(OSError, match="config.json"):
        AnomalyCLIPConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("model_type", ["x" * 5000, "a\nb", [0] * 700])
def test_another_type_is_named_in_one_short_line(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError, match="is a model of type .*, expected anomalyclip") as caught:
        AnomalyCLIPConfig.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


# What version 4 of transformers wrote for published CLIPs beside the sizes, in each tower.
SETTINGS_OF_VERSION_4 = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "is_decoder": False,
    "length_penalty": 1.0,
    "output_attentions": False,
    "output_hidden_states": False,
    "problem_type": None,
    "pruned_heads": {},
    "return_dict": True,
    "task_specific_params": None,
    "tie_word_embeddings": True,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
}


def test_a_clip_that_version_4_saved_is_read(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    for tower in ("text_config", "vision_config"):
        config[tower].pop("dtype", None)
        config[tower] = SETTINGS_OF_VERSION_4 | {"model_type": f"clip_{tower.split('_')[0]}_model"} | config[tower]
        config[f"{tower}_dict"] = None
    config |= {"torch_dtype": "float32", "transformers_version": None, "architectures": ["CLIPModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    models = [AnomalyCLIPModel.from_clip_pretrained(str(path), prompts="ensemble") for path in (clip_folder, folder)]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name])
    models[1].save_pretrained(tmp_path / "whole")
    own = json.loads((tmp_path / "whole" / "config.json").read_text())
    own["torch_dtype"] = own.pop("dtype", "float32")
    (tmp_path / "whole" / "config.json").write_text(json.dumps(own))
    assert AnomalyCLIPModel.from_pretrained(tmp_path / "whole").dtype == torch.float32


def test_settings_given_at_load_are_resolved_as_at_first(tmp_path):
    tiny_config(dpam_layers=2).save_pretrained(tmp_path)
    for auto in (AnomalyCLIPConfig, AutoConfig):
        config = auto.from_pretrained(tmp_path, feature_layers=(4, 1, 4), image_size=(48, 40), dpam_layers=None)
        assert (config.feature_layers, config.image_size, config.dpam_layers) == ([1, 4], [48, 40], 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"feature_layers": [30]}, "feature_layers is \\[30\\]"),
        ({"dpam_layers": -1}, "dpam_layers is -1"),
        ({"image_size": 33}, "image_size is 33"),
        ({"temperature": 0}, "temperature is 0"),
        ({"object_name": "screw"}, "object_name is 'screw', expected 'object': the prompts are stored"),
        ({"abnormal_template": "bad {}", "abnormal_token_ids": [1, 2]}, "abnormal_template is 'bad {}'"),
    ],
)
def test_settings_given_at_load_are_checked(tmp_path, settings, words):
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        AnomalyCLIPConfig.from_pretrained(tmp_path, **settings)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_words_can_be_given_at_load_together_with_their_tokens(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    tokens = {"normal_token_ids": [49406, 5, 49407], "abnormal_token_ids": [49406, 6, 5, 49407]}
    config = AnomalyCLIPConfig.from_pretrained(tmp_path, object_name="screw", **tokens)
    assert (config.object_name, config.normal_token_ids) == ("screw", [49406, 5, 49407])
    assert AnomalyCLIPConfig.from_pretrained(tmp_path, object_name="object").normal_token_ids[1] == 14115


def test_token_ids_of_one_prompt_leave_the_other_prompts_alone():
    config = AnomalyCLIPConfig(abnormal_token_ids=[49406, 5, 49407])
    assert config.abnormal_token_ids == [49406, 5, 49407]
    assert config.normal_token_ids == [49406, 14115, 269, 49407]


def test_another_base_model_leaves_revision_and_folder_of_the_old_one_behind(tmp_path):
    base = {"base_model_name_or_path": "someone/clip", "base_model_revision": "v2", "base_model_subfolder": "tower"}
    tiny_config(**base).save_pretrained(tmp_path)
    same = AnomalyCLIPConfig.from_pretrained(tmp_path, base_model_name_or_path="someone/clip")
    assert (same.base_model_revision, same.base_model_subfolder) == ("v2", "tower")
    other = AnomalyCLIPConfig.from_pretrained(tmp_path, base_model_name_or_path="someone/else")
    assert (other.base_model_revision, other.base_model_subfolder) == (None, None)
    named = AnomalyCLIPConfig.from_pretrained(
        tmp_path, base_model_name_or_path="someone/else", base_model_revision="v3"
    )
    assert (named.base_model_revision, named.base_model_subfolder) == ("v3", None)


@pytest.mark.parametrize("name", ["attn_implementation", "experts_implementation", "auto_map", "custom_pipelines"])
def test_a_stored_configuration_names_no_code(tmp_path, name):
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    stored[name] = stored["vision_config"][name] = "someone/kernel"
    path.write_text(json.dumps(stored))
    for config in (AnomalyCLIPConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert "someone/kernel" not in str({**vars(config), **vars(config.vision_config)})


def test_the_labels_are_named():
    assert tiny_config().id2label == {0: "normal", 1: "anomalous"}
    assert tiny_config().label2id == {"normal": 0, "anomalous": 1}


@pytest.mark.parametrize("name", ["a.json", "a/b.json", "tower", "a..b/c", "refs/pr/1"])
def test_paths_inside_a_repository(name):
    assert is_inside(name)


@pytest.mark.parametrize("name", ["", "..", "../a", "a/../../b", "/a", "\\\\host\\a", "C:\\a", "c:a"])
def test_paths_outside_a_repository(name, tmp_path):
    assert not is_inside(name)
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    for setting in ("base_model_revision", "base_model_subfolder"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_revision": None, setting: name}))
        with pytest.raises(ValueError, match=setting):
            AnomalyCLIPConfig.from_pretrained(tmp_path)


def test_every_state_meets_every_template_once():
    normal, abnormal = ensemble_sentences("screw")
    assert len(normal) == len(set(normal)) == len(NORMAL_STATES) * len(PHOTO_TEMPLATES)
    assert len(abnormal) == len(set(abnormal)) == len(ABNORMAL_STATES) * len(PHOTO_TEMPLATES)
    assert not set(normal) & set(abnormal)
    assert all("screw" in text and "{" not in text for text in normal + abnormal)
