# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest
from transformers import CLIPConfig

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel
from anomalyclip_hf.checkpoints_anomalyclip import load_clip_config
from anomalyclip_hf.limits_anomalyclip import check_inside, read_json
from conftest import tiny_config


# Widths, MLPs, layers and heads of the largest CLIPs that are published: vision, text.
LARGEST = {
    "OpenCLIP ViT-bigG/14": ((1664, 8192, 48, 16), (1280, 5120, 32, 20), 1280),
    "EVA-CLIP-18B": ((5120, 25_600, 48, 40), (1280, 5120, 32, 20), 1536),
}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_clips_pass(name):
    vision, text, dim = LARGEST[name]
    config = AnomalyCLIPConfig(
        vision_config={**dict(zip(SIZES, vision, strict=True)), "patch_size": 14, "image_size": 224},
        text_config=dict(zip(SIZES, text, strict=True)),
        projection_dim=dim,
        image_size=1022,
    )
    assert config.input_size == (1022, 1022)


def rewritten(folder, **settings):
    tiny_config().save_pretrained(folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for name, value in settings.items():
        tower, _, inner = name.partition("__")
        (content[tower] if inner else content)[inner or tower] = value
    path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vision_config__hidden_size": 10**9}, "vision_config.hidden_size is 1000000000; expected a whole number"),
        ({"vision_config__num_hidden_layers": 10**6}, "vision_config.num_hidden_layers is 1000000"),
        ({"vision_config__num_attention_heads": 0}, "vision_config.num_attention_heads is 0"),
        ({"vision_config__hidden_size": True}, "vision_config.hidden_size is True"),
        ({"vision_config__image_size": [32, 32]}, "vision_config.image_size is [32, 32]"),
        ({"vision_config__image_size": -32}, "vision_config.image_size is -32"),
        ({"vision_config__layer_norm_eps": float("nan")}, "vision_config.layer_norm_eps is nan"),
        ({"vision_config__hidden_act": "exec"}, "vision_config.hidden_act is 'exec'"),
        ({"vision_config__dtype": "load"}, "dtype is 'load'; expected one of float16"),
        ({"label2id": {"dtype": 3}}, "dtype is 3; expected one of float16"),
        ({"logit_scale_init_value": 2}, "logit_scale_init_value is 2; expected a number with a decimal point"),
        ({"layer_types": 5}, "'layer_types' is 5"),
        ({"text_config__vocab_size": 10**12}, "text_config.vocab_size is 1000000000000"),
        ({"text_config__num_labels": 10**9}, "text_config.'num_labels' is 1000000000; expected no such setting"),
        ({"text_config": 5}, "text_config"),
        ({"image_size": 10**9}, "image_size is 1000000000"),
        ({"image_size": 8000}, "image_size is 8000x8000 px"),
        ({"num_prompt_tokens": 10**9}, "positions; the text tower has 77"),
        ({"num_prompt_tokens": 12.0}, "num_prompt_tokens"),
        ({"projection_dim": None}, "projection_dim is None"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 10**400}, "temperature is a number of 1329 bits"),
        ({"pixel_loss_weight": float("inf")}, "pixel_loss_weight is inf"),
        ({"normal_token_ids": [1, 49408]}, "normal_token_ids is [1, 49408]"),
        ({"normal_token_ids": list(range(900))}, "positions"),
        ({"normal_template": "{0.__class__}"}, "a template is '{0.__class__}'"),
        ({"abnormal_template": "{:>99999999999}"}, "a template is '{:>99999999999}'"),
        ({"abnormal_template": "{}}"}, "a template is '{}}'"),
        ({"object_name": "x" * 3_000_000}, "3000000 characters"),
        ({"base_model_revision": "../../../etc"}, "'../../../etc' as base_model_revision"),
        ({"base_model_subfolder": "/etc"}, "'/etc' as base_model_subfolder"),
        ({"base_model_subfolder": "..\\x"}, "as base_model_subfolder"),
        ({"transformers_weights": "../x.safetensors"}, "'transformers_weights' is '../x.safetensors'"),
        ({"quantization_config": {"quant_method": "bnb"}}, "'quantization_config'"),
        ({"attn_implementation": "someone/kernel"}, "'attn_implementation' is 'someone/kernel'"),
        ({"check": True}, "check is True; expected no setting of the name of a method"),
        ({"input_size": [1, 1]}, "input_size is [1, 1]"),
        ({"id2label": {"a": "b"}}, "id2label"),
    ],
)
def test_what_no_clip_has_is_refused_in_one_line(tmp_path, settings, words):
    with pytest.raises(ValueError) as caught:
        AnomalyCLIPConfig.from_pretrained(rewritten(tmp_path, **settings))
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 600


def test_sizes_that_are_too_much_together(tmp_path):
    settings = {"hidden_size": 16_384, "intermediate_size": 65_536, "num_hidden_layers": 40, "num_attention_heads": 64}
    with pytest.raises(ValueError, match=r"make \S+ parameters; expected at most 3e\+10"):
        tiny_config(vision=settings)


def test_a_base_clip_is_held_to_the_same(clip_folder, tmp_path):
    config = CLIPConfig.from_pretrained(clip_folder)
    config.save_pretrained(tmp_path)
    assert load_clip_config(tmp_path).to_dict() == config.to_dict()
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["num_hidden_layers"] = 10**6
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"config\.json .*text_config\.num_hidden_layers is 1000000"):
        AnomalyCLIPModel.from_clip_pretrained(str(tmp_path))


def test_extras_that_do_no_harm_pass(tmp_path):
    """What older transformers wrote, and what belongs to a repository with code."""
    auto_map = {"AutoModel": "modeling_anomalyclip.AnomalyCLIPModel"}
    extras = {"text_config__torchscript": False, "text_config__num_beams": 1, "note": "hello"}
    config = AnomalyCLIPConfig.from_pretrained(rewritten(tmp_path, auto_map=auto_map, **extras))
    assert config.note == "hello"


@pytest.mark.parametrize("name", ["a.json", "a/b.json", "tower", "a..b/c"])
def test_paths_inside(name):
    check_inside(name, "config.json", "x")


@pytest.mark.parametrize(
    "name",
    ["", "..", "../a", "a/../../b", "/a", "\\\\host\\a", "C:\\a", "c:a", "file:///a", "a\0b", "https://a/b", None, 5],
)
def test_paths_outside(name):
    with pytest.raises(ValueError, match="config.json names .* as x; expected a path below its own folder"):
        check_inside(name, "config.json", "x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "holds a JSON list"),
        (b"\xff\xfe{}", "is not valid JSON"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "nests more than 30 levels"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not valid JSON"),
        (b" " * 50_000_001, "has 50000001 bytes"),
    ],
)
def test_json_that_is_none(tmp_path, content, words):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(OSError, match=words) as caught:
        read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value)
