# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Traps and lies in files of `torch.save`; what the model's loaders make of them is in test_weight_files."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from fixtures.reference_weights import prompt_state_dict

from anomalyclip_hf import convert_original_checkpoint
from anomalyclip_hf.pickle_files_anomalyclip import (
    MAX_PICKLE_BYTES,
    STORAGE_BYTES,
    DamagedFileError,
    look_through_pickle,
)


class Bomb:
    """Leaves a file behind when an unpickler that can run code reads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_names_shapes_and_dtypes_are_those_of_torch(tmp_path, legacy):
    dtypes = {"Char": torch.int8, "Byte": torch.uint8}
    dtypes = {name: dtypes.get(name) or getattr(torch, name.lower()) for name in STORAGE_BYTES}
    tensors = {name: torch.zeros(2, index, dtype=dtypes[name]) for index, name in enumerate(STORAGE_BYTES)}
    torch.save(tensors, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    found = look_through_pickle(tmp_path / "x.pth")
    assert list(found) == list(loaded) == list(STORAGE_BYTES)
    for name, tensor in found.items():
        assert tensor.shape == tuple(loaded[name].shape)
        assert dtypes[tensor.dtype] == loaded[name].dtype
        assert STORAGE_BYTES[tensor.dtype] == loaded[name].element_size()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["epoch_15.pth", "ViT-L-14.pt", "pytorch_model.bin"])
def test_a_trap_is_refused_with_the_reason_and_does_not_run(tmp_path, name, legacy):
    path, ran = tmp_path / name, tmp_path / "ran"
    content = {"ctx_pos": torch.zeros(1, 1, 2, 3), "note": Bomb(ran)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    prompts = prompt_state_dict(64, 6, 4, 3)
    arguments = ({}, path) if name.endswith(".pth") else (path, prompts)
    for load in (lambda: look_through_pickle(path), lambda: convert_original_checkpoint(*arguments)):
        with pytest.raises(OSError, match=rf"{name} holds more than tensors: .* wants to run .*; refused\.") as caught:
            load()
        assert "\n" not in str(caught.value)
        assert not ran.exists()
    torch.load(path, weights_only=False)
    assert ran.exists()  # the trap itself works


@pytest.mark.parametrize("protocol", range(6))
def test_a_trap_of_any_protocol_does_not_run(tmp_path, protocol):
    """Alone in a file, as no `torch.save` wrote it, and in a place where the file says the tensors are."""
    data = pickle.dumps({"a": Bomb(tmp_path / "ran")}, protocol)
    (tmp_path / "x.bin").write_bytes(data)
    torch.save({"a": torch.zeros(2)}, tmp_path / "whole.bin")
    with zipfile.ZipFile(tmp_path / "whole.bin") as good, zipfile.ZipFile(tmp_path / "y.bin", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, data if name.endswith("data.pkl") else good.read(name))
    for name in ("x.bin", "y.bin"):
        with pytest.raises((OSError, DamagedFileError)):
            look_through_pickle(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.", "wants to run 'os.system'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", "wants to run 'os.system'"),
        (b"\x80\x02ctorch\nload\nX\x01\0\0\0x\x85R.", "wants to run 'torch.load'"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", r"makes an object \(NEWOBJ\)"),
        (b"\x80\x02(ios\nsystem\n.", r"makes an object \(INST\)"),
        (b"\x80\x02)N\x85b.", "sets the state of an object"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "calls 'collections OrderedDict'"),
    ],
)
def test_instructions_that_could_run_code(tmp_path, data, words):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("archive/data.pkl", data)
    with pytest.raises(OSError, match=words):
        look_through_pickle(tmp_path / "x.pt")


def test_numbers_of_numpy_pass_only_where_they_are_expected(tmp_path):
    import numpy as np

    torch.save({"numpy": np.random.default_rng(0).random(3), "cpu": torch.zeros(2)}, tmp_path / "rng_state.pth")
    with pytest.raises(OSError, match="wants to run 'numpy"):
        look_through_pickle(tmp_path / "rng_state.pth")
    assert look_through_pickle(tmp_path / "rng_state.pth", with_numpy=True)["cpu"].shape == (2,)


def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    with pytest.raises(OSError, match=r"x\.pt is a TorchScript archive, which is a program; refused"):
        look_through_pickle(tmp_path / "x.pt")


def test_more_pickle_than_any_model_has(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (MAX_PICKLE_BYTES // 2) + b".")
    with pytest.raises(DamagedFileError, match="no pickle of 1 to 2000000 bytes"):
        look_through_pickle(tmp_path / "x.pt")


@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_cut_short(tmp_path, keep, legacy):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DamagedFileError):
        look_through_pickle(path)


def test_a_zip_file_with_something_before_it(tmp_path):
    """Readers disagree on where such a file begins, so that one could see other records than the other."""
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(b"PK\3\4" + b"\0" * 96 + (tmp_path / "x.pth").read_bytes())
    with pytest.raises(DamagedFileError, match="something else stands before the records"):
        look_through_pickle(tmp_path / "y.pth")
