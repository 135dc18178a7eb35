# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Light and lens, the same for normal and defective: highlights, shadows, rounding, vignette and depth of field.

Each works on a square picture in 0..255, float32 (S, S, 3). None may hide what the label says, so lenses focus on the
``focus`` they are given and light keeps some contrast everywhere.
"""

from __future__ import annotations

import math

import numpy as np

from drawing import Array, Rng, blur, log_uniform, noise


def _axes(rng: Rng, size: int) -> tuple[Array, Array]:
    """Turned coordinates (u, v), each (S, S), in picture sides around a random point of the picture."""
    x, y = np.meshgrid(np.linspace(0, 1, size, dtype=np.float32), np.linspace(0, 1, size, dtype=np.float32))
    x, y = x - rng.uniform(0, 1), y - rng.uniform(0, 1)
    turn = rng.choice([0.0, math.pi / 2, rng.uniform(0, math.pi)])
    return math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x


def highlights(rng: Rng, image: Array) -> Array:
    """Draw what a glossy surface mirrors: soft round, long or repeated bright or dark places."""
    size = image.shape[0]
    shine = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        u, v = _axes(rng, size)
        if rng.random() < 0.25:  # Ribs mirror the same lamp many times.
            v = np.sin(v * rng.uniform(4, 30)) / 10
        wide, long = log_uniform(rng, 0.015, 0.25), log_uniform(rng, 0.05, 2.0)
        spot = np.exp(-((v / wide) ** 2) - (u / long) ** 2) * rng.uniform(0.3, 1)
        shine = np.maximum(shine, spot)
    if rng.random() < 0.3:
        shine = shine * np.clip(0.8 + 0.3 * noise(rng, size, size, size * 0.1, 2), 0, 1.2)
    if rng.random() < 0.3:  # What is mirrored may be dark: the camera, a gap between lamps.
        return image * (1 - np.clip(shine, 0, 1) * rng.uniform(0.25, 0.75))[..., None]
    # Never fully burnt out: a scratch under a highlight still shows.
    return image + (255 - image) * (np.clip(shine, 0, 1) * rng.uniform(0.25, 0.8))[..., None]


def shadows(rng: Rng, image: Array) -> Array:
    """Something outside the picture keeps light off: soft bands, edges and blobs."""
    size = image.shape[0]
    u, v = _axes(rng, size)
    soft = log_uniform(rng, 0.01, 0.3)
    kind = rng.random()
    if kind < 0.4:
        inside = np.tanh(v / soft) / 2 + 0.5
    elif kind < 0.75:
        inside = np.tanh((rng.uniform(0.05, 0.3) - np.abs(v + 0.1 * np.sin(u * 6))) / soft) / 2 + 0.5
    else:
        inside = np.clip(noise(rng, size, size, size * rng.uniform(0.2, 0.6)) / (soft * 6) + 0.3, 0, 1)
    return image * (1 - inside * rng.uniform(0.2, 0.7))[..., None].astype(np.float32)


def rounding(rng: Rng, image: Array) -> Array:
    """Shading of a cylinder, or of parallel ridges, across the picture."""
    _, v = _axes(rng, image.shape[0])
    ridges = 1.0 if rng.random() < 0.6 else rng.uniform(1, 4)
    shade = np.cos(math.pi * ridges * v) * rng.uniform(0.2, 0.6)
    gain = (1 + shade) / (1 + max(0.0, float(shade.mean())))
    return image * gain[..., None].astype(np.float32)


def dark_corners(rng: Rng, image: Array) -> Array:
    """Strong vignette of a spot lamp or an endoscope."""
    size = image.shape[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    reach = np.hypot(axis[None] - rng.normal(0, 0.15), axis[:, None] - rng.normal(0, 0.15))
    fall = np.clip((reach - rng.uniform(0.5, 0.9)) / rng.uniform(0.3, 1), 0, 1)
    return image * (1 - fall * rng.uniform(0.3, 0.85))[..., None]


def depth_of_field(rng: Rng, image: Array, focus: tuple[float, float]) -> Array:
    """Blur that grows with the distance from a band or disc of focus; focus is (row, column) in picture sides."""
    size = image.shape[0]
    y, x = np.meshgrid(*2 * [np.linspace(0, 1, size, dtype=np.float32)], indexing="ij")
    y, x, turn = y - focus[0], x - focus[1], rng.uniform(0, math.pi)
    away = np.abs(math.cos(turn) * x + math.sin(turn) * y) if rng.random() < 0.7 else np.hypot(x, y)
    sharp, radius = rng.uniform(0.08, 0.35), log_uniform(rng, 1.2, 6.0) * max(1.0, size / 128)
    weight = np.clip((away - sharp) / rng.uniform(0.1, 0.4), 0, 1)[..., None]
    blurred = []
    for share in (0.4, 1.0):  # Two steps look like one that grows.
        planes = [blur(np.ascontiguousarray(image[..., channel]), radius * share) for channel in range(3)]
        blurred.append(np.stack(planes, 2))
    near, far = np.clip(weight * 2, 0, 1), np.clip(weight * 2 - 1, 0, 1)
    image = image + (blurred[0] - image) * near
    return image + (blurred[1] - image) * far


def light_and_lens(rng: Rng, image: Array, mask: Array) -> Array:
    """A random few of the above: float32 (S, S, 3) -> the same. The lens focuses on the defect, or anywhere."""
    if rng.random() < 0.2:
        image = rounding(rng, image)
    if rng.random() < 0.2:
        image = shadows(rng, image)
    if rng.random() < 0.35:
        image = highlights(rng, image)
    if rng.random() < 0.1:
        image = dark_corners(rng, image)
    if rng.random() < 0.2:
        marked = np.argwhere(mask)
        place = marked[rng.integers(len(marked))] / len(mask) if len(marked) else rng.uniform(0, 1, 2)
        image = depth_of_field(rng, image, (float(place[0]), float(place[1])))
    return image.astype(np.float32)
