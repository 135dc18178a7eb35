# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""A store in memory that fails by rule: each call with a name in `FAILURES` uses up one of its errors."""

from collections import Counter
from collections.abc import Callable

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


FAILURES: dict[str, list[Exception]] = {}
CALLS: Counter[str] = Counter()


def _failing(name: str) -> Callable:
    original = getattr(MemoryFileSystem, name)

    def call(self, *args, **kwargs):
        CALLS[name] += 1
        if FAILURES.get(name):
            raise FAILURES[name].pop(0)
        return original(self, *args, **kwargs)

    return call


class FlakyStore(MemoryFileSystem):
    protocol = "flaky"
    store: dict = {}
    pseudo_dirs = [""]
    pipe_file = _failing("pipe_file")
    cat_file = _failing("cat_file")
    find = _failing("find")
    ls = _failing("ls")
    mv = _failing("mv")


fsspec.register_implementation("flaky", FlakyStore, clobber=True)
