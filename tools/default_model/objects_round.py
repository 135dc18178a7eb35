# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Rounded and natural procedural objects; same contract as objects.py."""

from __future__ import annotations

import math

import numpy as np

from drawing import Array, Rng, colour, noise, paint, ring_points, rounded_box, turned_noise
from objects import Material, add, begin, part_colour


def ball(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """One ball, matt or shiny."""
    stage = begin(rng, h, w, material)
    add(rng, stage, stage.canvas().circle(0, 0, 0.9), colour(rng), rng.uniform(0.4, 0.9))
    return stage.result()


def tube(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Cylinder across the picture with bands along it (bottle body, pipe, brush handle)."""
    stage, fat = begin(rng, h, w, material), rng.uniform(0.2, 0.6)
    add(rng, stage, stage.canvas().box(0, 0, rng.uniform(0.9, 2.0), fat), part_colour(rng), fat * 0.9)
    for x in rng.uniform(-0.7, 0.7, int(rng.integers(0, 4))):
        band = stage.canvas().box(x, 0, rng.uniform(0.03, 0.2), fat * rng.choice([1.0, 1.12]))
        add(rng, stage, band, colour(rng), fat * 0.9, False)
    return stage.result()


def nutshell(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Nut, seed or fruit: an uneven oval with furrows and a paler end."""
    stage, base = begin(rng, h, w, material), colour(rng, "warm" if rng.random() < 0.8 else "vivid")
    theta = np.linspace(0, 2 * math.pi, 80, endpoint=False)
    radius = 0.8 + sum(rng.normal(0, 0.05 / k) * np.cos(k * theta + rng.uniform(0, 6)) for k in range(1, 6))
    outline = ring_points(80, radius) * [1, rng.uniform(0.65, 1)]
    furrow = turned_noise(rng, h, w, (rng.uniform(2, 8), rng.uniform(20, 60)), rng.uniform(0, 180))
    surface = paint(furrow * rng.uniform(3, 16) + noise(rng, h, w, 4, 3) * rng.uniform(2, 9), base)
    add(rng, stage, stage.canvas().polygon(outline), base, rng.uniform(0.25, 0.6), surface=surface)
    end = stage.canvas().polygon(outline * rng.uniform(0.25, 0.5) + [rng.uniform(0.1, 0.3), 0])
    if rng.random() < 0.5:
        stage.image += (end.alpha(4) * rng.uniform(15, 50))[..., None]
    return stage.result()


def zipper(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Two rows of interlocking teeth on cloth tapes."""
    stage, tone = begin(rng, h, w, material, turn=float(rng.choice([0.0, math.pi / 2]))), colour(rng, "dark")
    weave = paint(turned_noise(rng, h, w, (1.5, 1.5), 0.0) * rng.uniform(4, 14), tone)
    add(rng, stage, stage.canvas().box(0, 0, 2.0, rng.uniform(0.55, 0.9)), tone, 0.03, surface=weave)
    pitch, teeth = rng.uniform(0.06, 0.14), stage.canvas()
    for row, x in enumerate(np.arange(-1.6, 1.6, pitch / 2)):
        teeth.box(x, 0.08 if row % 2 else -0.08, pitch * 0.2, 0.16)
    add(rng, stage, teeth, part_colour(rng), pitch * 0.4)
    return stage.result()


def biscuit(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Baked round or box-like piece with crumbs, chips and docking holes."""
    stage, base = begin(rng, h, w, material), colour(rng, "warm")
    outline = rounded_box(0.9, rng.uniform(0.6, 0.9), rng.uniform(2, 8))
    surface = paint(noise(rng, h, w, rng.uniform(3, 9), 4) * rng.uniform(6, 20), base)
    add(rng, stage, stage.canvas().polygon(outline), base, rng.uniform(0.1, 0.3), surface=surface)
    marks = stage.canvas()
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, int(rng.integers(2, 5)))] * 2), -1).reshape(-1, 2)
    for x, y in grid * [1, 0.7]:
        marks.circle(x, y, 0.05)
    stage.image *= 1 - rng.uniform(0, 0.6) * marks.alpha(1)[..., None]
    return stage.result()


def candles(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Several equal small objects in a regular arrangement."""
    stage, base = begin(rng, h, w, material), colour(rng)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    power, size = rng.uniform(2, 6), 0.75 / max(rows, columns)
    ring = rng.random() < 0.5
    dark = colour(rng, "dark")
    for y in (np.arange(rows) - (rows - 1) / 2) * 2.3 * size:
        for x in (np.arange(columns) - (columns - 1) / 2) * 2.3 * size:
            place = np.array([x, y])
            add(rng, stage, stage.canvas().polygon(rounded_box(size, size, power) + place), base, size * 0.3)
            if ring:
                add(rng, stage, stage.canvas().circle(x, y, size * 0.35), dark, 0.03, False)
    return stage.result()
