# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import subprocess
import sys

import pytest
import torch

from anomalyclip_hf.io.fingerprints import file_state, fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((b"ab",), ("ab",)),
        ((torch.zeros(2),), (torch.zeros(1, 2),)),
        ((torch.zeros(2),), (torch.zeros(2, dtype=torch.int32),)),
        (({"a": torch.zeros(2)},), ({"b": torch.zeros(2)},)),
        (({}, {"a": 1}), ({"a": 1}, {})),
    ],
)
def test_different_values_have_different_fingerprints(one, other):
    assert fingerprint(*one) != fingerprint(*other)


def test_the_order_of_a_mapping_does_not_matter():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_weights_of_any_dtype():
    module = torch.nn.Linear(3, 2)
    for dtype in (torch.float32, torch.bfloat16):
        assert fingerprint(module.to(dtype)) == fingerprint(module.state_dict())
    before = fingerprint(module)
    with torch.no_grad():
        module.bias[0] += 1
    assert fingerprint(module) != before


def test_other_processes_agree():
    program = "from anomalyclip_hf.io.fingerprints import fingerprint; print(fingerprint('a', (1, 2.5, None), b'b'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint("a", (1, 2.5, None), b"b")


def test_file_state(tmp_path):
    path = tmp_path / "image.png"
    assert file_state(path) is None
    path.write_bytes(b"four")
    assert file_state(path) == (4, path.stat().st_mtime_ns)
