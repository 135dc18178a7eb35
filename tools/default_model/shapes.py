# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Building blocks of defects: the window they change, patches, strokes and colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from drawing import Array, Rng, blur, noise


@dataclass
class Spot:
    """A window of an image where a defect is drawn."""

    rng: Rng
    image: Array  # (h, w, 3) float32, the window before the change
    inside: Array  # (h, w) bool, foreground in the window
    whole: Array  # (H, W, 3) float32, the whole image
    outside: Array  # (N, 3) background colours, empty for full-frame textures
    area: float  # px aimed at
    donor: Array | None  # (H', W', 3) another image

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the window in px."""
        return self.image.shape[0], self.image.shape[1]


def blob(spot: Spot, softness: float | None = None, stretch: float = 2.5) -> Array:
    """An irregular patch of about the wanted area in the window's middle: coverage (h, w) in 0..1."""
    rng, (h, w) = spot.rng, spot.size
    theta = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    radius, rough = np.ones(48), rng.uniform(0.02, 0.3)
    for k in range(2, 9):
        radius += rng.normal(0, rough / k**0.7) * np.cos(k * theta + rng.uniform(0, 6.3))
    radius = np.clip(radius, 0.25, 2) * math.sqrt(spot.area / math.pi)
    ratio, turn = math.sqrt(rng.uniform(1, stretch)), rng.uniform(0, math.pi)
    x, y = np.cos(theta) * radius * ratio, np.sin(theta) * radius / ratio
    if rng.random() < 0.12:  # Some patches are rectangles, as chips, labels or tape.
        half = math.sqrt(spot.area) / 2
        x, y = np.array([-1, 1, 1, -1]) * half * ratio, np.array([-1, -1, 1, 1]) * half / ratio
    px, py = x * math.cos(turn) - y * math.sin(turn) + w / 2, x * math.sin(turn) + y * math.cos(turn) + h / 2
    shape = Image.new("L", (2 * w, 2 * h))
    ImageDraw.Draw(shape).polygon(list(zip((2 * px).tolist(), (2 * py).tolist(), strict=True)), fill=255)
    alpha = np.asarray(shape.reduce(2), np.float32) / 255
    if softness is None:
        softness = 0.0 if rng.random() < 0.5 else float(rng.uniform(0.05, 0.25))  # softer ones look like light
    alpha = blur(alpha, softness * math.sqrt(spot.area / math.pi))
    if rng.random() < 0.25 and spot.area > 60:
        alpha = alpha * np.clip(0.8 + 0.8 * noise(rng, h, w, rng.uniform(2, 6), 2), 0, 1)
    return np.clip(alpha, 0, 1)


def stroke(
    spot: Spot, wander: float, thick: float, branches: int = 0, jagged: bool = False, heading: float | None = None
) -> Array:
    """A thin path across the window: coverage (h, w); wander bends it, branches split off (cracks)."""
    rng, (h, w) = spot.rng, spot.size
    shape = Image.new("L", (2 * w, 2 * h))
    draw, length = ImageDraw.Draw(shape), max(6.0, min(0.95 * min(h, w), spot.area / max(thick, 0.7)))
    count = int(np.clip(length / (3 if jagged else 8), 4, 40))
    heading = rng.uniform(0, 2 * math.pi) if heading is None else heading
    bend = rng.normal(0, wander / count)
    turns = np.cumsum(rng.normal(0, wander / math.sqrt(count), count) * (1 if jagged else 0.3) + bend)
    steps = np.stack([np.cos(heading + turns), np.sin(heading + turns)], 1) * length / count
    path = np.cumsum(steps, 0)
    path += np.array([w / 2, h / 2]) - path.mean(0)
    widths = np.maximum(1, np.round(2 * thick * rng.uniform(0.6, 1.3, count))).astype(int)
    for i in range(count - 1):
        draw.line([tuple(2 * path[i]), tuple(2 * path[i + 1])], fill=255, width=int(widths[i]))
    for _ in range(branches):
        start, side = int(rng.integers(1, count - 1)), heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        points, wiggle = [path[start]], rng.normal(0, 0.5, max(3, count // 3))
        for turn in wiggle:
            points.append(points[-1] + np.array([math.cos(side + turn), math.sin(side + turn)]) * length / count)
        draw.line([tuple(2 * p) for p in points], fill=int(rng.integers(140, 256)), width=max(1, int(1.2 * thick)))
    return np.asarray(shape.reduce(2), np.float32) / 255


def ink(spot: Spot, lowest: float = 25, sign: float | None = None) -> Array:
    """A colour (3,) that differs from the local mean: darker or brighter by lowest..130, grey or tinted."""
    rng = spot.rng
    mean = spot.image.reshape(-1, 3).mean(0)
    if sign is None:
        sign = -1.0 if rng.random() < np.clip(mean.mean() / 255 * 1.2, 0.2, 0.85) else 1.0
    target = mean + sign * math.exp(rng.uniform(math.log(lowest), math.log(130)))
    if rng.random() < 0.35:
        target = target + rng.normal(0, 35, 3)
    return np.clip(target, 2, 253).astype(np.float32)


def lay(spot: Spot, tone: Array, alpha: Array, opacity: float = 1.0) -> Array:
    """Blend a colour (3,) or window (h, w, 3) over the window."""
    return spot.image + (tone - spot.image) * (alpha * opacity)[..., None]


def thin(spot: Spot, low: float = 0.5, high: float = 2.2) -> float:
    """Stroke thickness (px) in proportion to the picture."""
    return float(spot.rng.uniform(low, high)) * max(1.0, spot.whole.shape[0] / 150)
