# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Procedural objects on backgrounds: each function draws (image uint8 (H, W, 3), foreground bool (H, W))."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from drawing import (
    Array,
    Canvas,
    Rng,
    blur,
    colour,
    light,
    mix,
    noise,
    paint,
    related,
    ring_points,
    rounded_box,
    to_uint8,
    turned_noise,
)


Material = Callable[[Rng, int, int], Array]


@dataclass
class Stage:
    """One object being built: canvas (H, W, 3) float32, foreground coverage (H, W), shared pose and light."""

    image: Array
    cover: Array
    pose: tuple[float, float, float, float]
    theta: float
    material: Material | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self.cover.shape[0], self.cover.shape[1]

    def canvas(self) -> Canvas:
        """An empty mask in the pose of the object."""
        return Canvas(*self.size, self.pose)

    def result(self) -> tuple[Array, Array]:
        """Finished image and foreground."""
        return to_uint8(self.image), self.cover > 0.5


def begin(rng: Rng, h: int, w: int, material: Material | None, turn: float | None = None) -> Stage:
    """Draw a background and choose pose (fixed upright or any turn) and light."""
    kind = rng.random()
    base = colour(rng, str(rng.choice(["dark", "pale", "any", "metal"])))
    if kind < 0.2 and material is not None:
        image = material(rng, h, w).astype(np.float32) * rng.uniform(0.3, 1)
    elif kind < 0.6:
        image = paint(noise(rng, h, w, rng.uniform(1, 4), 2) * rng.uniform(0, 7) + noise(rng, h, w, 100) * 6, base)
    else:
        grey = turned_noise(rng, h, w, (rng.uniform(1, 6), rng.uniform(10, 90)), 0.0) * rng.uniform(0, 10)
        image = paint(grey, base)
    half = min(h, w) / 2
    if turn is None:
        turn = float(rng.uniform(0, 2 * math.pi)) if rng.random() < 0.6 else float(rng.integers(0, 4)) * math.pi / 2
    centre = (w / 2 + rng.normal(0, 0.05) * w, h / 2 + rng.normal(0, 0.05) * h)
    pose = (float(centre[0]), float(centre[1]), float(half * rng.uniform(0.6, 1.0)), turn)
    return Stage(image, np.zeros((h, w), np.float32), pose, float(rng.uniform(0, 2 * math.pi)), material)


def body(rng: Rng, stage: Stage, base: Array, size: tuple[int, int]) -> Array:
    """Surface (H, W, 3) of a part of a size: photographic, brushed, grainy or smooth."""
    h, w = size
    kind = rng.random()
    if kind < 0.35 and stage.material is not None:
        photo = stage.material(rng, h, w).astype(np.float32)
        return photo * rng.uniform(0.5, 1) + (base - photo.mean((0, 1))) * rng.uniform(0, 1)
    if kind < 0.5:
        grey = turned_noise(rng, h, w, (1.5, rng.uniform(20, 80)), rng.uniform(0, 180)) * rng.uniform(2, 10)
    elif kind < 0.8:
        grey = noise(rng, h, w, rng.uniform(1.2, 8), 2) * rng.uniform(2, 12)
    else:
        grey = noise(rng, h, w, 60, 2) * rng.uniform(1, 6)
    return paint(grey, base)


def add(
    rng: Rng,
    stage: Stage,
    canvas: Canvas,
    base: Array,
    bulge: float = 0.1,
    shadow: bool = True,
    surface: Array | None = None,
) -> None:
    """Lay one part over the stage; bulge is the rounding radius in object units."""
    reach = stage.pose[2] * rng.uniform(0.03, 0.12)
    radius = max(1.5, bulge * stage.pose[2])
    bounds = canvas.bounds(2 * reach + 4)  # Small parts cost little when only their surroundings are touched.
    if bounds is None:
        return
    alpha, image, cover = canvas.alpha()[bounds], stage.image[bounds], stage.cover[bounds]
    if shadow and rng.random() < 0.7:
        move = (round(math.sin(stage.theta) * reach), round(math.cos(stage.theta) * reach))
        image *= 1 - rng.uniform(0.2, 0.6) * np.roll(blur(alpha, reach), move, (0, 1))[..., None]
    soft = blur(alpha, radius)
    dome = np.sqrt(np.clip(soft / max(float(soft.max()), 0.1) * 1.8 - 0.8, 0, 1)) * radius * rng.uniform(0.6, 1.4)
    shade = light(blur(dome, radius / 3), stage.theta + math.pi, 1.2)
    gloss = np.clip(shade, 0, 1) ** rng.uniform(3, 12) * rng.uniform(0, 110)
    skin = body(rng, stage, base, alpha.shape) if surface is None else surface[bounds]
    lit = skin * (1 + rng.uniform(0.25, 0.6) * shade)[..., None] + gloss[..., None]
    image += (lit - image) * alpha[..., None]
    np.maximum(cover, alpha, out=cover)


def part_colour(rng: Rng, kind: str = "metal") -> Array:
    """Usual colour of a part, sometimes any colour."""
    return colour(rng, kind if rng.random() < 0.75 else "any")


def washer(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Flat disc with a centre hole and sometimes a step."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    hole = rng.uniform(0.2, 0.65)
    add(rng, stage, stage.canvas().circle(0, 0, 0.92).circle(0, 0, hole, 0), base, rng.uniform(0.02, 0.15))
    if rng.random() < 0.5:
        step = rng.uniform(hole + 0.08, 0.85)
        add(rng, stage, stage.canvas().circle(0, 0, step).circle(0, 0, hole, 0), related(rng, base), 0.04, False)
    return stage.result()


def gear(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Toothed wheel with a bore and optional lightening holes."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    teeth, depth = int(rng.integers(8, 30)), rng.uniform(0.06, 0.2)
    phase = np.linspace(0, teeth * 2 * math.pi, teeth * 12, endpoint=False)
    radius = 0.92 - depth * (0.5 + 0.5 * np.tanh(rng.uniform(1.5, 5) * np.sin(phase)))
    canvas = stage.canvas().polygon(ring_points(teeth * 12, radius)).circle(0, 0, rng.uniform(0.12, 0.3), 0)
    if rng.random() < 0.5:
        for x, y in ring_points(int(rng.integers(3, 8)), 0.52):
            canvas.circle(x, y, rng.uniform(0.1, 0.13), 0)
    add(rng, stage, canvas, base, rng.uniform(0.03, 0.1))
    return stage.result()


def nut(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Hexagonal (or square, or flanged or three-armed) nut with a threaded bore."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    sides, hole = int(rng.choice([4, 6, 6, 6, 8])), rng.uniform(0.3, 0.52)
    outline = ring_points(sides, 0.9)
    if rng.random() < 0.3:
        turns = np.linspace(0, 2 * math.pi, 90, endpoint=False)
        outline = ring_points(90, 0.66 + 0.26 * np.cos(turns * int(rng.integers(3, 6))))
    add(rng, stage, stage.canvas().polygon(outline).circle(0, 0, hole, 0), base, rng.uniform(0.05, 0.15))
    ring = stage.canvas().circle(0, 0, hole + 0.1).circle(0, 0, hole, 0)
    add(rng, stage, ring, related(rng, base, 40), 0.05, False)
    return stage.result()


def screw(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Side view of a bolt: head, shank with slanted thread, optional tip."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    thick, head, pitch = rng.uniform(0.1, 0.2), rng.uniform(0.2, 0.36), rng.uniform(0.05, 0.1)
    xs = np.arange(-0.45, 0.75, pitch / 4)
    edge = thick + pitch * 0.35 * np.sin(xs * 2 * math.pi / pitch)
    tip = np.array([[0.95 if rng.random() < 0.7 else 0.78, 0.0]])
    upper, lower = np.stack([xs, -edge], 1), np.stack([xs, np.roll(edge, 2)], 1)[::-1]
    add(rng, stage, stage.canvas().polygon(np.concatenate([upper, tip, lower])), base, thick * 0.9)
    grooves = stage.canvas()
    for x in np.arange(-0.42, 0.72, pitch):
        grooves.line(np.array([[x, -thick], [x + pitch / 2, thick]]), pitch * 0.3)
    stage.image *= 1 - rng.uniform(0.2, 0.6) * grooves.alpha(1)[..., None]
    shape = rng.random()
    outline = [[-0.5, -head], [-0.5, head], [-0.9, head * rng.uniform(0.4, 1)], [-0.9, -head * shape - head * 0.2]]
    add(rng, stage, stage.canvas().polygon(np.array(outline)), base, 0.12)
    return stage.result()


def pill(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Round or oblong tablet with speckles, a score line or an imprint."""
    stage, base = begin(rng, h, w, material), colour(rng, "pale" if rng.random() < 0.6 else "any")
    outline = rounded_box(0.9, rng.uniform(0.4, 0.9), rng.uniform(2, 3.5))
    surface = paint(noise(rng, h, w, 2, 2) * rng.uniform(1, 5), base)
    if rng.random() < 0.5:
        spots = noise(rng, h, w, rng.uniform(2, 5)) > rng.uniform(1.6, 2.6)
        surface = mix(surface, colour(rng), spots * rng.uniform(0.3, 0.9))
    add(rng, stage, stage.canvas().polygon(outline), base, rng.uniform(0.1, 0.3), surface=surface)
    imprint = stage.canvas()
    if rng.random() < 0.5:
        imprint.line(np.array([[0, -0.35], [0, 0.35]]), 0.04)
    else:
        for x in np.arange(-0.3, 0.31, 0.2):
            imprint.line(np.stack([x + rng.uniform(-0.06, 0.06, 4), rng.uniform(-0.15, 0.15, 4)], 1), 0.03)
    stage.image *= 1 - rng.uniform(0.1, 0.35) * imprint.alpha(1)[..., None]
    return stage.result()


def capsule(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Two-coloured capsule with a long highlight and print."""
    stage, fat = begin(rng, h, w, material), rng.uniform(0.26, 0.42)
    first, second = colour(rng, "vivid"), colour(rng, str(rng.choice(["pale", "vivid", "dark"])))
    half = stage.canvas().box(-0.5, 0, 0.55, 1.0).alpha()
    outline = stage.canvas().circle(-0.93 + fat, 0, fat).circle(0.93 - fat, 0, fat).box(0, 0, 0.93 - fat, fat)
    surface = mix(first, second, half) + (noise(rng, h, w, 3, 2) * rng.uniform(0, 5))[..., None]
    add(rng, stage, outline, first, fat * 0.8, surface=surface)
    marks = stage.canvas()
    for x in np.arange(-0.6, 0.5, 0.16):
        marks.line(np.stack([x + rng.uniform(-0.05, 0.05, 4), rng.uniform(-0.12, 0.12, 4)], 1), 0.025)
    stage.image = mix(stage.image, colour(rng, "dark"), marks.alpha() * rng.uniform(0, 0.8))
    return stage.result()


def bottle_top(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """A bottle mouth or crown cap seen from above: nested shiny rings."""
    stage, radius = begin(rng, h, w, material), 0.93
    if rng.random() < 0.4:
        waves = 0.88 + 0.05 * np.sin(np.linspace(0, 21 * 2 * math.pi, 252, endpoint=False))
        add(rng, stage, stage.canvas().polygon(ring_points(252, waves)), colour(rng, "vivid"), 0.08)
        radius = 0.72
    for _ in range(int(rng.integers(2, 6))):
        tone = colour(rng, "dark" if rng.random() < 0.5 else "any")
        add(rng, stage, stage.canvas().circle(0, 0, radius), tone, rng.uniform(0.02, 0.12), radius > 0.9)
        radius *= rng.uniform(0.6, 0.9)
    return stage.result()


def seal_ring(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Thin rubber or metal ring, round or rounded square."""
    stage, thin = begin(rng, h, w, material), rng.uniform(0.07, 0.22)
    power, squash = float(rng.choice([2.0, 2.0, rng.uniform(2, 6)])), rng.uniform(0.7, 1)
    canvas = stage.canvas().polygon(rounded_box(0.92, 0.92 * squash, power))
    canvas.polygon(rounded_box(0.92 - thin, 0.92 * squash - thin, power), 0)
    add(rng, stage, canvas, part_colour(rng, "dark"), thin * 0.6)
    return stage.result()


def connector(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Plastic housing with one or two rows of metal pins, or legs at the side."""
    stage, tall = begin(rng, h, w, material), rng.uniform(0.35, 0.65)
    count, rows, metal = int(rng.integers(3, 10)), int(rng.integers(1, 3)), colour(rng, "metal")
    legs = rng.random() < 0.5
    if legs:
        canvas = stage.canvas()
        for x in np.linspace(-0.75, 0.75, count):
            canvas.box(x, 0, 0.5 / count, tall + 0.25)
        add(rng, stage, canvas, metal, 0.04)
    outline = rounded_box(0.92, tall, rng.uniform(6, 20))
    add(rng, stage, stage.canvas().polygon(outline), part_colour(rng, "dark"), rng.uniform(0.03, 0.12))
    if not legs or rng.random() < 0.3:
        for y in np.linspace(-0.5, 0.5, rows) * tall if rows > 1 else (0.0,):
            well, pins = stage.canvas(), stage.canvas()
            for x in np.linspace(-0.75, 0.75, count):
                well.box(x, y, 0.55 / count, 0.16)
                pins.box(x, y, 0.3 / count, 0.08)
            add(rng, stage, well, colour(rng, "dark"), 0.02, False)
            add(rng, stage, pins, metal, 0.03, False)
    return stage.result()


def bracket(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Plate, L or U profile with regular drill holes."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    tall, kind = rng.uniform(0.35, 0.9), rng.random()
    canvas = stage.canvas().polygon(rounded_box(0.92, tall, rng.uniform(5, 30)))
    if kind < 0.35:
        canvas.box(0.35, -0.35 * tall / 0.9, 0.6, tall * 0.75, 0)
    elif kind < 0.6:
        canvas.box(0, -tall * 0.6, 0.4, tall * 0.8, 0)
    radius = rng.uniform(0.06, 0.12)
    for x in np.linspace(-0.72, 0.72, int(rng.integers(2, 5))):
        for y in (-0.65 * tall, 0.72 * tall)[int(kind < 0.6) :]:
            canvas.circle(x, y, radius, 0)
    add(rng, stage, canvas, base, rng.uniform(0.02, 0.08))
    return stage.result()


def cable(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Cable cross-section: sheath, insulated cores and copper strands."""
    stage = begin(rng, h, w, material)
    add(rng, stage, stage.canvas().circle(0, 0, 0.93), part_colour(rng, "dark"), 0.06)
    add(rng, stage, stage.canvas().circle(0, 0, rng.uniform(0.75, 0.86)), colour(rng, "pale"), 0.03, False)
    count = int(rng.integers(1, 5))
    core = [0.6, 0.36, 0.35, 0.31][count - 1]
    copper = np.array([190, 120, 80], np.float32) * rng.uniform(0.6, 1.2)
    for x, y in ring_points(count, 0.0 if count == 1 else core * 1.12 if count < 4 else 0.46):
        add(rng, stage, stage.canvas().circle(x, y, core), colour(rng, "vivid"), 0.05, False)
        strands, inner = stage.canvas(), core * rng.uniform(0.55, 0.75)
        fine = inner * rng.uniform(0.12, 0.24)
        for ring in np.arange(0, inner - fine, fine * 2):
            for dx, dy in ring_points(max(1, int(math.pi * ring / fine)), ring):
                strands.circle(x + dx, y + dy, fine * 0.93)
        add(rng, stage, strands, copper, fine * 0.7, False)
    return stage.result()


def spring(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Coil spring from the side."""
    stage, base = begin(rng, h, w, material), part_colour(rng)
    turns, tall, wire = int(rng.integers(5, 13)), rng.uniform(0.25, 0.5), rng.uniform(0.05, 0.1)
    xs = np.linspace(-0.85, 0.85, turns + 1)
    for shift, tone in ((0.5, base * 0.5), (0.0, base)):
        canvas, gap = stage.canvas(), xs[1] - xs[0]
        for x in xs[:-1]:
            ends = [x + shift * gap, x + (shift + 0.5) * gap]
            canvas.line(np.array([[ends[0], tall if shift else -tall], [ends[1], -tall if shift else tall]]), wire)
        add(rng, stage, canvas, tone, wire * 0.6)
    return stage.result()


def circuit_board(rng: Rng, h: int, w: int, material: Material | None = None) -> tuple[Array, Array]:
    """Board with chips, small parts and solder points."""
    stage = begin(rng, h, w, None, turn=float(rng.integers(0, 4)) * math.pi / 2)
    green = np.array([30, rng.uniform(70, 130), 60], np.float32) if rng.random() < 0.6 else colour(rng)
    add(rng, stage, stage.canvas().box(0, 0, 0.97, rng.uniform(0.6, 0.97)), green, 0.01)
    dots = stage.canvas()
    for x, y in rng.uniform(-0.85, 0.85, (int(rng.integers(10, 50)), 2)) * [1, 0.65]:
        dots.circle(round(x, 1), round(y, 1), 0.025)
    add(rng, stage, dots, colour(rng, "metal"), 0.02, False)
    for _ in range(int(rng.integers(2, 6))):
        (x, y), (a, b) = rng.uniform(-0.6, 0.6, 2) * [1, 0.7], rng.uniform(0.08, 0.26, 2)
        pins = stage.canvas()
        for px in np.arange(-a, a, 0.06) + 0.03:
            pins.box(x + px, y, 0.015, b + 0.05)
        add(rng, stage, pins, colour(rng, "pale"), 0.01, False)
        add(rng, stage, stage.canvas().box(x, y, a, b), part_colour(rng, "dark"), 0.02)
    return stage.result()
