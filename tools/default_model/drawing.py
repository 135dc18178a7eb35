# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Small fast building blocks for the procedural scenes: noise, colours, shading and masks (float32, pixels)."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.spatial import cKDTree


Rng = np.random.Generator
Array = np.ndarray
BICUBIC, BILINEAR, BOX = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX


def resize(field: Array, height: int, width: int, method: Image.Resampling = BICUBIC) -> Array:
    """Resize a float32 (H, W) field."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(field, np.float32)).resize((width, height), method))


def blur(field: Array, radius: float) -> Array:
    """Approximately gaussian blur of a float32 (H, W) field, cheap at any radius: shrink and enlarge."""
    height, width = field.shape
    factor = max(1.0, radius * 1.2)
    if factor < 1.3:
        return field
    small = resize(field, max(2, round(height / factor)), max(2, round(width / factor)), BILINEAR)
    return resize(small, height, width, BICUBIC)


def rotate(field: Array, degrees: float, height: int, width: int) -> Array:
    """Rotate a larger (H', W') float32 field and cut the (height, width) centre."""
    turned = Image.fromarray(np.ascontiguousarray(field, np.float32)).rotate(degrees, BILINEAR)
    left, top = (turned.width - width) // 2, (turned.height - height) // 2
    return np.array(turned.crop((left, top, left + width, top + height)))


def noise(rng: Rng, height: int, width: int, cell: float | tuple[float, float], octaves: int = 1) -> Array:
    """Smooth noise of unit variance; cell is the feature size in px, or (vertical, horizontal) sizes."""
    cell_y, cell_x = (cell, cell) if isinstance(cell, (int, float)) else cell
    total = np.zeros((height, width), np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        rows, columns = max(2, math.ceil(height / cell_y) + 1), max(2, math.ceil(width / cell_x) + 1)
        rows, columns = min(rows, height), min(columns, width)
        layer = rng.standard_normal((rows, columns), np.float32)
        total += weight * (layer if (rows, columns) == (height, width) else resize(layer, height, width))
        power += weight * weight
        weight *= 0.6
        cell_y, cell_x = max(1.0, cell_y / 2), max(1.0, cell_x / 2)
    deviation = float(total.std()) or 1.0
    return total / max(deviation, 0.3 * math.sqrt(power))


def turned_noise(rng: Rng, height: int, width: int, cell: tuple[float, float], degrees: float) -> Array:
    """Directional noise at any angle; axis-aligned angles skip the rotation."""
    if degrees % 180 == 0:
        return noise(rng, height, width, cell)
    if degrees % 180 == 90:
        return noise(rng, height, width, (cell[1], cell[0]))
    side = math.ceil(math.hypot(height, width)) + 2
    return rotate(noise(rng, side, side, cell), degrees, height, width)


def angle(rng: Rng) -> float:
    """Degrees: mostly axis-aligned (as in aligned camera set-ups), else anything."""
    return float(rng.choice([0.0, 90.0])) if rng.random() < 0.5 else float(rng.uniform(0, 180))


def coordinates(rng: Rng, height: int, width: int, degrees: float) -> tuple[Array, Array]:
    """Rotated pixel coordinates (u, v) with a random origin."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x - width * rng.random(), y - height * rng.random()
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)


def colour(rng: Rng, kind: str = "any") -> Array:
    """One RGB colour (3,) in 0..255 of a kind: any, metal, warm, dark, pale or vivid."""
    hue, saturation, value = rng.random(), 0.9 * rng.random() ** 2.5, rng.uniform(0.15, 0.95)
    if kind == "metal":
        hue, saturation, value = rng.choice([0.09, 0.6, rng.random()]), rng.uniform(0, 0.18), rng.uniform(0.25, 0.85)
    elif kind == "warm":
        hue, saturation, value = rng.uniform(0.02, 0.13), rng.uniform(0.2, 0.75), rng.uniform(0.25, 0.85)
    elif kind == "dark":
        saturation, value = saturation * 0.5, rng.uniform(0.06, 0.35)
    elif kind == "pale":
        saturation, value = rng.uniform(0, 0.25), rng.uniform(0.6, 0.97)
    elif kind == "vivid":
        saturation, value = rng.uniform(0.3, 0.85), rng.uniform(0.3, 0.92)
    return np.array(colorsys.hsv_to_rgb(float(hue) % 1, float(saturation), float(value)), np.float32) * 255


def related(rng: Rng, base: Array, spread: float = 30) -> Array:
    """A colour (3,) near another one."""
    return np.clip(base + rng.normal(0, spread) + rng.normal(0, spread / 4, 3), 3, 252).astype(np.float32)


def paint(grey: Array, base: Array) -> Array:
    """Colour a (H, W) brightness deviation in 0..255 units with a base colour (3,): (H, W, 3)."""
    gain = base / max(float(base.mean()), 20.0)
    return base + grey[..., None] * (0.35 + 0.65 * gain)


def mix(low: Array, high: Array, weight: Array) -> Array:
    """Blend two colours (3,) or images (H, W, 3) by a weight (H, W) in 0..1."""
    return (low + (high - low) * np.clip(weight, 0, 1)[..., None]).astype(np.float32)


def relief(rng: Rng, height_map: Array, strength: float = 1.0) -> Array:
    """Shading (H, W), about -1..1, of a height map (px) lit from a random side."""
    theta = rng.uniform(0, 2 * math.pi)
    return light(height_map, theta, strength)


def light(height_map: Array, theta: float, strength: float = 1.0) -> Array:
    """Shading (H, W) of a height map (px) lit from the direction theta (radians)."""
    slope = np.zeros_like(height_map)
    slope[:, 1:-1] = math.cos(theta) * (height_map[:, 2:] - height_map[:, :-2])
    slope[1:-1] += math.sin(theta) * (height_map[2:] - height_map[:-2])
    slope *= 0.5 * strength
    return slope / np.sqrt(1 + slope * slope)


def wave(phase: Array, sharpness: float = 1.0) -> Array:
    """Periodic -1..1 profile: a sine at sharpness 1, more square above."""
    value = np.sin(phase)
    return value if sharpness <= 1 else np.tanh(value * sharpness)


def to_uint8(image: Array) -> Array:
    """Clip to 0..255 and convert; a grey (H, W) field becomes RGB."""
    image = np.clip(image, 0, 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A value between low and high, uniform on a log scale."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def cells(rng: Rng, h: int, w: int, size: float, jitter: float = 0.45) -> tuple[Array, Array, Array]:
    """Jittered-grid Voronoi: distance to the nearest and second seed (px) and the cell index, each (H, W)."""
    step = 2 if size >= 12 and h * w > 20000 else 1
    rows, columns = math.ceil(h / size) + 3, math.ceil(w / size) + 3
    y, x = np.mgrid[-1 : rows - 1, -1 : columns - 1].astype(np.float32)
    x += 0.5 * (np.arange(rows) % 2)[:, None]
    seeds = np.stack([y.ravel(), x.ravel()], 1) + rng.uniform(-jitter, jitter, (rows * columns, 2))
    grid = np.mgrid[0:h:step, 0:w:step].reshape(2, -1).T
    distance, index = cKDTree(seeds * size, balanced_tree=False).query(grid, k=2)
    shape = (len(range(0, h, step)), len(range(0, w, step)))
    fields = [distance[:, 0].reshape(shape), distance[:, 1].reshape(shape), index[:, 0].reshape(shape)]
    if step == 2:
        images = [Image.fromarray(field.astype(np.float32)) for field in fields]
        methods = (Image.Resampling.BILINEAR, Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
        fields = [np.asarray(i.resize((w, h), m)) for i, m in zip(images, methods, strict=True)]
    return fields[0].astype(np.float32), fields[1].astype(np.float32), fields[2].astype(np.int64)


class Canvas:
    """An antialiased mask (H, W) drawn in object units (-1..1), with a random pose shared by all shapes."""

    def __init__(self, height: int, width: int, pose: tuple[float, float, float, float]) -> None:
        """pose: centre x and y (px), scale (px per unit), turn (radians)."""
        self.height, self.width, self.pose = height, width, pose
        self.image = Image.new("L", (width * 2, height * 2))
        self.draw = ImageDraw.Draw(self.image)

    def points(self, points: Array) -> list[tuple[float, float]]:
        """Object units (N, 2) -> supersampled pixels."""
        x, y, scale, turn = self.pose
        cos, sin = math.cos(turn), math.sin(turn)
        points = np.asarray(points, np.float64)
        px = x + scale * (cos * points[:, 0] - sin * points[:, 1])
        py = y + scale * (sin * points[:, 0] + cos * points[:, 1])
        return list(zip((2 * px).tolist(), (2 * py).tolist(), strict=True))

    def polygon(self, points: Array, value: int = 255) -> Canvas:
        """Fill a polygon (N, 2); value 0 cuts a hole."""
        self.draw.polygon(self.points(points), fill=value)
        return self

    def circle(self, x: float, y: float, radius: float, value: int = 255) -> Canvas:
        """Fill a circle; value 0 cuts a hole."""
        centre, radius = self.points(np.array([[x, y]]))[0], 2 * radius * self.pose[2]
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        self.draw.ellipse(box, fill=value)
        return self

    def box(self, x: float, y: float, half_width: float, half_height: float, value: int = 255) -> Canvas:
        """Fill a rectangle given by centre and half sides."""
        corners = [(-half_width, -half_height), (half_width, -half_height), (half_width, half_height)]
        return self.polygon(np.array([*corners, (-half_width, half_height)]) + np.array([x, y]), value)

    def line(self, points: Array, thickness: float, value: int = 255) -> Canvas:
        """Draw a polyline (N, 2) of a thickness in object units."""
        self.draw.line(
            self.points(points), fill=value, width=max(1, round(2 * thickness * self.pose[2])), joint="curve"
        )
        return self

    def bounds(self, margin: float) -> tuple[slice, slice] | None:
        """Rows and columns that hold the shape and a margin (px); None when nothing is drawn."""
        box = self.image.getbbox()
        if box is None:
            return None
        left, top = max(0, int(box[0] / 2 - margin)), max(0, int(box[1] / 2 - margin))
        return slice(top, int(box[3] / 2 + margin) + 2), slice(left, int(box[2] / 2 + margin) + 2)

    def alpha(self, soften: float = 0.0) -> Array:
        """Coverage 0..1 as float32 (H, W)."""
        image = self.image.filter(ImageFilter.BoxBlur(soften)) if soften > 0 else self.image
        return np.asarray(image.reduce(2), np.float32) / 255


def ring_points(count: int, radius: Array | float, phase: float = 0.0) -> Array:
    """Points (count, 2) around the origin; radius is one value or one per point."""
    theta = np.linspace(0, 2 * math.pi, count, endpoint=False) + phase
    return np.stack([np.cos(theta) * radius, np.sin(theta) * radius], 1)


def rounded_box(half_width: float, half_height: float, power: float) -> Array:
    """Superellipse outline (64, 2): power 2 is an ellipse, large powers are boxes."""
    theta = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    cos, sin = np.cos(theta), np.sin(theta)
    x = np.sign(cos) * np.abs(cos) ** (2 / power) * half_width
    y = np.sign(sin) * np.abs(sin) ** (2 / power) * half_height
    return np.stack([x, y], 1)
