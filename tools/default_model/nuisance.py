# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Variation that has nothing to do with defects: normal structure of a scene, and what cameras and files do to it."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from drawing import (
    BICUBIC,
    BOX,
    Array,
    Canvas,
    Rng,
    blur,
    colour,
    log_uniform,
    mix,
    noise,
    paint,
    rounded_box,
    to_uint8,
    turned_noise,
)


FONTS = [ImageFont.load_default(size) for size in (9, 12, 16, 22)]
LETTERS = np.array(list("ABCDEFGHKLMNPRSTUVXYZ0123456789-./"))


def _ink(rng: Rng, kind: str = "any") -> tuple[int, ...]:
    return tuple(int(value) for value in colour(rng, kind))


def _text(rng: Rng, image: Image.Image) -> None:
    """Printed letters, upright or on a label."""
    draw, (w, h) = ImageDraw.Draw(image), image.size
    x, y, font = rng.uniform(0, 0.7) * w, rng.uniform(0, 0.85) * h, FONTS[int(rng.integers(len(FONTS)))]
    text = "\n".join("".join(rng.choice(LETTERS, int(rng.integers(2, 9)))) for _ in range(int(rng.integers(1, 4))))
    if rng.random() < 0.5:
        left, top, right, bottom = draw.textbbox((x, y), text, font=font)
        draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=_ink(rng, "pale"))
    draw.text((x, y), text, font=font, fill=_ink(rng))


def _holes(rng: Rng, image: Image.Image) -> None:
    """A regular row, ring or lattice of equal round holes."""
    draw, (w, h) = ImageDraw.Draw(image), image.size
    radius, step = rng.uniform(0.015, 0.06) * w, rng.uniform(0.15, 0.4) * w
    x0, y0, ink, rim = rng.uniform(0, step), rng.uniform(0, step), _ink(rng, "dark"), _ink(rng, "metal")
    rows = np.arange(y0, h, step) if rng.random() < 0.5 else np.array([rng.uniform(0, h)])
    for y in rows:
        for x in np.arange(x0, w, step):
            draw.circle((x, y), radius * 1.25, fill=rim)
            draw.circle((x, y), radius, fill=ink)


def _border(rng: Rng, image: Image.Image) -> None:
    """The surface ends: another plain material along one or more sides."""
    draw, (w, h), ink = ImageDraw.Draw(image), image.size, _ink(rng)
    for side in range(4):
        if rng.random() < 0.45:
            wide, lean = rng.uniform(0.03, 0.2) * w, rng.normal(0, 0.01) * w
            strip = np.array([[0, 0], [w, 0], [w, wide + lean], [0, wide]])
            if side % 2:
                strip = strip[:, ::-1]
            if side >= 2:
                strip = np.array([w, h]) - strip
            draw.polygon([tuple(point) for point in strip.tolist()], fill=ink)


def _lines(rng: Rng, image: Image.Image) -> None:
    """Seams, grooves or printed lines right across, single or repeated."""
    draw, w = ImageDraw.Draw(image), image.width
    turn = rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)], p=[0.4, 0.4, 0.2])
    step, count = rng.uniform(0.08, 0.5) * w, int(rng.integers(1, 6))
    ink, wide, (x, y) = _ink(rng), max(1, int(rng.exponential(0.015) * w)), rng.uniform(0, w, 2)
    along = np.array([math.cos(turn), math.sin(turn)]) * 3 * w
    for i in range(count):
        centre = np.array([x - math.sin(turn) * step * i, y + math.cos(turn) * step * i])
        draw.line([tuple(centre - along), tuple(centre + along)], fill=ink, width=wide)


def _two_materials(rng: Rng, image: Image.Image, other: Array) -> None:
    """A second material on one side of a straight edge, in a band or in a disc."""
    (w, h), kind = image.size, rng.random()
    mask = Image.new("L", image.size)
    draw, first = ImageDraw.Draw(mask), rng.uniform(0.2, 0.8, 2)
    if kind < 0.6:
        draw.polygon([(0, 0), (first[0] * w, 0), (first[1] * w if kind < 0.2 else first[0] * w, h), (0, h)], fill=255)
    elif kind < 0.8:
        draw.rectangle((0, first[0] * h, w, first[0] * h + rng.uniform(0.1, 0.4) * h), fill=255)
    else:
        draw.circle((first[0] * w, first[1] * h), rng.uniform(0.15, 0.6) * w, fill=255)
    if rng.random() < 0.5:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.paste(Image.fromarray(np.ascontiguousarray(other)), mask=mask)


def add_structure(rng: Rng, surface: Array, other: Array | None) -> Array:
    """Normal edges, joints, print and holes on a uint8 (H, W, 3) surface; other is a second surface or None."""
    image = Image.fromarray(np.ascontiguousarray(surface))
    if other is not None:
        _two_materials(rng, image, other)
    for _ in range(1 if rng.random() < 0.7 else 2):
        (_text, _holes, _border, _lines)[int(rng.integers(0, 4))](rng, image)
    return np.asarray(image)


def cut_part(rng: Rng, surface: Array) -> tuple[Array, Array]:
    """Make a part of a uint8 (H, W, 3) surface that fills some of a plain background: (image, foreground bool)."""
    h, w = surface.shape[:2]
    half = min(h, w) / 2
    turn = float(rng.choice([0.0, math.pi / 2, rng.uniform(0, math.pi)]))
    pose = (w / 2 + rng.normal(0, 0.08) * w, h / 2 + rng.normal(0, 0.08) * h, half, turn)
    canvas, kind, fat = Canvas(h, w, pose), rng.random(), rng.uniform(0.35, 0.8)
    if kind < 0.5:  # A bar right across.
        canvas.box(0, 0, 4.0, fat)
    elif kind < 0.8:
        canvas.polygon(rounded_box(rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.95), log_uniform(rng, 2, 20)))
    else:
        canvas.box(0, fat, 4.0, 1.2)  # The edge of something larger.
    alpha = canvas.alpha()
    # Much of the world behind a part is black, evenly lit or out of focus.
    behind = colour(rng, "dark" if rng.random() < 0.7 else "any") * (0.3 if rng.random() < 0.4 else 1.0)
    ground = paint(noise(rng, h, w, half * 0.5, 2) * rng.uniform(0, 14), behind.astype(np.float32))
    image = surface.astype(np.float32)
    if kind < 0.5 and rng.random() < 0.7:
        dome = blur(alpha, half * fat * 0.7)
        image = image * (0.3 + 0.9 * dome / max(float(dome.max()), 0.1))[..., None]
    return to_uint8(mix(ground, image, alpha)), alpha > 0.5


def place(rng: Rng, image: Array, mask: Array, size: int) -> tuple[Array, Array]:
    """Crop shift, flip and quarter turn, then resize to a square: (float32 (size, size, 3), mask bool)."""
    h, w = mask.shape
    for attempt in range(3):
        trim = 0.08 * rng.random() if attempt < 2 else 0.0
        rows, columns = round(h * (1 - trim)), round(w * (1 - trim))
        top, left = int(rng.integers(0, h - rows + 1)), int(rng.integers(0, w - columns + 1))
        cut = mask[top : top + rows, left : left + columns]
        if cut.sum() >= 0.6 * mask.sum():
            break
    turn, flip = int(rng.integers(0, 4)) * int(rng.random() < 0.5), rng.random() < 0.5
    part, cut = (np.rot90(a[top : top + rows, left : left + columns], turn) for a in (image, mask))
    if flip:
        part, cut = part[:, ::-1], cut[:, ::-1]
    method = BOX if rng.random() < 0.4 else BICUBIC
    part = np.clip(part, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(part)).resize((size, size), method)
    if not cut.any():
        return np.asarray(picture, np.float32), np.zeros((size, size), bool)
    share = np.asarray(Image.fromarray(cut.astype(np.uint8) * 255).resize((size, size), BOX))
    # Thin marks cover only a part of each smaller pixel and must not vanish from the mask.
    return np.asarray(picture, np.float32), share >= min(90, max(1, int(share.max())))


def _illuminate(rng: Rng, image: Array) -> Array:
    """Gradient, vignette or soft uneven lighting."""
    size = image.shape[0]
    kind, axis = rng.random(), np.linspace(-1, 1, size, dtype=np.float32)
    if kind < 0.4:
        turn, depth = rng.uniform(0, 6.3), rng.uniform(0.03, 0.3)
        gain = 1 + depth * (math.cos(turn) * axis[None] + math.sin(turn) * axis[:, None])
    elif kind < 0.7:
        x, y = axis[None] - rng.normal(0, 0.3), axis[:, None] - rng.normal(0, 0.3)
        gain = 1.05 - rng.uniform(0.05, 0.35) * (x * x + y * y) / 2
    else:
        gain = 1 + rng.uniform(0.02, 0.1) * noise(rng, size, size, size * rng.uniform(0.3, 0.8))
    return image * gain[..., None].astype(np.float32)


def _tone(rng: Rng, image: Array) -> Array:
    """Brightness, contrast, gamma and white balance, kept from clipping most of the picture."""
    mean = image.mean()
    image = mean + (image - mean) * math.exp(rng.normal(0, 0.2 if rng.random() < 0.9 else 0.5))
    if rng.random() < 0.5:
        image = image * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    image = image * math.exp(np.clip(rng.normal(0, 0.2), -0.5, 0.4)) + rng.normal(0, 8)
    if rng.random() < 0.4:
        image = 255 * np.power(np.clip(image, 0, 255) / 255, math.exp(rng.normal(0, 0.2)))
    # Burnt-out or black pictures would hide what the label says.
    low, high = np.percentile(image[::4, ::4], (8, 92))
    if high > 245 and rng.random() < 0.7:
        image = image * (rng.uniform(200, 245) / high)
    elif high < 60 or (low < 4 and rng.random() < 0.5):
        image = np.maximum(image + rng.uniform(5, 15) - min(low, 0), 0) * rng.uniform(1, 1.3)
    return image


def _sensor(rng: Rng, image: Array) -> Array:
    """Gaussian and brightness-dependent noise, per pixel or correlated as after demosaicing."""
    size, level = image.shape[0], min(9.0, float(rng.exponential(1.6)))
    channels = 1 if rng.random() < 0.4 else 3
    if rng.random() < 0.3:
        grain = turned_noise(rng, size, size * channels, (1.7, 1.7), 0).reshape(size, size, channels)
    else:
        grain = rng.standard_normal((size, size, channels), np.float32)
    if rng.random() < 0.4:
        grain = grain * np.sqrt(np.clip(image, 4, 255) / 128)
    return image + level * grain


def degrade(rng: Rng, image: Array) -> Array:
    """Simulate what a camera and a file do: float32 (S, S, 3) -> uint8 (S, S, 3). Never depends on the label."""
    if rng.random() < 0.5:
        image = _illuminate(rng, image)
    if rng.random() < 0.85:
        image = _tone(rng, image)
    is_grey = rng.random() < 0.35
    if is_grey:
        grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
        image = np.repeat(grey[..., None], 3, 2)
    if rng.random() < 0.3:
        soft = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        image = np.asarray(soft.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1)))), np.float32)
    if rng.random() < 0.75:
        image = _sensor(rng, image)
    if is_grey:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    picture = Image.fromarray(np.clip(image + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.2:
        picture = ImageEnhance.Sharpness(picture).enhance(float(rng.uniform(1.2, 2.5)))
    if rng.random() < 0.45:
        coded = io.BytesIO()
        picture.save(coded, "JPEG", quality=int(rng.integers(55, 96)), subsampling=int(rng.choice([0, 2])))
        picture = Image.open(coded).convert("RGB")
    return np.array(picture)
