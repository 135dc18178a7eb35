# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Line patterns in two tones (prints, tracks, grilles) and smooth curved metal; same contract as textures.py."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from drawing import (
    Array,
    Rng,
    angle,
    blur,
    colour,
    coordinates,
    log_uniform,
    mix,
    noise,
    paint,
    to_uint8,
    turned_noise,
)


def _two_tones(rng: Rng, shape: Image.Image) -> Array:
    """Colour a drawn (H, W) mask with a dark and a pale tone, either way round, with faint grain."""
    weight = np.asarray(shape, np.float32) / 255
    tones = [colour(rng, "dark"), colour(rng, "pale")]
    first, second = tones if rng.random() < 0.5 else tones[::-1]
    grain = noise(rng, *weight.shape, rng.uniform(1, 4)) * rng.uniform(0, 6)
    return to_uint8(mix(first, second, weight) + grain[..., None])


def routed_lines(rng: Rng, h: int, w: int) -> Array:
    """Printed tracks on a grid: bundles with bends at right angles or 45 degrees, pads and rings at their ends."""
    side = max(h, w)
    pitch = max(5.0, side * float(rng.uniform(0.05, 0.12)))
    thick, diagonal = max(2, round(2 * pitch * rng.uniform(0.3, 0.55))), rng.random() < 0.6
    image = Image.new("L", (2 * w, 2 * h))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 12))):
        start = np.round(rng.uniform(0, [w, h]) / pitch) * pitch
        turn, count, corner = int(rng.integers(0, 4)), int(rng.integers(1, 6)), rng.uniform(0.1, 0.5, 3) * side
        for lane in range(count):
            heading, place = turn * math.pi / 2, start + lane * pitch * np.array([1, 1])
            points = [place]
            for length in corner:
                step = np.array([math.cos(heading), math.sin(heading)]) * (length // pitch + 1) * pitch
                points.append(points[-1] + step)
                heading += (math.pi / 4 if diagonal else math.pi / 2) * (1 if turn % 2 else -1)
            draw.line([tuple(2 * p) for p in points], fill=255, width=thick, joint="curve")
            for end in (points[0], points[-1]):
                if rng.random() < 0.5:
                    draw.circle(tuple(2 * end), thick * 1.1, fill=255)
                    draw.circle(tuple(2 * end), thick * 0.4, fill=0 if rng.random() < 0.7 else 255)
    return _two_tones(rng, image.reduce(2))


def line_print(rng: Rng, h: int, w: int) -> Array:
    """Printed rulings: parallel or crossed lines, concentric rings, or frames."""
    u, v = coordinates(rng, h, w, angle(rng))
    pitch, share = log_uniform(rng, 5, 30), rng.uniform(-0.5, 0.5)
    kind = rng.random()
    if kind < 0.35:
        phase = np.sin(2 * np.pi * u / pitch)
    elif kind < 0.6:
        phase = np.maximum(np.sin(2 * np.pi * u / pitch), np.sin(2 * np.pi * v / (pitch * rng.uniform(0.6, 1.6))))
    elif kind < 0.8:
        phase = np.sin(2 * np.pi * np.hypot(u, v) / pitch)
    else:
        phase = np.sin(2 * np.pi * np.maximum(np.abs(u), np.abs(v)) / pitch)
    drawn = np.clip((phase - share) * pitch / 3 + 0.5, 0, 1)
    return _two_tones(rng, Image.fromarray((drawn * 255).astype(np.uint8)))


def grille(rng: Rng, h: int, w: int) -> Array:
    """Slotted cover: rows of rounded openings or bars with shaded rims."""
    u, v = coordinates(rng, h, w, float(rng.choice([0.0, 90.0])))
    tall, long = log_uniform(rng, 7, 26), float(rng.uniform(1.5, 8))
    row = np.floor(v / tall)
    x = ((u / (tall * long) + 0.5 * (row % 2) * (rng.random() < 0.5)) % 1 - 0.5) * tall * long
    y = ((v / tall) % 1 - 0.5) * tall
    x = np.sign(x) * np.maximum(np.abs(x) - tall * (long - 1) * 0.42, 0)
    opening = np.clip(tall * rng.uniform(0.2, 0.36) - np.hypot(x, y) + 0.5, 0, 1)
    sheet = paint(noise(rng, h, w, 2, 2) * rng.uniform(0, 6) + noise(rng, h, w, 80) * 6, colour(rng))
    rim = np.roll(opening, 1, 0) - opening
    return to_uint8(mix(sheet, colour(rng, "dark"), opening) + (rim * rng.uniform(0, 50))[..., None])


def curved_metal(rng: Rng, h: int, w: int) -> Array:
    """Smooth round, ribbed or threaded metal: soft shading, mirrored lights, and little or no grain."""
    u, v = coordinates(rng, h, w, angle(rng))
    period = float(rng.uniform(0.25, 2.5)) * max(h, w)
    slant = rng.uniform(-0.3, 0.3) if rng.random() < 0.5 else 0.0
    phase = 2 * np.pi * (v + slant * u) / period + noise(rng, h, w, 120) * rng.uniform(0, 0.2)
    grey = np.sin(phase) * rng.uniform(10, 60)
    for _ in range(int(rng.integers(1, 4))):  # Lamps and windows appear as bands along the part.
        band = np.clip(np.cos(phase - rng.uniform(0, 6.3)), 0, 1) ** log_uniform(rng, 4, 200)
        grey = grey + band * rng.choice([-0.6, 1.0, 1.0]) * rng.uniform(20, 140)
    if rng.random() < 0.4:
        grey = grey + turned_noise(rng, h, w, (1.3, 60.0), 90.0) * rng.uniform(0.5, 4)
    base = colour(rng, "metal") * rng.uniform(0.4, 1.2)
    grey = blur(grey.astype(np.float32), rng.uniform(0, 3)) + noise(rng, h, w, 1) * rng.uniform(0, 2)
    return to_uint8(paint(grey, base))
