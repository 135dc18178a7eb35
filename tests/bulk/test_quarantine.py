# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import shutil

import pytest
from bulk.rows import read_rows

from anomalyclip_hf.bulk.inputs import Listing
from anomalyclip_hf.bulk.manifest import read_index
from anomalyclip_hf.bulk.quarantine import Attempts, find_harmful
from anomalyclip_hf.bulk.reading import PartImages
from anomalyclip_hf.bulk.stores import Folder


pytest_plugins = ["bulk.runs"]
# Stands for a decoder with a fault: Pillow ends the process when it opens such a file.
FAULTY_DECODER = """
import os
from PIL import Image
original = Image.open
def open(file, *args, **kwargs):
    content = file.read() if hasattr(file, "read") else b""
    if content.startswith(b"HARMFUL"):
        os._exit(139)
    if content:
        file.seek(0)
    return original(file, *args, **kwargs)
Image.open = open
"""


@pytest.fixture
def harmful(pictures, tmp_path, monkeypatch):
    """A folder of images of which the second and last end a process with the faulty decoder."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(sorted(pictures.rglob("*.png"))[:6]):
        shutil.copy(path, folder / f"{number}.png")
    for number in (1, 5):
        (folder / f"{number}.png").write_bytes(b"HARMFUL")
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "sitecustomize.py").write_text(FAULTY_DECODER)
    monkeypatch.syspath_prepend(tmp_path / "decoder")
    return folder


def test_images_that_end_the_process_are_found(harmful):
    assert find_harmful(PartImages(list(Listing(str(harmful))))) == {1, 5}


def test_a_part_that_never_ends_is_done_without_its_harmful_images(harmful, score, tmp_path):
    score(
        harmful, run="first", part_size=50
    )  # in this process the decoder is sound, and the images are rows with an error
    out = Folder(str(tmp_path / "out"))
    (part,) = read_index(out / "_runs/first/manifest")
    (out / "scores/run=first").delete(f"{part.id}.parquet")
    attempts = Attempts(out / "_runs/first", part.id)
    assert [attempts.begin() for _ in range(3)] == [1, 2, 3]
    assert score(harmful, run="first", part_size=50).status.errors == 2
    rows = read_rows(tmp_path / "out")
    for number in (1, 5):
        assert "process" in rows[str(harmful / f"{number}.png")]["error"]
    assert not (tmp_path / "out/_runs/first/attempts" / part.id).exists()
