# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Published prompt files are pickles: whatever is in them, no code runs, and the error names the file."""

import io
import pickle

import pytest
import torch
from fixtures.reference_weights import prompt_state_dict
from fuzz.guard import inputs, spring, sprung
from fuzz.mutations import mutated_bytes
from hypothesis import given

from anomalyclip_hf import convert_original_checkpoint


pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # of torch.load


class Trap:
    def __reduce__(self):
        return spring, ("sprung",)


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


PROMPTS = {"prompt_learner": prompt_state_dict(8, 3, 2, 2)}
SEEDS = [saved(content, **options)
         for content in (PROMPTS, {**PROMPTS, "a": Trap()})
         for options in ({}, {"_use_new_zipfile_serialization": False})]  # fmt: skip
SEEDS += [pickle.dumps({"a": Trap()}, protocol) for protocol in range(6)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "epoch_15.pth"


@inputs(250)
@given(content=mutated_bytes(SEEDS))
def test_files(path, content):
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError)) as caught:  # at the latest, that the CLIP is empty
        convert_original_checkpoint({}, path)
    assert "\n" not in str(caught.value)
    assert not sprung, "code from the input has run"


def test_the_trap_works():
    pickle.loads(SEEDS[-1])
    assert sprung.pop() == ("sprung",)
