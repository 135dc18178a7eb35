# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compute digests, by which a stored result is matched with its weights, settings and files."""

import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Any


def fingerprint(*values: Any) -> str:
    """Compute one digest of several values.

    Args:
        *values: `bytes`, tensors, modules (their weights), mappings of these, or anything else whose `repr` is the
            same in every process: numbers, strings, tuples, lists.

    Returns:
        `str`: 64 hexadecimal digits.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf.io.fingerprints import fingerprint

    >>> fingerprint("float16", torch.zeros(2)) == fingerprint("float16", torch.zeros(2))
    True
    >>> fingerprint("float16", torch.zeros(2)) == fingerprint("float16", torch.zeros(3))
    False

    ```
    """
    digest = hashlib.sha256()
    for value in values:
        _update(digest, value)
    return digest.hexdigest()


def file_state(path: str | os.PathLike) -> tuple[int, int] | None:
    """Return the size of a file in bytes and the time of its last change in nanoseconds; `None` without the file."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _update(digest: Any, value: Any) -> None:
    torch = sys.modules.get("torch")  # a tensor exists only where torch is imported
    if torch is not None and isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, Mapping):
        _update(digest, len(value))
        for key in sorted(value):
            _update(digest, key)
            _update(digest, value[key])
    elif torch is not None and isinstance(value, torch.Tensor):
        _update(digest, (str(value.dtype), tuple(value.shape)))
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        content = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{len(content)}:".encode())  # ("a", "bc") and ("ab", "c") must differ
        digest.update(content)
