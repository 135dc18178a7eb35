# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import io
import pickle
import zipfile

import pytest
import torch
from fixtures.reference_weights import prompt_state_dict
from fuzz.guard import guarded, inputs, spring
from fuzz.mutations import mutated_bytes
from hypothesis import given
from hypothesis import strategies as st

from anomalyclip_hf import convert_original_checkpoint
from anomalyclip_hf.weight_files_anomalyclip import validate_weight_file


pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # of torch.load


class Trap:
    def __reduce__(self):
        return spring, ("sprung",)


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


PROMPTS = {"prompt_learner": prompt_state_dict(8, 3, 2, 2)}
ZIP, LEGACY = saved(PROMPTS), saved(PROMPTS, _use_new_zipfile_serialization=False)
with zipfile.ZipFile(io.BytesIO(ZIP)) as archive:
    RECORDS = {record.filename: archive.read(record) for record in archive.infolist()}
PICKLE_NAME = next(name for name in RECORDS if name.endswith("data.pkl"))
PICKLES = [RECORDS[PICKLE_NAME], *(pickle.dumps({"a": Trap()}, protocol) for protocol in range(6))]

NUMBER = st.integers(0, 300) | st.sampled_from([2**31 - 1, 10**9])
WORD = st.sampled_from(["storage", "0", "cpu", "a", "prompt_learner", "", "fuzz.guard", "spring"])
NAME = st.sampled_from(
    [
        *("fuzz.guard\nspring", "collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage"),
        *(
            "builtins\nbytearray",
            "torch\nTensor",
            "torch\nSize",
            "torch._utils\n_rebuild_parameter",
            "builtins\ngetattr",
        ),
    ]
)
STEP = st.one_of(
    st.sampled_from(
        [b"}", b"]", b")", b"N", b"\x88", b"\x89", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q"]
    ),
    st.sampled_from(
        [b"s", b"u", b"a", b"e", b"0", b"1", b"2", b"\x93", b"\x94", b"o", b"\x81", b"\x8f", b"q\0", b"h\0"]
    ),
    st.sampled_from([b"r\xff\xff\xff\xff", b"j\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8, b"\x95" + b"\xff" * 8]),
    NUMBER.map(lambda number: b"J" + number.to_bytes(4, "little")),
    WORD.map(lambda word: b"X" + len(word).to_bytes(4, "little") + word.encode()),
    NAME.map(lambda name: b"c" + name.encode() + b"\n"),
    NAME.map(lambda name: b"i" + name.encode() + b"\n"),
)


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, record in RECORDS.items():
            file.writestr(name, data if name == PICKLE_NAME else record)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "epoch_15.pth"


def check(path, content: bytes) -> None:
    """Nothing runs, and whatever passes is what `torch.load` makes of it."""
    path.write_bytes(content)
    error = guarded(convert_original_checkpoint, {}, path, allowed=(OSError, ValueError))
    assert isinstance(error, Exception)  # at the latest, that the CLIP is empty
    found = guarded(validate_weight_file, path, allowed=(OSError,))
    if not isinstance(found, OSError) and found:
        # As transformers does; without mmap PyTorch also compares checksums of the tensors.
        loaded = torch.load(path, weights_only=True, mmap=content.startswith(b"PK"))
        assert {str(name): tuple(value.shape) for name, value in loaded.items() if torch.is_tensor(value)} == {
            name: tensor.shape for name, tensor in found.items()
        }


@inputs(250)
@given(content=mutated_bytes([ZIP, LEGACY, saved(PROMPTS["prompt_learner"])]))
def test_files(path, content):
    check(path, content)


@inputs(250)
@given(data=mutated_bytes(PICKLES))
def test_pickles_in_a_whole_archive(path, data):
    check(path, zipped(data))


@inputs(250)
@given(steps=st.lists(STEP, max_size=30), begin=st.sampled_from([b"\x80\x02", b"\x80\x04", b""]), plain=st.booleans())
def test_pickles_step_by_step(path, steps, begin, plain):
    data = begin + b"".join(steps) + b"."
    check(path, data if plain else zipped(data))


def test_the_trap_works():
    from fuzz.guard import sprung

    pickle.loads(PICKLES[-1])
    assert sprung.pop() == ("sprung",)


DOUBLED = b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 100  # a tuple of 2**100 empty ones


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R.", "wants to run 'builtins.bytearray'"),
        (b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.", "wants to run 'torch.Tensor'"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "no state dict"),  # without its arguments
        (b"\x80\x02}r\xff\xff\xff\xff.", None),  # a memo of four billion places
        (b"\x80\x02}" + DOUBLED[2:] + b"Ns.", "no state dict"),  # its hash takes for ever
        (b"\x80\x02" + b"(" * 300_000, "more than 100000 steps"),
        (b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", "more than 100000 steps"),
        (b"\x80\x02\x8d" + b"\xff" * 8 + b".", "no state dict"),
        (b"\x80\x02" + b"X\0\0\0\x7f" + b"a.", "no state dict"),
    ],
)
def test_pickles_that_take_memory_or_time(path, data, words):
    path.write_bytes(zipped(data))
    error = guarded(convert_original_checkpoint, {}, path, allowed=(OSError, ValueError))
    assert isinstance(error, Exception)
    assert words is None or words in str(error), error
