# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest
from fuzz.guard import guarded, inputs
from fuzz.mutations import mutated_bytes, mutated_settings
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.checkpoints_anomalyclip import expected_state, load_clip_config
from conftest import TINY_TEXT, TINY_VISION, tiny_config


CONFIG = json.loads(tiny_config().to_json_string(use_diff=False))
CLIP_CONFIG = json.loads(json.dumps(CLIPConfig(text_config=TINY_TEXT, vision_config=TINY_VISION).to_dict()))
PROCESSOR = json.loads(AnomalyCLIPProcessor.from_config(tiny_config()).to_json_string())
# Methods, properties, and what steers transformers.
NAMES = [name for name in dir(AnomalyCLIPConfig) if not name.startswith("__")]
NAMES += ["auto_map", "quantization_config", "attn_implementation", "text_config_dict", "num_labels", "torch_dtype"]
NAMES += ["layer_types", "rope_scaling", "rope_theta", "vision_config_dict", "transformers_weights", "fusion_config"]
IMAGE = np.zeros((6, 5), dtype=np.uint8)
ALLOWED = (OSError, ValueError)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def load_config(folder, content: bytes) -> None:
    """Load a configuration and, if it is accepted, lay the model out without memory."""
    (folder / "config.json").write_bytes(content)
    expected_state(AnomalyCLIPModel, AnomalyCLIPConfig.from_pretrained(folder))


def load_processor(folder, content: bytes) -> None:
    """Load a processor and, if it is accepted, use it."""
    (folder / "processor_config.json").write_bytes(content)
    AnomalyCLIPProcessor.from_pretrained(folder)(images=IMAGE)


@inputs(500)
@given(settings=mutated_settings(CONFIG, NAMES))
def test_settings(folder, settings):
    guarded(load_config, folder, json.dumps(settings).encode(), allowed=ALLOWED)


@inputs(150)
@given(content=mutated_bytes([json.dumps(CONFIG).encode()]) | st.binary(max_size=40))
def test_bytes(folder, content):
    guarded(load_config, folder, content, allowed=ALLOWED)


@inputs(200)
@given(settings=mutated_settings(CLIP_CONFIG, NAMES))
def test_settings_of_a_clip(folder, settings):
    (folder / "config.json").write_text(json.dumps(settings))
    guarded(load_clip_config, folder, allowed=ALLOWED)


@inputs(300)
@given(settings=mutated_settings(PROCESSOR, ["auto_map", "audio_tokenizer", "chat_template", "tokenizer", "__call__"]))
def test_settings_of_a_processor(folder, settings):
    guarded(load_processor, folder, json.dumps(settings).encode(), allowed=ALLOWED)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 300 + b"1" + b"}" * 300, b'{"a": 1' + b"0" * 9999 + b"}"]
)
@pytest.mark.parametrize("load", [load_config, load_processor])
def test_json_that_parsers_choke_on(folder, content, load):
    assert isinstance(guarded(load, folder, content, allowed=ALLOWED), OSError)
