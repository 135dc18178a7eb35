# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Small image files of known pixels in many forms, written byte by byte and not by the libraries that read them."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


HEIGHT, WIDTH = 6, 17  # an odd width, so that packed rows end within a byte
ACROSS = np.linspace(0, 1, WIDTH)[None].repeat(HEIGHT, 0)
DOWN = np.linspace(0, 1, HEIGHT)[:, None].repeat(WIDTH, 1)
RED, GREEN, BLUE, ALPHA, JUNK = ACROSS, DOWN, 1 - ACROSS, 0.25 + 0.75 * DOWN, ACROSS[:, ::-1] * DOWN


@dataclass
class Combination:
    """One file or array, and the picture that it shows.

    Args:
        name (`str`): Container, depth and the rest.
        source (`bytes` or `numpy.ndarray`): What is to be read.
        picture (`numpy.ndarray`, *optional*): `(height, width, 3)` in [0, 1]; `None` if it has to be refused.
        tolerance (`float`): Grey levels, of 255.
        options (`dict`): For `load_image`.
    """

    name: str
    source: Any
    picture: np.ndarray | None
    tolerance: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def container(self) -> str:
        return self.name.split()[0]


def levels(bands: list[np.ndarray], bits: int) -> np.ndarray:
    """Bands in [0, 1] as whole numbers of some bits, `(height, width, bands)`."""
    return np.rint(np.dstack(bands) * (2**bits - 1)).astype(np.uint32)


def shown(bands: list[np.ndarray], bits: int, alpha: np.ndarray | None = None) -> np.ndarray:
    """What is seen of grey or colours of some bits, over white."""
    colours = levels(bands, bits) / (2**bits - 1)
    colours = colours.repeat(3, 2) if colours.shape[2] == 1 else colours
    alpha = np.ones((HEIGHT, WIDTH)) if alpha is None else levels([alpha], bits)[..., 0] / (2**bits - 1)
    return colours * alpha[..., None] + 1 - alpha[..., None]


def pack(samples: np.ndarray, bits: int, order: str) -> bytes:
    """Rows of `(rows, samples)`: whole bytes in the byte order, other depths packed with the highest bit first."""
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    single = samples[..., None] >> np.arange(bits)[::-1] & 1
    return np.packbits(single.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    order: str = "<",
    planar: int = 1,
    extra: tuple[int, ...] = (),
    compression: int = 1,
    kind: int = 1,
    strips: int = 1,
    more: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """A TIFF of one page; `samples` is `(height, width, bands)`, or floats and signed integers as they are."""
    height, width, bands = samples.shape
    planes = [samples[..., band] for band in range(bands)] if planar == 2 else [samples.reshape(height, -1)]
    rows = -(-height // strips)
    parts = []
    for plane in planes:
        for top in range(0, height, rows):
            part = plane[top : top + rows]
            data = part.astype(part.dtype.newbyteorder(order)).tobytes() if kind != 1 else pack(part, bits, order)
            parts.append(zlib.compress(data) if compression == 8 else data)
    starts = np.cumsum([8] + [len(part) for part in parts])
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * bands),
        259: (3, [compression]),
        262: (3, [photometric]),
        273: (4, starts[:-1].tolist()),
        277: (3, [bands]),
        278: (4, [rows]),
        279: (4, [len(part) for part in parts]),
        284: (3, [planar]),
        339: (3, [kind] * bands),
        **({338: (3, list(extra))} if extra else {}),
        **(more or {}),
    }
    start = int(starts[-1])
    behind, entries = start + 2 + 12 * len(tags) + 4, b""
    values = b""
    for tag, (size, numbers) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(numbers)}{'H' if size == 3 else 'I'}", *numbers)
        entries += struct.pack(f"{order}HHI", tag, size, len(numbers))
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", behind + len(values))
            values += data
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + b"".join(parts) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values


def png(samples: np.ndarray, bits: int, colour_type: int, chunks: dict[bytes, bytes] | None = None) -> bytes:
    """A PNG without filters."""
    height, width = samples.shape[:2]
    rows = pack(samples.reshape(height, -1), bits, ">")
    size = len(rows) // height
    data = b"".join(b"\0" + rows[row * size : (row + 1) * size] for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = {b"IHDR": head, **(chunks or {}), b"IDAT": zlib.compress(data), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts.items()
    )


def tiffs() -> Iterator[Combination]:
    """Photometric interpretation, bands and alpha, by depth, byte order, planes and compression."""
    grey, colour = [RED], [RED, GREEN, BLUE]
    layouts = {  # photometric interpretation, bands, extra samples, what is shown, alpha
        "white-is-zero": (0, [1 - RED], (), grey, None),
        "grey": (1, grey, (), grey, None),
        "grey+alpha": (1, [RED, ALPHA], (2,), grey, ALPHA),
        "grey+premultiplied": (1, [RED * ALPHA, ALPHA], (1,), grey, ALPHA),
        "grey+band": (1, [RED, JUNK], (0,), grey, None),
        "grey-of-3": (1, colour, (0, 0), colour, None),
        "grey-of-4": (1, [*colour, JUNK], (0, 0, 0), colour, None),
        "grey-of-5": (1, [*colour, JUNK, JUNK], (0, 0, 0, 0), colour, None),
        "rgb": (2, colour, (), colour, None),
        "rgb+alpha": (2, [*colour, ALPHA], (2,), colour, ALPHA),
        "rgb+premultiplied": (2, [*(band * ALPHA for band in colour), ALPHA], (1,), colour, ALPHA),
        "rgb+clear": (2, [*colour, 0 * RED], (2,), colour, None),
        "rgb+band": (2, [*colour, JUNK], (0,), colour, None),
        "rgb+2-bands": (2, [*colour, JUNK, JUNK], (0, 0), colour, None),
        "rgb+alpha+band": (2, [*colour, ALPHA, JUNK], (2, 0), colour, ALPHA),
        "rgb+band+alpha": (2, [*colour, JUNK, ALPHA], (0, 2), colour, ALPHA),
    }
    forms = [(order, planar, compression) for order in "<>" for planar in (1, 2) for compression in (1, 8)]
    for (name, (photometric, bands, extra, visible, alpha)), bits in itertools.product(
        layouts.items(), (8, 10, 12, 16)
    ):
        for order, planar, compression in forms:
            if len(bands) == 1 and planar == 2:
                continue
            yield Combination(
                f"TIFF {name}, {bits} bits, {order}, planar {planar}, compression {compression}",
                tiff(levels(bands, bits), bits, photometric, order, planar, extra, compression, strips=2),
                shown(visible, bits, alpha),
                tolerance=2 if "premultiplied" in name else 1,
            )
    for bits, order, photometric in itertools.product((1, 2, 4, 9, 11, 13, 14, 15), "<>", (0, 1)):
        samples = levels([RED if photometric else 1 - RED], bits)
        picture = 1 - shown([1 - RED], bits) if photometric == 0 else shown([RED], bits)
        yield Combination(
            f"TIFF {bits} bits, {order}, {photometric}", tiff(samples, bits, photometric, order), picture
        )
    for bits, order, bands in itertools.product((10, 12, 14), "<>", (grey, colour)):
        more = {281: (3, [2**bits - 1] * len(bands))}
        content = tiff(levels(bands, bits), 16, 2 if len(bands) == 3 else 1, order, more=more)
        yield Combination(f"TIFF MaxSampleValue of {bits} bits, {order}, {len(bands)}", content, shown(bands, bits))
    for bits, order in itertools.product((4, 8), "<>"):
        colours = np.array([np.linspace(0, 65535, 2**bits), np.linspace(65535, 0, 2**bits), np.full(2**bits, 8000)])
        table = {320: (3, colours.astype(int).ravel().tolist())}
        indices = levels([RED], bits)
        picture = np.moveaxis(colours[:, indices[..., 0]], 0, -1) / 65535
        yield Combination(f"TIFF palette, {bits} bits, {order}", tiff(indices, bits, 3, order, more=table), picture)
    for bits, order, planar in itertools.product((8, 16), "<>", (1, 2)):
        ink = [1 - band for band in colour] + [0 * RED]
        content = tiff(levels(ink, bits), bits, 5, order, planar)
        yield Combination(f"TIFF CMYK, {bits} bits, {order}, planar {planar}", content, shown(colour, bits), 2)
    grey_ycc = levels([RED, 0 * RED + 128 / 255, 0 * RED + 128 / 255], 8)
    for order, planar in itertools.product("<>", (1, 2)):
        content = tiff(grey_ycc, 8, 6, order, planar, more={530: (3, [1, 1])})
        yield Combination(f"TIFF YCbCr, {order}, planar {planar}", content, shown(grey, 8))
    halved = tiff(levels([RED], 8), 8, 6, more={277: (3, [3]), 258: (3, [8, 8, 8]), 530: (3, [2, 2])})
    yield Combination("TIFF YCbCr of halved colours, uncompressed", halved, None)
    for order in "<>":
        yield Combination(f"TIFF CIELab of 16 bits, {order}", tiff(levels(colour, 16), 16, 8, order), None)


def tiffs_of_numbers() -> Iterator[Combination]:
    """Floats, and integers whose range nobody declares: read where they are unmistakable, else refused."""
    for order, bands in itertools.product("<>", (1, 3)):
        colour = np.dstack([RED, GREEN, BLUE][:bands])
        visible = shown([RED, GREEN, BLUE][:bands], 8)
        photometric = 2 if bands == 3 else 1
        for name, values, kind, picture, options in (
            ("float of 1", colour, 3, visible, {}),
            ("float of 255", colour * 255, 3, visible, {}),
            ("float of 1000", colour * 1000 - 20, 3, None, {}),
            ("float of 1000 and its range", colour * 1000 - 20, 3, visible, {"value_range": (-20, 980)}),
            ("float with NaN", colour / colour.clip(0, 0), 3, None, {}),
        ):
            with np.errstate(all="ignore"):
                content = tiff(np.float32(values), 32, photometric, order, kind=kind)
            yield Combination(f"TIFF {name}, {order}, {bands} bands", content, picture, options=options)
        for dtype, kind in (("u4", 1), ("i4", 2), ("i2", 2), ("i1", 2)):
            bits = int(dtype[1]) * 8
            top = 127 if dtype == "i1" else 255
            small = np.rint(colour * top).astype(dtype)
            unknown = (
                np.rint(colour * 2000 - (1000 if dtype[0] == "i" else 0))
                .astype("i4")
                .clip(-128 if dtype == "i1" else None, 127 if dtype == "i1" else None)
                .astype(dtype)
            )
            limits = (float(unknown.min()), float(unknown.max()))
            stretched = (unknown - limits[0]) / (limits[1] - limits[0])
            stretched = stretched.repeat(3, 2) if bands == 1 else stretched
            for name, values, picture, options in (
                ("small", small, visible * top / 255, {}),
                ("unknown", unknown, None, {}),
                ("range", unknown, stretched, {"value_range": limits}),
                ("auto", unknown, stretched, {"value_range": "auto"}),
            ):
                content = tiff(values, bits, photometric, order, kind=kind)
                yield Combination(f"TIFF {dtype} {name}, {order}, {bands} bands", content, picture, 1.5, options)


def pngs() -> Iterator[Combination]:
    """Every colour type and depth, with transparent colours and significant bits."""
    colour = [RED, GREEN, BLUE]
    for bits in (1, 2, 4, 8, 16):
        yield Combination(f"PNG grey, {bits} bits", png(levels([RED], bits), bits, 0), shown([RED], bits))
        clear = {b"tRNS": struct.pack(">H", 2**bits - 1)}
        picture = shown([RED], bits)
        yield Combination(f"PNG grey, {bits} bits, clear white", png(levels([RED], bits), bits, 0, clear), picture)
    for bits in (8, 16):
        yield Combination(f"PNG rgb, {bits} bits", png(levels(colour, bits), bits, 2), shown(colour, bits))
        clear = {b"tRNS": struct.pack(">3H", 0, 0, 2**bits - 1)}
        picture = shown(colour, bits)
        picture[0, 0] = 1
        yield Combination(f"PNG rgb, {bits} bits, a clear colour", png(levels(colour, bits), bits, 2, clear), picture)
        for name, alpha in (("alpha", ALPHA), ("clear", 0 * RED), ("opaque", 0 * RED + 1)):
            visible = None if name == "clear" else alpha
            content = png(levels([RED, alpha], bits), bits, 4)
            yield Combination(f"PNG grey+{name}, {bits} bits", content, shown([RED], bits, visible))
            content = png(levels([*colour, alpha], bits), bits, 6)
            yield Combination(f"PNG rgb+{name}, {bits} bits", content, shown(colour, bits, visible))
    for bits in (1, 2, 4, 8):
        table = np.linspace((0, 255, 90), (255, 0, 90), 2**bits).round().astype(np.uint8)
        picture = table[levels([RED], bits)[..., 0]] / 255
        content = png(levels([RED], bits), bits, 3, {b"PLTE": table.tobytes()})
        yield Combination(f"PNG palette, {bits} bits", content, picture)
        content = png(levels([RED], bits), bits, 3, {b"PLTE": table.tobytes(), b"tRNS": b"\0"})
        picture = picture.copy()
        picture[levels([RED], bits)[..., 0] == 0] = 1
        yield Combination(f"PNG palette with a clear colour, {bits} bits", content, picture)
    for bits, (bands, kind, alpha) in itertools.product(
        (9, 10, 12, 14), (([RED], 0, None), (colour, 2, None), ([RED, ALPHA], 4, ALPHA), ([*colour, ALPHA], 6, ALPHA))
    ):
        visible = [RED] if kind in (0, 4) else colour
        chunk = {b"sBIT": bytes([bits] * len(bands))}
        low = png(levels(bands, bits), 16, kind, chunk)  # as cameras write it
        high = png(
            levels(bands, bits) << 16 - bits | levels(bands, bits) >> 2 * bits - 16, 16, kind, chunk
        )  # as PNG says
        yield Combination(f"PNG sBIT {bits} in the low bits, type {kind}", low, shown(visible, bits, alpha), 1.5)
        yield Combination(f"PNG sBIT {bits} in the high bits, type {kind}", high, shown(visible, bits, alpha), 1.5)


def pnms() -> Iterator[Combination]:
    for top, plain, bands in itertools.product((1, 15, 100, 255, 1023, 4095, 65535), (True, False), (1, 3)):
        values = np.rint(np.dstack([RED, GREEN, BLUE][:bands]) * top).astype(int)
        kind = (2 if bands == 1 else 3) + (0 if plain else 3)
        head = f"P{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{top}\n".encode()
        if plain:
            body = " ".join(map(str, values.ravel())).encode()
        else:
            body = values.astype("u1" if top < 256 else ">u2").tobytes()
        picture = values / top
        picture = picture.repeat(3, 2) if bands == 1 else picture
        yield Combination(f"PNM P{kind}, {top}", head + body, picture)


def bmps() -> Iterator[Combination]:
    colour = levels([BLUE, GREEN, RED], 8).astype(np.uint8)
    for name, fourth, picture in (
        ("padding of 0", 0 * RED, shown([RED, GREEN, BLUE], 8)),
        ("alpha", ALPHA, shown([RED, GREEN, BLUE], 8, ALPHA)),
    ):
        body = np.dstack([colour, levels([fourth], 8).astype(np.uint8)])[::-1].tobytes()
        info = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 32, 3, len(body), 2835, 2835, 0, 0)
        info += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(68)
        head = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info))
        yield Combination(f"BMP V5 {name}", head + info + body, picture)
    body = np.dstack([colour, 0 * colour[..., :1]])[::-1].tobytes()
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 32, 0, len(body), 2835, 2835, 0, 0)
    head = b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54)
    yield Combination("BMP of 32 bits", head + info + body, shown([RED, GREEN, BLUE], 8))


def arrays() -> Iterator[Combination]:
    bands = {1: [RED], 3: [RED, GREEN, BLUE], 4: [RED, GREEN, BLUE, ALPHA]}
    for (count, parts), first in itertools.product(bands.items(), (False, True)):
        alpha = ALPHA if count == 4 else None
        for name, values, bits, options in (
            ("uint8", levels(parts, 8).astype("u1"), 8, {}),
            ("uint16", levels(parts, 16).astype("u2"), 16, {}),
            ("int64", levels(parts, 8).astype("i8"), 8, {}),
            ("float32", np.float32(levels(parts, 8) / 255), 8, {}),
            ("float64 of 255", levels(parts, 8).astype(float), 8, {}),
            ("float16", np.float16(levels(parts, 8) / 255), 8, {}),
            ("uint8 with a range for others", levels(parts, 8).astype("u1"), 8, {"value_range": (0, 4095)}),
        ):
            source = np.moveaxis(values, 2, 0) if first else values
            place = "first" if first else "last"
            yield Combination(
                f"array {name}, {count} channels {place}", source, shown(parts[:3], bits, alpha), 1.5, options
            )
        camera = levels(parts[:3], 12).astype("u2")
        source = np.moveaxis(camera, 2, 0) if first else camera
        if count != 4:
            options = {"value_range": (0, 4095)}
            yield Combination(f"array of 12 bits, {count}, {first}", source, shown(parts, 12), options=options)
            yield Combination(f"array of int32, {count}, {first}", source.astype("i4"), None)


def combinations() -> list[Combination]:
    """All of them."""
    return [*tiffs(), *tiffs_of_numbers(), *pngs(), *pnms(), *bmps(), *arrays()]
