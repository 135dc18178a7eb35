# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Procedural textures: each function draws a uint8 RGB surface (height, width, 3) from a random generator."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from drawing import (
    Array,
    Rng,
    angle,
    blur,
    cells,
    colour,
    coordinates,
    light,
    log_uniform,
    mix,
    noise,
    paint,
    related,
    relief,
    to_uint8,
    turned_noise,
    wave,
)


def brushed_metal(rng: Rng, h: int, w: int) -> Array:
    """Fine parallel streaks with a soft sheen."""
    turn = angle(rng)
    streaks = turned_noise(rng, h, w, (rng.uniform(1, 2), rng.uniform(30, 150)), turn)
    streaks += 0.6 * turned_noise(rng, h, w, (rng.uniform(2, 5), 200), turn)
    sheen = turned_noise(rng, h, w, (rng.uniform(30, 150), 1000), turn)
    return to_uint8(paint(streaks * rng.uniform(3, 14) + sheen * rng.uniform(3, 18), colour(rng, "metal")))


def cast_metal(rng: Rng, h: int, w: int) -> Array:
    """Grainy blasted surface lit from the side."""
    size = log_uniform(rng, 1.5, 6)
    bumps = noise(rng, h, w, size, 2) * size * 0.35
    grey = relief(rng, bumps, 1.5) * rng.uniform(15, 50) + noise(rng, h, w, 60) * rng.uniform(2, 10)
    return to_uint8(paint(grey, colour(rng, "metal")))


def machined_rings(rng: Rng, h: int, w: int) -> Array:
    """Concentric turning marks with the typical radial highlights."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    cy, cx = rng.uniform(-0.5, 1.5) * h, rng.uniform(-0.5, 1.5) * w
    radius, theta = np.hypot(y - cy, x - cx), np.arctan2(y - cy, x - cx)
    profile = rng.standard_normal(int(radius.max()) + 3).astype(np.float32)
    index = radius / rng.uniform(1, 2.5)
    low = index.astype(int)
    grooves = profile[low] * (1 - index + low) + profile[low + 1] * (index - low)
    grooves += wave(radius * rng.uniform(0.3, 1.5)) * rng.uniform(0, 1.5)
    sheen = np.cos(2 * theta + rng.uniform(0, 6)) ** 2 * rng.uniform(10, 60)
    return to_uint8(paint(grooves * rng.uniform(4, 14) + sheen - 20, colour(rng, "metal")))


def rolled_steel(rng: Rng, h: int, w: int) -> Array:
    """Dull sheet with faint rolling bands and blotches."""
    turn = angle(rng)
    grey = turned_noise(rng, h, w, (rng.uniform(3, 20), 400), turn) * rng.uniform(1, 8)
    grey += noise(rng, h, w, rng.uniform(10, 60), 3) * rng.uniform(2, 12)
    grey += noise(rng, h, w, 1) * rng.uniform(1, 6)
    return to_uint8(paint(grey, colour(rng, "metal")))


def concrete(rng: Rng, h: int, w: int) -> Array:
    """Blotchy mineral surface with small air holes."""
    grey = noise(rng, h, w, rng.uniform(20, 90), 6) * rng.uniform(6, 20) + noise(rng, h, w, 1.2) * rng.uniform(2, 9)
    holes = noise(rng, h, w, rng.uniform(2, 5)) > rng.uniform(2.4, 3.4)
    grey -= holes * rng.uniform(10, 50)
    return to_uint8(paint(grey, mix(colour(rng, "pale"), colour(rng, "metal"), np.array(rng.random()))))


def plaster(rng: Rng, h: int, w: int) -> Array:
    """Trowelled wall: soft relief at several scales."""
    cell = log_uniform(rng, 6, 40)
    bumps = noise(rng, h, w, cell, 4)
    if rng.random() < 0.5:
        bumps = np.abs(bumps)
    grey = relief(rng, bumps * cell * 0.3, 2) * rng.uniform(12, 45) + noise(rng, h, w, 80) * 4
    return to_uint8(paint(grey, colour(rng, "pale" if rng.random() < 0.7 else "any")))


def granite(rng: Rng, h: int, w: int) -> Array:
    """Crystals of three minerals."""
    size = log_uniform(rng, 2, 9)
    first, second = noise(rng, h, w, size, 2), noise(rng, h, w, size * 0.7, 2)
    base = colour(rng)
    image = mix(base, related(rng, base, 50), (first - rng.uniform(-0.5, 1)) * 3)
    image = mix(image, colour(rng, "dark"), (second - rng.uniform(0.5, 1.5)) * 4)
    return to_uint8(image + (noise(rng, h, w, 1) * rng.uniform(2, 10))[..., None])


def marble(rng: Rng, h: int, w: int) -> Array:
    """Warped veins on a cloudy ground."""
    u, _ = coordinates(rng, h, w, rng.uniform(0, 180))
    warp = noise(rng, h, w, rng.uniform(40, 120), 5)
    veins = 1 - np.abs(np.sin(u / rng.uniform(15, 60) + warp * rng.uniform(1, 3)))
    base = colour(rng, "pale" if rng.random() < 0.6 else "dark")
    image = mix(base, related(rng, base, 60), veins ** rng.uniform(3, 10))
    return to_uint8(image + (noise(rng, h, w, 50, 5) * rng.uniform(3, 12))[..., None])


def wood(rng: Rng, h: int, w: int) -> Array:
    """Growth rings, fibres and pores."""
    turn = angle(rng)
    u, v = coordinates(rng, h, w, turn)
    bend = noise(rng, h, w, rng.uniform(60, 200), 2) * rng.uniform(0.3, 1.5)
    rings = np.sin(v / rng.uniform(3, 16) + bend + u / rng.uniform(80, 500))
    fibre = turned_noise(rng, h, w, (rng.uniform(1, 2), rng.uniform(20, 60)), -turn)
    base = colour(rng, "warm")
    weight = 0.5 + 0.5 * np.sign(rings) * np.abs(rings) ** rng.uniform(0.5, 2)
    image = mix(base, base * rng.uniform(0.5, 0.92), weight)
    return to_uint8(image + (fibre * rng.uniform(3, 14))[..., None])


def leather(rng: Rng, h: int, w: int) -> Array:
    """Convex grain cells separated by creases."""
    near, far, _ = cells(rng, h, w, log_uniform(rng, 4, 16))
    height = np.minimum(far - near, 3.5) + noise(rng, h, w, 2) * 0.3
    grey = relief(rng, blur(height, 1.2), 1.2) * rng.uniform(15, 45) + (height - 2) * rng.uniform(2, 8)
    base = colour(rng, str(rng.choice(["warm", "dark", "any"])))
    return to_uint8(paint(grey + noise(rng, h, w, 60) * 4, base))


def woven_fabric(rng: Rng, h: int, w: int) -> Array:
    """Plain weave with irregular threads."""
    u, v = coordinates(rng, h, w, angle(rng))
    pitch = log_uniform(rng, 2.5, 12)
    u, v = (c / pitch + noise(rng, h, w, 60) * rng.uniform(0, 0.25) for c in (u, v))
    over = (np.floor(u) + np.floor(v)) % 2
    across = np.where(over > 0, np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1)))
    first = colour(rng)
    second = related(rng, first, 25) if rng.random() < 0.7 else colour(rng)
    shade = across * np.where(over > 0, np.sin(np.pi * (v % 1)) ** 0.3, np.sin(np.pi * (u % 1)) ** 0.3)
    image = mix(first, second, over) * (0.45 + 0.6 * shade)[..., None]
    return to_uint8(image + (noise(rng, h, w, 1) * rng.uniform(2, 9))[..., None])


def twill(rng: Rng, h: int, w: int) -> Array:
    """Diagonal ribs of a twill weave, also denim-like two-tone."""
    u, v = coordinates(rng, h, w, rng.choice([0.0, 90.0]))
    pitch = log_uniform(rng, 2, 7)
    ribs = 0.5 + 0.5 * np.sin(2 * np.pi * (u + v) / (pitch * 2) + noise(rng, h, w, 30) * 0.4)
    threads = 0.5 + 0.5 * np.sin(2 * np.pi * u / pitch)
    base = colour(rng, str(rng.choice(["any", "dark", "vivid"])))
    image = mix(base * 0.6, related(rng, base, 35), ribs * 0.7 + threads * 0.3)
    return to_uint8(image + (noise(rng, h, w, 1.3, 2) * rng.uniform(3, 12))[..., None])


def knit(rng: Rng, h: int, w: int) -> Array:
    """Columns of V-shaped stitches."""
    u, v = coordinates(rng, h, w, float(rng.choice([0.0, 90.0])))
    pitch = log_uniform(rng, 6, 24)
    u, v = u / pitch + noise(rng, h, w, 50) * 0.08, v / pitch * rng.uniform(1, 1.6)
    side = np.abs((u % 1) - 0.5) * 2
    loops = np.abs(np.sin(np.pi * (v + side * rng.uniform(0.4, 0.9)))) ** 0.6 * np.sin(np.pi * side).clip(0) ** 0.5
    base = colour(rng)
    image = mix(base * 0.4, related(rng, base, 15), loops)
    return to_uint8(image + (noise(rng, h, w, 1.2) * rng.uniform(3, 10))[..., None])


def carpet(rng: Rng, h: int, w: int) -> Array:
    """Tufts of short pile."""
    size = log_uniform(rng, 2, 7)
    tufts = noise(rng, h, w, size, 2)
    grey = tufts * rng.uniform(10, 30) + noise(rng, h, w, 1) * rng.uniform(5, 15) + noise(rng, h, w, 70) * 5
    return to_uint8(paint(grey, colour(rng)))


def felt(rng: Rng, h: int, w: int) -> Array:
    """Matted fibres in all directions."""
    grey = noise(rng, h, w, 20, 3) * 3
    for _ in range(4):
        grey = grey + turned_noise(rng, h, w, (1.5, rng.uniform(8, 20)), rng.uniform(0, 180)) * rng.uniform(3, 8)
    return to_uint8(paint(grey, colour(rng)))


def paper(rng: Rng, h: int, w: int) -> Array:
    """Nearly plain sheet with faint fibre clouds."""
    grey = noise(rng, h, w, rng.uniform(3, 12), 3) * rng.uniform(1, 5) + noise(rng, h, w, 1) * rng.uniform(0.5, 4)
    return to_uint8(paint(grey, colour(rng, "pale")))


def cardboard(rng: Rng, h: int, w: int) -> Array:
    """Brown board with flute shadows and dark fibres."""
    turn = angle(rng)
    u, _ = coordinates(rng, h, w, turn)
    base = np.array([190, 150, 105], np.float32) * rng.uniform(0.6, 1.15) + rng.normal(0, 10, 3)
    grey = np.sin(u / rng.uniform(2, 8)) * rng.uniform(0, 7) + noise(rng, h, w, 2.5, 2) * rng.uniform(2, 7)
    grey -= (noise(rng, h, w, (1.5, 7)) > 2.3) * rng.uniform(8, 30)
    return to_uint8(paint(grey.astype(np.float32), base.astype(np.float32)))


def wire_mesh(rng: Rng, h: int, w: int) -> Array:
    """Crossed wires over a darker or lighter ground."""
    u, v = coordinates(rng, h, w, rng.choice([0.0, 45.0, rng.uniform(0, 90)]))
    pitch = log_uniform(rng, 6, 30)
    ratio, thick = rng.uniform(0.7, 1.4), rng.uniform(0.15, 0.4)
    first, second = np.abs((u / pitch) % 1 - 0.5) / thick, np.abs((v / pitch * ratio) % 1 - 0.5) / thick
    bars = np.maximum(np.sqrt(np.clip(1 - first**2, 0, 1)), np.sqrt(np.clip(1 - second**2, 0, 1)))
    ground, wire = colour(rng, "dark" if rng.random() < 0.6 else "any"), colour(rng, "metal")
    image = mix(ground, wire * 0.4, np.minimum(bars * 4, 1)) + mix(wire * 0, wire * 0.7, bars)
    return to_uint8(image + (noise(rng, h, w, 2, 2) * rng.uniform(1, 8))[..., None])


def perforated_sheet(rng: Rng, h: int, w: int) -> Array:
    """Sheet with a regular lattice of round or long holes."""
    u, v = coordinates(rng, h, w, angle(rng))
    pitch, length = log_uniform(rng, 8, 36), rng.choice([1.0, rng.uniform(1.5, 3)])
    row = np.floor(v / pitch)
    x = ((u / (pitch * length) + 0.5 * (row % 2) * (rng.random() < 0.6)) % 1 - 0.5) * pitch * length
    y = ((v / pitch) % 1 - 0.5) * pitch
    x = np.sign(x) * np.maximum(np.abs(x) - pitch * (length - 1) * 0.4, 0)
    inside = np.clip(pitch * rng.uniform(0.2, 0.38) - np.hypot(x, y) + 0.5, 0, 1)
    sheet = paint(noise(rng, h, w, (1.5, 40)) * rng.uniform(1, 8) + noise(rng, h, w, 70) * 8, colour(rng, "metal"))
    rim = light(blur(inside, 1.5) * 4, rng.uniform(0, 6)) * rng.uniform(10, 50)
    return to_uint8(mix(sheet, colour(rng, "dark" if rng.random() < 0.8 else "pale"), inside) + rim[..., None])


def tiles(rng: Rng, h: int, w: int, shift: bool | None = None) -> Array:
    """Rectangular tiles with joints; shifted rows make a brick bond."""
    u, v = coordinates(rng, h, w, angle(rng) if rng.random() < 0.7 else 45.0)
    shift = bool(rng.random() < 0.2) if shift is None else shift
    tall, joint = log_uniform(rng, 14, 70), rng.uniform(1, 4)
    wide = tall * (rng.uniform(1.8, 3.2) if shift else rng.choice([1.0, rng.uniform(1, 2)]))
    row = np.floor(v / tall).astype(int)
    u = u + shift * 0.5 * wide * (row % 2)
    column = np.floor(u / wide).astype(int)
    edge = np.minimum(np.minimum(u % wide, wide - u % wide), np.minimum(v % tall, tall - v % tall))
    shades = rng.normal(0, rng.uniform(0, 22), 997).astype(np.float32)[(row * 131 + column * 17) % 997]
    rough = noise(rng, h, w, rng.uniform(2, 12), 3) * rng.uniform(1, 16)
    body = paint(shades + rough, colour(rng, "warm" if shift else "any"))
    joints = paint(noise(rng, h, w, 1.5) * 6, colour(rng, "pale" if rng.random() < 0.6 else "dark"))
    bevel = light(np.minimum(edge, joint + 2), rng.uniform(0, 6)) * rng.uniform(5, 40)
    return to_uint8(mix(joints, body, edge - joint + 0.5) + bevel[..., None])


def bricks(rng: Rng, h: int, w: int) -> Array:
    """Brick wall."""
    return tiles(rng, h, w, shift=True)


def mosaic(rng: Rng, h: int, w: int) -> Array:
    """Irregular stone pieces (paving) or hexagons with joints."""
    near, far, index = cells(rng, h, w, log_uniform(rng, 14, 45), float(rng.choice([0.0, 0.3, 0.45])))
    shades = rng.normal(0, rng.uniform(5, 25), 4001).astype(np.float32)[index % 4001]
    body = paint(shades + noise(rng, h, w, 8, 4) * rng.uniform(2, 14), colour(rng))
    return to_uint8(mix(colour(rng), body, (far - near - rng.uniform(1, 4)) * 0.7))


def rubber(rng: Rng, h: int, w: int) -> Array:
    """Dark matt sheet, sometimes with studs or ribs."""
    grey = noise(rng, h, w, 2, 2) * rng.uniform(1, 7) + noise(rng, h, w, 80) * 4
    if rng.random() < 0.5:
        u, v = coordinates(rng, h, w, angle(rng))
        pitch = log_uniform(rng, 1.5, 6)
        studs = wave(u / pitch, 2) * (wave(v / pitch, 2) if rng.random() < 0.5 else 1)
        grey = grey + relief(rng, studs * pitch * 0.8, 1) * rng.uniform(8, 35)
    return to_uint8(paint(grey, colour(rng, "dark")))


def foam(rng: Rng, h: int, w: int) -> Array:
    """Sponge: open pores of mixed sizes."""
    near, far, _ = cells(rng, h, w, log_uniform(rng, 5, 16))
    pores = np.clip((far - near) / 5, 0, 1) * (noise(rng, h, w, 14) > rng.uniform(-0.8, 0.4))
    base = colour(rng, str(rng.choice(["warm", "vivid", "pale"])))
    image = mix(base, base * rng.uniform(0.25, 0.6), blur(pores.astype(np.float32), 1.3))
    return to_uint8(image + (noise(rng, h, w, 2, 2) * rng.uniform(3, 9))[..., None])


def moulded_plastic(rng: Rng, h: int, w: int) -> Array:
    """Smooth or finely eroded plastic with a broad highlight."""
    u, v = coordinates(rng, h, w, rng.uniform(0, 180))
    gloss = np.exp(-((v / rng.uniform(30, 150)) ** 2)) * rng.uniform(0, 60)
    grey = gloss + relief(rng, noise(rng, h, w, rng.uniform(1.5, 4)), 1) * rng.uniform(0, 14) + u * rng.uniform(0, 0.1)
    return to_uint8(paint(grey, colour(rng, str(rng.choice(["vivid", "any", "pale", "dark"])))))


def orange_peel(rng: Rng, h: int, w: int) -> Array:
    """Paint coat with long soft waves and metallic flakes."""
    cell = log_uniform(rng, 3, 10)
    grey = relief(rng, noise(rng, h, w, cell) * cell * 0.25, 1) * rng.uniform(6, 30)
    grey += (noise(rng, h, w, 1) > 2.2) * rng.uniform(0, 40) + noise(rng, h, w, 120) * rng.uniform(2, 16)
    return to_uint8(paint(grey, colour(rng, "vivid" if rng.random() < 0.6 else "metal")))


def halftone(rng: Rng, h: int, w: int) -> Array:
    """Printed dots whose size follows a soft picture."""
    u, v = coordinates(rng, h, w, rng.uniform(0, 90))
    pitch = log_uniform(rng, 1, 4)
    dots = np.sin(u / pitch) * np.sin(v / pitch)
    level = noise(rng, h, w, rng.uniform(60, 150)) * rng.uniform(0, 0.4) + rng.uniform(-0.4, 0.4)
    ink = colour(rng, "vivid" if rng.random() < 0.6 else "dark")
    return to_uint8(mix(colour(rng, "pale"), ink, (dots - level) * 2.5 + 0.5))


def circuit_traces(rng: Rng, h: int, w: int) -> Array:
    """Bare board: parallel copper tracks with bends and round pads."""
    base = colour(rng, str(rng.choice(["vivid", "dark", "metal"])))
    track = related(rng, base, 45)
    image = Image.new("RGB", (w, h), tuple(base.astype(int).tolist()))
    draw = ImageDraw.Draw(image)
    pitch, thick = int(rng.integers(5, 14)), int(rng.integers(1, 4))
    for _ in range(int(rng.integers(3, 9))):
        x, y, count = rng.integers(-20, w), rng.integers(-20, h), int(rng.integers(2, 8))
        along, bend, drop = rng.integers(20, 120), rng.integers(10, 60), int(rng.choice([-1, 1]))
        for lane in range(count):
            top = y + lane * pitch
            points = [(x, top), (x + along, top), (x + along + bend, top + drop * bend), (x + w, top + drop * bend)]
            draw.line([(int(a), int(b)) for a, b in points], fill=tuple(track.astype(int).tolist()), width=thick)
            draw.circle((int(x), int(top)), thick + 2, fill=tuple(colour(rng, "metal").astype(int).tolist()))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.ROTATE_90).resize((w, h))
    return to_uint8(np.asarray(image, np.float32) + (noise(rng, h, w, 3, 3) * rng.uniform(1, 6))[..., None])


def stripes(rng: Rng, h: int, w: int) -> Array:
    """Printed bands of several widths and colours."""
    u, _ = coordinates(rng, h, w, angle(rng))
    period = log_uniform(rng, 12, 90)
    table = np.stack([colour(rng) for _ in range(int(rng.integers(2, 5)))])
    edges = np.sort(rng.random(len(table) - 1))
    image = table[np.searchsorted(edges, ((u / period) % 1).ravel()).reshape(h, w)]
    return to_uint8(image + (noise(rng, h, w, rng.uniform(1, 4), 2) * rng.uniform(1, 9))[..., None])


def corrugated(rng: Rng, h: int, w: int) -> Array:
    """Shaded parallel ridges, from ribbed card to roof sheet."""
    u, _ = coordinates(rng, h, w, angle(rng))
    ridge = wave(2 * np.pi * u / log_uniform(rng, 6, 50), rng.uniform(1, 3))
    grey = ridge * rng.uniform(15, 55) + noise(rng, h, w, 40, 5) * rng.uniform(2, 12)
    return to_uint8(paint(grey, colour(rng, str(rng.choice(["metal", "warm", "any"])))))


def solar_cell(rng: Rng, h: int, w: int) -> Array:
    """Silicon crystals under fine fingers and wide bus bars."""
    u, v = coordinates(rng, h, w, float(rng.choice([0.0, 90.0])))
    _, _, index = cells(rng, h, w, log_uniform(rng, 12, 50))
    base = np.array([30, 45, 95], np.float32) * rng.uniform(0.6, 1.8) + rng.normal(0, 12, 3)
    shades = rng.normal(0, rng.uniform(0, 14), 4001).astype(np.float32)[index % 4001]
    image = paint(shades + noise(rng, h, w, 40, 4) * rng.uniform(2, 8), base.astype(np.float32))
    fingers = np.clip(1 - np.abs((u % rng.uniform(4, 10)) - 2), 0, 1) * rng.uniform(0.15, 0.5)
    bus = np.clip(rng.uniform(1.5, 4) - np.abs((v % rng.uniform(40, 90)) - 15), 0, 1)
    return to_uint8(mix(image, colour(rng, "pale"), np.maximum(fingers, bus * 0.9)))


def textile_print(rng: Rng, h: int, w: int) -> Array:
    """A small motif repeated on a lattice."""
    step = int(rng.integers(16, 60))
    tile = Image.new("RGB", (step, step), tuple(colour(rng).astype(int).tolist()))
    draw = ImageDraw.Draw(tile)
    for _ in range(int(rng.integers(1, 5))):
        ink, (x, y) = tuple(colour(rng).astype(int).tolist()), rng.uniform(0, step, 2)
        radius, kind = rng.uniform(0.08, 0.35) * step, rng.integers(0, 3)
        if kind == 0:
            draw.circle((x, y), radius, fill=ink)
        elif kind == 1:
            draw.regular_polygon((x, y, radius), int(rng.integers(3, 7)), float(rng.uniform(0, 90)), fill=ink)
        else:
            draw.line([0, y, step, y], fill=ink, width=max(1, int(radius / 3)))
    image = np.tile(np.asarray(tile, np.float32), (h // step + 1, w // step + 1, 1))[:h, :w]
    return to_uint8(image + (noise(rng, h, w, 1.5, 2) * rng.uniform(1, 10))[..., None])


def speckle(rng: Rng, h: int, w: int) -> Array:
    """Ultrasound-like multiplicative speckle over soft bands."""
    envelope = np.exp(turned_noise(rng, h, w, (rng.uniform(10, 40), rng.uniform(40, 150)), 0) * rng.uniform(0.2, 0.6))
    grain = np.hypot(noise(rng, h, w, (1.2, 2.5)), noise(rng, h, w, (1.2, 2.5)))
    return to_uint8(envelope * grain * rng.uniform(25, 70))


def skin(rng: Rng, h: int, w: int) -> Array:
    """Soft pinkish tissue with pores, folds and vessels."""
    near, far, _ = cells(rng, h, w, log_uniform(rng, 5, 14))
    base = np.array([205, 150, 130], np.float32) * rng.uniform(0.5, 1.15) + rng.normal(0, 12, 3)
    image = paint((far - near) * rng.uniform(0.5, 3) + noise(rng, h, w, 60, 4) * 6, base.astype(np.float32))
    vessel = np.clip(1 - np.abs(noise(rng, h, w, 50, 3)) * rng.uniform(6, 20), 0, 1) * rng.uniform(0, 0.5)
    return to_uint8(mix(image, base.astype(np.float32) * np.array([0.8, 0.45, 0.45], np.float32), vessel))


def gravel(rng: Rng, h: int, w: int) -> Array:
    """Loose rounded grains with shadowed gaps."""
    near, far, index = cells(rng, h, w, log_uniform(rng, 6, 24))
    dome = np.sqrt(np.clip((far - near) / 10, 0, 1))
    shades = rng.normal(0, rng.uniform(8, 28), 4001).astype(np.float32)[index % 4001]
    image = paint(shades + noise(rng, h, w, 2, 2) * 6, colour(rng)) * (0.3 + 0.7 * dome)[..., None]
    return to_uint8(image + (relief(rng, dome * 8) * 25)[..., None])
