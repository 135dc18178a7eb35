# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write images, and read and compare rows, for the tests of bulk scoring."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image


def write_images(folder: Path, count: int, lines: int = 3, side: int = 40) -> list[Path]:
    """Write images of noise, shared among folders."""
    rng = np.random.default_rng(7)
    paths = []
    for number in range(count):
        path = folder / f"line{number % lines}" / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return sorted(paths)


def read_rows(output, kind: str = "scores") -> dict[str, dict]:
    """Return the rows of an output folder by image; fails where an image has two."""
    rows = pq.read_table(f"{output}/{kind}").to_pylist()
    named = {row["path"]: row for row in rows}
    assert len(named) == len(rows), "an image has two rows"
    return named


def assert_scores(output, expected: dict[str, float]) -> None:
    """Compare an output folder with the scores of an undisturbed run: each image once, none missing."""
    rows = read_rows(output)
    assert rows.keys() == expected.keys()
    assert [row["score"] for row in rows.values()] == pytest.approx([expected[name] for name in rows], abs=1e-5)
