# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Inputs that are nearly right: what gets past the first check is what finds mistakes behind it."""

import copy
from typing import Any

from hypothesis import strategies as st


HUGE = (2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 10**12, 10**30)
EVIL = st.one_of(
    st.sampled_from([*HUGE, -1, 0, 1, 2, 256, 1e-320, 1e308, float("nan"), float("inf"), None, True, False]),
    st.sampled_from(["", "{}", "{0.__class__}", "{:>99999999999}", "../../etc/passwd", "/etc/passwd", "file:///etc"]),
    st.sampled_from(["float32", "load", "gelu", "\0", "x" * 5000, "\ud800", "eval", "__import__"]),
    st.sampled_from([[], {}, [1], [[]], {"height": 10**9, "width": 1}, [10**12] * 3, [1, 1, 1], [0] * 700]),
    st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=8), st.lists, max_leaves=8),
)


@st.composite
def mutated_bytes(draw: Any, seeds: list[bytes]) -> bytes:
    """One of the seeds with up to six bytes, numbers or stretches of it changed."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        # Headers stand at the beginning, directories at the end.
        place = draw(st.integers(0, len(content)) | st.integers(0, min(200, len(content))))
        kind = draw(st.sampled_from(["byte", "number", "delete", "insert", "cut"]))
        if kind == "byte":
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "number":
            content[place : place + 4] = draw(
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f" + b"\xff" * 3, b"\1\0\0\0"])
            )
        elif kind == "delete":
            del content[place : place + draw(st.integers(1, 20))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            del content[place:]
    return bytes(content)


@st.composite
def mutated_settings(draw: Any, valid: dict[str, Any], more_names: list[str]) -> dict[str, Any]:
    """Settings of which up to three, at any depth, are replaced, removed or added."""
    settings = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        place = settings
        while nested := [value for value in place.values() if isinstance(value, dict) and value]:
            if draw(st.booleans()):
                break
            place = draw(st.sampled_from(nested))
        name = draw(st.sampled_from([*sorted(place), *more_names, "x"]))
        if draw(st.integers(0, 9)):
            place[name] = copy.deepcopy(draw(EVIL))
        else:
            place.pop(name, None)
    return settings
