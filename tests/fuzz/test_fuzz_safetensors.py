# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import struct

import pytest
import torch
from fuzz.guard import guarded, inputs
from fuzz.mutations import mutated_bytes, mutated_settings
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from anomalyclip_hf.loading_anomalyclip import load_prompts_file, prompt_state_dict
from conftest import tiny_model


MODEL = tiny_model()
VALID = save({name: tensor.detach() for name, tensor in prompt_state_dict(MODEL).items()}, metadata={"format": "pt"})
LENGTH = struct.unpack("<Q", VALID[:8])[0]
HEADER, DATA = json.loads(VALID[8 : 8 + LENGTH]), VALID[8 + LENGTH :]
NAMES = ["__metadata__", "x", "dtype", "shape", "data_offsets"]
CLAIM = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3", "C64", ""]),
        "shape": st.lists(st.integers(-1, 5) | st.sampled_from([2**40, 2**63, 10**30]), max_size=10),
        "data_offsets": st.lists(st.integers(-4, 80) | st.sampled_from([2**62, 2**64]), max_size=3) | st.none(),
    }
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "prompts.safetensors"


def with_header(header, data: bytes = DATA) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def check(path, content: bytes) -> None:
    """The prompts are replaced as a whole, or not at all with a one-line error."""
    path.write_bytes(content)
    before = MODEL.state_dict()["prompt_learner.normal_prompt"].clone()
    if isinstance(guarded(load_prompts_file, MODEL, path, allowed=(OSError, ValueError)), Exception):
        assert torch.equal(MODEL.state_dict()["prompt_learner.normal_prompt"], before)


@inputs(150)
@given(
    content=mutated_bytes(
        [VALID, with_header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8)]
    )
)
def test_bytes(path, content):
    check(path, content)


@inputs(100)
@given(header=mutated_settings(HEADER, NAMES))
def test_headers(path, header):
    check(path, with_header(header))


@inputs(100)
@given(claims=st.dictionaries(st.text(max_size=5), CLAIM, max_size=4), data=st.binary(max_size=80))
def test_claims(path, claims, data):
    check(path, with_header(claims, data))
