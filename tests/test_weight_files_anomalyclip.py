# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Booby-trapped, lying and damaged weight files; tests/fuzz has what nobody thought of."""

import json
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from fuzz.guard import guarded
from safetensors.torch import load_file, save_file
from torch import nn

from anomalyclip_hf import AnomalyCLIPModel
from anomalyclip_hf.weight_files_anomalyclip import SAFETENSORS_BYTES, check_finite, read_index, validate_weight_file


class Bomb:
    """Leaves a file behind when an unpickler that can run code reads it."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.fixture
def bin_folder(model_folder):
    """A whole model of which only `pytorch_model.bin` is there."""
    torch.save(load_file(model_folder / "model.safetensors"), model_folder / "pytorch_model.bin")
    (model_folder / "model.safetensors").unlink()
    return model_folder


def refusal(folder, error=OSError, **kwargs) -> str:
    with pytest.raises(error) as caught:
        AnomalyCLIPModel.from_pretrained(folder, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_honest_bin_file_loads(bin_folder, model):
    loaded = AnomalyCLIPModel.from_pretrained(bin_folder)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_trapped_bin_file_is_refused_and_does_not_run(bin_folder, tmp_path, legacy, protocol):
    ran = tmp_path / "ran"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
    torch.save({"a": torch.zeros(2), "b": Bomb(ran)}, bin_folder / "pytorch_model.bin", **options)
    message = refusal(bin_folder)
    assert "pytorch_model.bin holds more than tensors: its pickle wants to run" in message
    assert message.endswith("refused. Ask its author for safetensors.")
    assert not ran.exists()
    torch.load(bin_folder / "pytorch_model.bin", weights_only=False)
    assert ran.exists()  # the trap itself works


def test_a_plain_pickle_is_refused_and_does_not_run(bin_folder, tmp_path):
    ran = tmp_path / "ran"
    (bin_folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Bomb(ran)}))
    assert "wants to run" in refusal(bin_folder)
    assert not ran.exists()


def test_a_trapped_clip_is_refused_and_does_not_run(clip_folder, tmp_path):
    folder, ran = tmp_path / "clip", tmp_path / "ran"
    shutil.copytree(clip_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"a": Bomb(ran)}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"pytorch_model\.bin holds more than tensors"):
        AnomalyCLIPModel.from_clip_pretrained(str(folder))
    assert not ran.exists()


def test_torchscript_in_place_of_weights_is_refused(bin_folder):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(bin_folder / "pytorch_model.bin"))
    assert "pytorch_model.bin is a TorchScript archive, which is a program; refused" in refusal(bin_folder)


def test_code_cannot_be_asked_for_by_the_way(bin_folder):
    assert "weights_only is False" in refusal(bin_folder, ValueError, weights_only=False)


# ---------------------------------------------------------------------------------------------------------- shards


@pytest.fixture
def sharded(model, tmp_path):
    """A whole model in several files, and a function that writes its index anew."""
    folder = tmp_path / "sharded"
    model.save_pretrained(folder, max_shard_size="300KB")
    index = folder / "model.safetensors.index.json"
    assert len(set(json.loads(index.read_text())["weight_map"].values())) > 1

    def rewrite(change) -> Path:
        content = json.loads(index.read_text())
        change(content)
        index.write_text(json.dumps(content))
        return folder

    return rewrite


def test_shards_load(sharded, model):
    loaded = AnomalyCLIPModel.from_pretrained(sharded(lambda index: None))
    assert torch.equal(loaded.clip.visual_projection.weight, model.clip.visual_projection.weight)


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "a/../../b.safetensors", "C:\\x.safetensors", "\\\\host\\share", ""],
)
def test_shards_outside_the_folder_are_refused(sharded, name):
    folder = sharded(lambda index: index["weight_map"].update({"logit_scale": name}))
    assert "as shard; expected a path below its own folder" in refusal(folder, ValueError)


def test_shards_that_are_pickles_or_missing_are_refused(sharded, tmp_path):
    folder = sharded(lambda index: index["weight_map"].update({"logit_scale": "x.bin"}))
    assert "expected a name that ends with .safetensors" in refusal(folder, ValueError)
    sharded(lambda index: index["weight_map"].update({"logit_scale": "x.safetensors"}))
    assert "lacks x.safetensors, which its index names" in refusal(folder)
    sharded(lambda index: index.pop("metadata"))
    assert "is no index of shards" in refusal(folder)


def test_trapped_shards_are_refused_and_do_not_run(bin_folder, tmp_path):
    (bin_folder / "pytorch_model.bin").rename(bin_folder / "part-1.bin")
    torch.save({"x": Bomb(tmp_path / "ran")}, bin_folder / "part-2.bin")
    index = {"metadata": {}, "weight_map": {"a": "part-1.bin", "x": "part-2.bin"}}
    (bin_folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert read_index(bin_folder / "pytorch_model.bin.index.json") == ["part-1.bin", "part-2.bin"]
    assert "part-2.bin holds more than tensors" in refusal(bin_folder)
    assert not (tmp_path / "ran").exists()


def test_parts_of_a_distributed_checkpoint_are_not_taken_for_the_model(model_folder):
    shutil.copy(model_folder / "model.safetensors", model_folder / "shard-00001-model-00001-of-00001.safetensors")
    assert "is a part of a distributed checkpoint" in refusal(model_folder, ValueError)


# ------------------------------------------------------------------------------------------------- safetensors headers


def in_safetensors(header, data: bytes = b"") -> bytes:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def claim(shape, stop, dtype="U8", start=0) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


TWICE = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "its header claims 0 bytes and the file has 0"),
        (struct.pack("<Q", 2**63) + b"{}", "its header claims 9223372036854775808 bytes"),
        (in_safetensors(b" " * 6_000_000), "expected at most 5000000"),
        (in_safetensors(b"\xff\xff"), "no JSON in UTF-8"),
        (in_safetensors(b"[" * 50_000), "no JSON in UTF-8"),
        (in_safetensors(b"[]"), "is a list"),
        (in_safetensors({"__metadata__": {"format": 1}}), "metadata are not words"),
        (in_safetensors(TWICE, b"\0"), "names something twice"),
        (in_safetensors({"a": claim([10**12], 4 * 10**12, "F32")}), "claim 4000000000000 bytes"),
        (in_safetensors({"a": claim([-1], 4, "F32")}, b"\0" * 4), "has shape [-1]"),
        (in_safetensors({"a": claim([2**62, 4], 0)}), "has shape [4611686018427387904, 4]"),
        (in_safetensors({"a": claim([1] * 9, 1)}, b"\0"), "'a' has no shape"),
        (in_safetensors({"a": claim([1.0], 1)}, b"\0"), "'a' has no shape"),
        (in_safetensors({"a": claim([1], 1, "C64")}, b"\0"), "'a' has dtype 'C64'"),
        (in_safetensors({"a": claim([2], 4, "F32")}, b"\0" * 4), "has 8 bytes by its shape and [0, 4]"),
        (in_safetensors({"a": claim([1], 0, start=-1)}, b"\0"), "[-1, 0] as data_offsets"),
        (in_safetensors({"a": {"dtype": "U8", "shape": []}}), "has no dtype, shape and data_offsets"),
        (
            in_safetensors({"a": claim([8], 8), "b": claim([8], 12, start=4)}, b"\0" * 12),
            "'b' begins at byte 4, expec",
        ),
        (
            in_safetensors({"a": claim([4], 4), "b": claim([4], 12, start=8)}, b"\0" * 12),
            "'b' begins at byte 8, expec",
        ),
        (in_safetensors({"a": claim([4], 4)}, b"\0" * 9), "its tensors claim 4 bytes and the file has 9"),
        (in_safetensors({"a\n" * 999: claim([4], 4, "X")}), "…"),
    ],
)
def test_headers_that_lie_are_named_in_one_line(tmp_path, content, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    error = guarded(validate_weight_file, path, allowed=(OSError,))  # with little memory and time
    assert f"{path} is damaged or cut short (" in str(error)
    assert words in str(error)


def test_what_safetensors_writes_is_understood(tmp_path):
    dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    dtypes |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
    dtypes |= {"BOOL": torch.bool}
    assert dtypes.keys() == SAFETENSORS_BYTES.keys()
    tensors = {f"t.{name}": torch.ones(3, index, dtype=dtypes[name]) for index, name in enumerate(dtypes)}
    save_file({**tensors, "number": torch.tensor(2.0)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found, loaded = validate_weight_file(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert found.keys() == loaded.keys()
    for name, tensor in found.items():
        assert (dtypes[tensor.dtype], tensor.shape) == (loaded[name].dtype, tuple(loaded[name].shape))


# ------------------------------------------------------------------------------------------------- what tensors claim


def test_a_large_configuration_over_small_weights_takes_no_memory(model_folder):
    """15 GB of weights that are not in the file: transformers would make them up."""
    path = model_folder / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"] |= {"num_hidden_layers": 60, "intermediate_size": 65_536, "hidden_size": 528}
    config |= {"dpam_layers": 1, "feature_layers": [4]}
    path.write_text(json.dumps(config))
    assert "does not fit its configuration" in refusal(model_folder, ValueError)
    config["vision_config"] |= {"num_hidden_layers": 200, "intermediate_size": 96, "hidden_size": 48}
    path.write_text(json.dumps(config))
    assert "of the model's tensors, the first is clip.vision_model" in refusal(model_folder, ValueError)


def test_whole_numbers_in_place_of_fractions(model_folder):
    tensors = load_file(model_folder / "model.safetensors")
    tensors["clip.logit_scale"] = torch.tensor(3)
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    assert "clip.logit_scale holds I64, expected floating-point numbers" in refusal(model_folder, ValueError)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite(model_folder, value, dtype):
    name = "clip.vision_model.encoder.layers.3.mlp.fc1.bias"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(model_folder / "model.safetensors").items()}
    tensors[name][5] = value
    save_file(tensors, model_folder / "model.safetensors", metadata={"format": "pt"})
    assert f"{name} holds NaN or infinite values" in refusal(model_folder, ValueError)


def test_large_weights_whose_sum_overflows_are_finite():
    check_finite({"a": torch.full((100,), 60_000.0, dtype=torch.float16), "b": torch.full((9,), 3e38)}, "here")


def test_tensors_that_share_one_storage_are_refused_when_copies_would_be_large(tmp_path):
    shared = torch.zeros(1000)
    torch.save({f"layer.{index}": shared for index in range(50)}, tmp_path / "x.bin")
    with pytest.raises(OSError, match="its tensors claim 200000 bytes"):
        validate_weight_file(tmp_path / "x.bin")
    torch.save({"embed": shared, "head": shared}, tmp_path / "tied.bin")
    assert validate_weight_file(tmp_path / "tied.bin")["head"].shape == (1000,)


def test_expanded_tensors_are_refused(tmp_path):
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.bin")
    with pytest.raises(OSError, match=r"a tensor of shape \(1000000, 1000000\) claims more than its storage of 1"):
        validate_weight_file(tmp_path / "x.bin")


def test_compressed_archives_are_refused(tmp_path):
    import zipfile

    torch.save({"x": torch.zeros(100_000)}, tmp_path / "x.bin")
    with (
        zipfile.ZipFile(tmp_path / "x.bin") as good,
        zipfile.ZipFile(tmp_path / "y.bin", "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    with pytest.raises(OSError, match="in it is compressed or encrypted"):
        validate_weight_file(tmp_path / "y.bin")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_writes_is_understood(tmp_path, legacy):
    """The forms in which published checkpoints store tensors, against what `torch.load` makes of them."""
    layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    content = dict(layer.state_dict())  # an OrderedDict's copy, with counters of whole numbers
    content |= {"parameter": nn.Parameter(torch.zeros(2)), "slice": torch.arange(12.0).view(3, 4)[1:, ::2]}
    content |= {"turned": torch.zeros(4, 5).T, "empty": torch.zeros(0, 4), "number": torch.tensor(2.0), "words": "x"}
    content |= {"bits": torch.tensor([True]), "half": torch.zeros(2).half(), "brain": torch.zeros(2).bfloat16()}
    content |= {
        "nested": layer.state_dict(),
        "settings": {"epoch": 3, "rate": 1e-3, "betas": (0.5, 0.9), "none": None},
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    found = validate_weight_file(tmp_path / "x.pth")
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tuple(value.shape) for name, value in loaded.items() if torch.is_tensor(value)
    }
