# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Things cut out of pictures and laid on a ground, one or several equal ones; shading and gloss are normal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from drawing import Array, Rng, blur, colour, noise, paint, to_uint8


def _coat(rng: Rng, thing: Image.Image, material: Array | None) -> Image.Image:
    """Other colours, and the grain of a material: RGBA in, RGBA out."""
    pixels = np.asarray(thing, np.float32)
    tone, alpha = pixels[..., :3], pixels[..., 3:]
    if rng.random() < 0.5:
        grey = tone.mean(2, keepdims=True)
        base = colour(rng, "metal" if rng.random() < 0.5 else "any")
        tone = grey / 255 * (0.4 * base + 0.6 * 255) if rng.random() < 0.5 else (grey * base) / 160
    elif rng.random() < 0.5:
        tone = tone[..., rng.permutation(3)]
    if material is not None:
        grain = material.astype(np.float32).mean(2, keepdims=True)
        tone = tone * (1 + rng.uniform(0.3, 1) * (grain / max(float(grain.mean()), 20.0) - 1))
    tone = rng.uniform(15, 60) + tone * rng.uniform(0.6, 0.85)  # Pure black and white are rare in photographs.
    return Image.fromarray(np.concatenate([np.clip(tone, 0, 255), alpha], 2).astype(np.uint8))


def _ground(rng: Rng, h: int, w: int, material: Array | None) -> Array:
    """Plain, softly uneven, or a material: float32 (H, W, 3)."""
    if material is not None:
        return material.astype(np.float32)
    base = colour(rng, str(rng.choice(["dark", "pale", "any"])))
    return paint(noise(rng, h, w, max(h, w) * rng.uniform(0.2, 0.8), 2) * rng.uniform(0, 14), base)


def lay_out(rng: Rng, thing: Image.Image, h: int, w: int, material: Callable) -> tuple[Array, Array]:
    """(image uint8 (H, W, 3), foreground bool (H, W)); `material(rng, height, width)` clothes it or lies below."""
    thing = _coat(rng, thing, material(rng, thing.height, thing.width) if rng.random() < 0.5 else None)
    image = _ground(rng, h, w, material(rng, h, w) if rng.random() < 0.45 else None)
    rows, columns = (1, 1) if rng.random() < 0.6 else (int(rng.integers(1, 6)), int(rng.integers(2, 6)))
    cell_h, cell_w = h / rows, w / columns
    fill = rng.uniform(0.7, 1.0) if rows * columns > 1 else rng.uniform(0.6, 1.4)  # Beyond 1 the picture cuts it off.
    turned = thing.rotate(float(rng.uniform(0, 360)), Image.Resampling.BICUBIC, expand=True)
    if rng.random() < 0.4:
        turned = thing
    scale = fill * min(cell_h / turned.height, cell_w / turned.width)
    size = max(8, round(turned.width * scale)), max(8, round(turned.height * scale))
    # One cut-out is at most 320 px; enlarged further it would look soft in a way that no camera makes.
    piece = turned.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    sheet, wobble = Image.new("RGBA", (w, h)), rng.uniform(0, 0.05)
    for row in range(rows):
        for column in range(columns):
            x = (column + 0.5 + rng.normal(0, wobble)) * cell_w - size[0] / 2
            y = (row + 0.5 + rng.normal(0, wobble)) * cell_h - size[1] / 2
            sheet.paste(piece, (round(x), round(y)), piece)
    pixels = np.asarray(sheet, np.float32)
    alpha = pixels[..., 3] / 255
    if rng.random() < 0.6:
        reach = max(1.5, 0.03 * min(h, w) * rng.uniform(0.3, 2))
        shift = tuple(rng.integers(-4, 5, 2).tolist())
        image = image * (1 - rng.uniform(0.1, 0.6) * np.roll(blur(alpha, reach), shift, (0, 1)))[..., None]
    image = image + (pixels[..., :3] - image) * alpha[..., None]
    return to_uint8(image), alpha > 0.5
