# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Weight files are looked through before they are read: what they hold, and whether they hold what they claim."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .limits_anomalyclip import check_inside, is_whole_number, read_json, shorten
from .pickle_files_anomalyclip import DamagedFileError, StoredTensor, count_elements, look_through_pickle


MAX_HEADER_BYTES = 5_000_000  # of a safetensors file; that of ViT-L/14 has 70 KB
MAX_SHARDS = 1000
SAFETENSORS_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
SAFETENSORS_BYTES |= {"BOOL": 1}
FLOATING = {"F64", "F32", "F16", "BF16", "Double", "Float", "Half", "BFloat16"}


def validate_weight_file(path: str | os.PathLike, with_numpy: bool = False) -> dict[str, StoredTensor]:
    """Look through a weight file without reading its tensors.

    Args:
        path (`str` or `os.PathLike`): A `.safetensors` file, or one that `torch.save` wrote.
        with_numpy (`bool`, *optional*, defaults to `False`): Let arrays of numpy pass, as a state of random numbers.

    Returns:
        `dict[str, StoredTensor]`: what lies under which name; of a pickle, on the first level alone.

    Raises:
        OSError: If the file is damaged, claims more than it holds, or holds more than tensors; one line with the
            reason.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return _read_header(Path(path))
        return look_through_pickle(Path(path), with_numpy)
    except DamagedFileError as error:
        raise OSError(f"{path} is damaged or cut short ({error}); fetch or save this checkpoint again.") from error


def check_shapes(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, Tensor], source: str | os.PathLike
) -> None:
    """Refuse tensors that are not of the shape that the configuration asks for.

    Args:
        stored (`Mapping`): Of [`validate_weight_file`].
        expected (`Mapping[str, torch.Tensor]`): The model's, on the meta device.
        source (`str` or `os.PathLike`): The checkpoint, named in the error.

    Raises:
        ValueError: naming the first tensor of another shape, or of whole numbers instead of fractions.
    """
    for name in sorted(stored.keys() & expected.keys()):
        shape, dtype = tuple(expected[name].shape), stored[name].dtype
        if stored[name].shape != shape:
            raise ValueError(
                f"{source} does not fit its configuration: {name} has shape {stored[name].shape}, expected {shape}. "
                "Load it with the config it was saved with."
            )
        if expected[name].is_floating_point() and dtype not in FLOATING:
            raise ValueError(f"{source}: {name} holds {dtype}, expected floating-point numbers.")


def check_finite(tensors: Mapping[str, Tensor], source: str | os.PathLike) -> None:
    """Refuse weights that hold NaN or infinite values.

    Args:
        tensors (`Mapping[str, torch.Tensor]`): In memory; those on the meta device are passed over.
        source (`str` or `os.PathLike`): The checkpoint, named in the error.

    Raises:
        ValueError: naming the first such tensor.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        # A sum is read off in one pass and is not finite if a summand is not; it can also overflow by itself.
        if not math.isfinite(tensor.sum().item()) and not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: {name} holds NaN or infinite values. Go back to an earlier checkpoint.")


def read_index(path: str | os.PathLike) -> list[str]:
    """Read which files a sharded checkpoint consists of.

    Args:
        path (`str` or `os.PathLike`): The index, as `model.safetensors.index.json`.

    Returns:
        `list[str]`: file names below the index's folder, of the same format as the index says.

    Raises:
        OSError: If the index is no JSON, or not of the form that transformers writes.
        ValueError: If a file would lie outside the folder.
    """
    index = read_json(path)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards or not isinstance(index.get("metadata"), dict):
        raise OSError(f"{path} is no index of shards; expected a weight_map and metadata. Fetch or save it again.")
    ending = ".safetensors" if ".safetensors" in Path(path).name else ".bin"
    names = set(map(str, shards.values()))
    for name in names:
        check_inside(name, path, "shard")
        if not name.endswith(ending):
            raise ValueError(f"{path} names {shorten(name)} as shard; expected a name that ends with {ending}.")
    if len(names) > MAX_SHARDS:
        raise OSError(f"{path} names {len(names)} shards; expected at most {MAX_SHARDS}.")
    return sorted(names)


# -------------------------------------------------------------------------------------------------------- safetensors


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """Read and check the header: 8 bytes of length, then JSON, then tensors without a gap."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if file_size < 8 or length > file_size - 8:
            raise DamagedFileError(f"its header claims {length} bytes and the file has {file_size}")
        if length > MAX_HEADER_BYTES:
            raise DamagedFileError(f"its header claims {length} bytes, expected at most {MAX_HEADER_BYTES}")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        json.dumps(header, ensure_ascii=False).encode()  # half a character may hide behind an escape
    except DamagedFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"its header is no JSON in UTF-8: {shorten(str(error))}") from error
    if not isinstance(header, dict):
        raise DamagedFileError(f"its header is a {type(header).__name__}, expected an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedFileError("its metadata are not words under names")
    tensors, end = {}, 0
    claims = {name: _check_claim(name, claim) for name, claim in header.items()}
    for name, (tensor, start, stop) in sorted(claims.items(), key=lambda item: item[1][1:]):
        if start != end:
            raise DamagedFileError(f"{shorten(name)} begins at byte {start}, expected {end}")
        tensors[name], end = tensor, stop
    if end != file_size - 8 - length:
        raise DamagedFileError(f"its tensors claim {end} bytes and the file has {file_size - 8 - length} for them")
    return tensors


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise DamagedFileError("its header names something twice")
    return content


def _check_claim(name: str, claim: Any) -> tuple[StoredTensor, int, int]:
    """Check one tensor's entry in a header by itself: type, shape, first and last byte."""
    if not isinstance(claim, dict) or claim.keys() != {"dtype", "shape", "data_offsets"}:
        raise DamagedFileError(f"{shorten(name)} has no dtype, shape and data_offsets")
    dtype, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_BYTES:
        raise DamagedFileError(f"{shorten(name)} has dtype {shorten(dtype)}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_whole_number, offsets)):
        raise DamagedFileError(f"{shorten(name)} has data_offsets {shorten(offsets)}")
    size = count_elements(name, shape) * SAFETENSORS_BYTES[dtype]
    start, stop = offsets
    if start < 0 or stop - start != size:
        raise DamagedFileError(f"{shorten(name)} has {size} bytes by its shape and {shorten(offsets)} as data_offsets")
    return StoredTensor(dtype, tuple(shape)), start, stop


__all__ = ["check_finite", "check_shapes", "read_index", "validate_weight_file"]
