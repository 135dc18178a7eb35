# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Polished metal that mirrors its surroundings: threads, turned steps, rods and pressed sheet.

Each is a height map; where the surface turns decides which lamp, window or camera it mirrors. What looks like a dark
mark on such a part is often the picture of something else, which only variety can teach. Same contract as objects.py.
"""

from __future__ import annotations

import math

import numpy as np

from drawing import Array, Rng, angle, blur, colour, coordinates, log_uniform, mix, noise, paint, to_uint8
from objects import Material, begin


def _surroundings(rng: Rng, across: Array, along: Array) -> Array:
    """Brightness (H, W), about 0..1, that a surface tilted by two slopes, each (H, W), mirrors."""
    seen = np.full_like(across, rng.uniform(0.15, 0.5))
    seen += rng.uniform(-0.15, 0.15) * across + rng.uniform(-0.15, 0.15) * along
    for _ in range(int(rng.integers(2, 7))):  # Lamps and windows, and the dark camera or gaps between them.
        brightness = rng.uniform(0.2, 0.8) if rng.random() < 0.65 else -rng.uniform(0.15, 0.5)
        u, v = across - rng.normal(0, 0.5), along - rng.normal(0, 0.3)
        half_u, half_v = log_uniform(rng, 0.04, 0.6), log_uniform(rng, 0.04, 2.0)
        soft = log_uniform(rng, 0.02, 0.3)
        inside = np.minimum(half_u - np.abs(u), half_v - np.abs(v))
        seen += brightness * (np.tanh(inside / soft) / 2 + 0.5)
    return seen


def _streaks(rng: Rng, place: Array, other: Array) -> Array:
    """Fine machining marks (H, W) of unit variance on lines of equal place (px), slowly changing along other."""
    values = rng.standard_normal((int(np.ptp(other) / log_uniform(rng, 40, 400)) + 2, 4096)).astype(np.float32)
    fine = log_uniform(rng, 0.4, 2.0)
    column = ((place - place.min()) * fine).astype(int) % values.shape[1]
    row = (other - other.min()) / max(float(np.ptp(other)), 1.0) * (len(values) - 1.001)
    low, share = row.astype(int), row % 1
    return values[low, column] * (1 - share) + values[low + 1, column] * share


def _shine(rng: Rng, height_map: Array, marks: Array) -> Array:
    """Photograph (H, W, 3) of polished metal of a height map (px); marks are its machining marks (H, W)."""
    slope_y, slope_x = np.gradient(height_map)
    across, along = (slope / np.sqrt(1 + slope_y**2 + slope_x**2) for slope in (slope_y, slope_x))
    if rng.random() < 0.5:
        across, along = along, across
    wobble = rng.uniform(0, 0.06) if rng.random() < 0.6 else 0.0
    across = across + marks * wobble + noise(rng, *height_map.shape, 30, 2) * rng.uniform(0, 0.05)
    grey = _surroundings(rng, across, along)
    hollow = np.clip((height_map - blur(height_map.astype(np.float32), min(height_map.shape) * 0.06)) / 8, -1, 0.5)
    grey = grey * (1 + rng.uniform(0, 0.6) * hollow)  # Less light reaches the bottom of a groove.
    grey = np.clip(grey, 0, None)
    grey = grey * (rng.uniform(60, 165) / max(float(grey.mean()), 0.1))
    grey = grey + marks * rng.uniform(0, 7) + noise(rng, *height_map.shape, 1) * rng.uniform(0, 3)
    grey = 255 * np.clip(grey / 255, 0.0, 1.15) ** rng.uniform(0.8, 1.3)
    base = colour(rng, "metal")
    return paint(grey - float(grey.mean()), base * (np.clip(grey.mean(), 50, 190) / base.mean()))


def _profile(rng: Rng, phase: Array) -> Array:
    """One period of a thread, 0..1, at a phase in turns: round groove with lands, pointed or trapezoid."""
    swing, kind = np.cos(2 * math.pi * phase), rng.random()
    if kind < 0.45:
        share = rng.uniform(0.4, 0.9)  # of the period is groove
        into = np.clip(np.abs((phase % 1) - 0.5) / (share / 2), 0, 1)
        return 1 - np.sqrt(np.clip(1 - into**2, 0, 1))
    if kind < 0.65:
        return np.abs((phase % 1) * 2 - 1)
    steep = log_uniform(rng, 0.8, 6)
    return np.tanh(steep * (swing + rng.uniform(-0.5, 0.5))) / 2 + 0.5


def _shaft(rng: Rng, h: int, w: int, material: Material | None, is_thread: bool) -> tuple[Array, Array]:
    """A round bar across the picture, threaded or turned to several diameters."""
    side = min(h, w)
    u, v = coordinates(rng, h, w, angle(rng))
    radius = log_uniform(rng, 0.25, 1.2) * side
    v = v - v.mean() + rng.normal(0, 0.12) * side
    across = np.clip(v / radius, -0.995, 0.995)
    round_ = radius * np.sqrt(1 - across**2)
    if is_thread:
        pitch = log_uniform(rng, 0.05, 0.6) * side
        lead = rng.choice([0, 1, -1, 2]) * np.arcsin(across) / (2 * math.pi)
        position = u / pitch + lead + rng.uniform(0, 1)
        grooves = _profile(rng, position) * pitch * rng.uniform(0.1, 0.4)
        around = position * pitch
    else:
        ends = np.sort(rng.uniform(u.min(), u.max(), int(rng.integers(1, 6))))
        steps = rng.normal(0, 0.06, len(ends)) * side
        chamfer = log_uniform(rng, 0.8, 8)
        grooves = sum(
            step * (np.tanh((u - end) / chamfer) / 2 + 0.5) for end, step in zip(ends, steps, strict=True)
        ) + np.zeros_like(u)
        around = u
    height_map = blur((round_ + grooves).astype(np.float32), rng.uniform(0, 2))
    marks = _streaks(rng, around, v)
    metal = _shine(rng, height_map, marks)
    stage = begin(rng, h, w, material)
    edge = radius + grooves - float(grooves.mean())
    stage.cover[:] = np.clip(edge - np.abs(v) + 0.5, 0, 1)
    stage.image[:] = mix(stage.image, metal, stage.cover)
    return stage.result()


def threaded_shaft(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Threaded bar or spindle."""
    return _shaft(rng, h, w, material, is_thread=True)


def turned_shaft(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Bar turned to several diameters."""
    return _shaft(rng, h, w, material, is_thread=False)


def rods(rng: Rng, h: int, w: int) -> Array:
    """Polished rods side by side."""
    u, v = coordinates(rng, h, w, angle(rng))
    wide = log_uniform(rng, 0.08, 0.5) * min(h, w)
    across = ((v / wide) % 1 - 0.5) * 2
    tall = wide / 2 * np.sqrt(np.clip(1 - across**2, 0.01, 1)) * rng.uniform(0.4, 1)
    return to_uint8(_shine(rng, tall.astype(np.float32), _streaks(rng, u if rng.random() < 0.5 else v, u)))


def pressed_sheet(rng: Rng, h: int, w: int) -> Array:
    """Bright sheet pressed into beads, domes or gentle waves."""
    side, kind = min(h, w), rng.random()
    u, v = coordinates(rng, h, w, angle(rng))
    if kind < 0.4:
        tall = noise(rng, h, w, rng.uniform(0.2, 0.8) * side, 2) * log_uniform(rng, 1, 12)
    elif kind < 0.7:
        pitch = log_uniform(rng, 0.12, 0.7) * side
        tall = np.tanh(rng.uniform(0.7, 4) * (np.cos(2 * math.pi * v / pitch) - rng.uniform(0, 0.8))) * pitch * 0.08
    else:
        pitch = log_uniform(rng, 0.15, 0.7) * side
        lattice = np.cos(2 * math.pi * u / pitch) * np.cos(2 * math.pi * v / pitch)
        tall = np.clip(lattice - rng.uniform(0, 0.6), 0, 1) * pitch * rng.uniform(0.1, 0.3)
    tall = blur(tall.astype(np.float32), rng.uniform(0, 3))
    return to_uint8(_shine(rng, tall, _streaks(rng, v, u)))
