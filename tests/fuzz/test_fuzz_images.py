# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from fuzz.guard import guarded, inputs
from fuzz.mutations import EVIL, mutated_bytes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomalyclip_hf.image_processing_anomalyclip import load_image, load_mask


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")  # of damaged EXIF

COLOUR = np.random.default_rng(0).integers(0, 255, (12, 15, 3), dtype=np.uint8)
MODES = ("RGB", "L", "P", "RGBA", "1", "I;16", "F", "CMYK", "LA")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
ALLOWED = (ValueError, FileNotFoundError)


def seeds() -> list[bytes]:
    """The picture in every format, mode and compression in which Pillow can write it."""
    found = []
    for format_name in FORMATS:
        for mode in MODES:
            for compression in (
                (None, "tiff_lzw", "tiff_adobe_deflate", "packbits") if format_name == "TIFF" else (None,)
            ):
                buffer = io.BytesIO()
                grey = Image.fromarray(COLOUR).convert("L")
                image = grey.convert(mode) if mode in ("I;16", "F") else Image.fromarray(COLOUR).convert(mode)
                try:
                    image.save(buffer, format_name, **({"compression": compression} if compression else {}))
                except (OSError, ValueError):
                    continue  # this format does not know this mode
                found.append(buffer.getvalue())
    return found


SEEDS = seeds()


def test_every_format_is_a_seed():
    assert {Image.open(io.BytesIO(seed)).format for seed in SEEDS} == set(FORMATS)


def check(source) -> None:
    image = guarded(load_image, source, allowed=ALLOWED)
    assert isinstance(image, Exception) or image.mode == "RGB"
    if not isinstance(source, (np.ndarray, torch.Tensor)):
        mask = guarded(load_mask, source, allowed=ALLOWED)
        assert isinstance(mask, Exception) or (mask.ndim == 2 and mask.dtype == bool)


@inputs(700)
@given(content=mutated_bytes(SEEDS))
def test_bytes(content):
    check(content)


@inputs(100)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", *sorted({seed[:12] for seed in SEEDS})]))
def test_beginnings(content, start):
    check(start + content)


@inputs(100)
@given(
    content=mutated_bytes(SEEDS) | st.just(b"") | st.none() | EVIL,
    path=st.sampled_from([None, "", "missing.png", "/", "\0", "x" * 5000]),
    encoded=st.booleans(),
)
def test_rows(content, path, encoded):
    if isinstance(content, bytes) and encoded:
        content = base64.b64encode(content)
    check({"bytes": content, "path": path})


@inputs(150)
@given(
    shape=st.lists(st.integers(0, 5), max_size=5),
    dtype=st.sampled_from(["u1", "u2", "i8", "f2", "f8", "c8", "?", "S3", "O", "M8[s]", "u8", "i4"]),
    value=st.sampled_from([0, 1, 255, 256, -1, 0.5, float("nan"), float("inf"), 2**40]),
)
def test_arrays(shape, dtype, value):
    with np.errstate(all="ignore"):
        array = np.full(shape, value).astype(dtype)
    check(array)
    if dtype in ("u1", "i8", "f2", "f8", "?", "i4"):
        check(torch.from_numpy(array))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(data))]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(2**31 - 1, 2**31 - 1), "too large"),
        (png(10_000, 10_000), "damaged"),
        (png(13_377, 13_377, b"\0" * 1000), "damaged"),
        (b"P6 99999 99999 255\n", "too large"),
        (b"P6 9999 9999 255\n", "damaged"),
        (b"GIF89a\xff\xff\xff\xff\0\0\0", "is "),
        (
            b"BM" + b"\0" * 12 + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
            "too large",
        ),
    ],
)
def test_sizes_that_are_only_claimed(content, words):
    for load in (load_image, load_mask):
        assert words in str(guarded(load, content, allowed=ALLOWED))
