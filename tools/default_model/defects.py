# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Synthetic defects: each kind changes a small part of an image inside its foreground and marks what changed.

A kind is a function of a ``Spot`` (a window of the image) that returns the changed window (h, w, 3) and the shape of
the change (h, w) in 0..1. ``apply_defect`` places the window, checks that the change is visible and gives an
honest mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates

from drawing import Array, Rng, blur, colour, light, noise, turned_noise
from shapes import Spot, blob, ink, lay, stroke, thin


SMALLEST, LARGEST = 0.001, 0.25  # Shares of the image area aimed at.


def scratch(spot: Spot) -> tuple[Array, Array]:
    """Straight or slightly bent line, sometimes a bundle, sometimes with a lit edge."""
    rng, alpha, heading = spot.rng, np.zeros(spot.size, np.float32), spot.rng.uniform(0, 2 * math.pi)
    reach = min(spot.size) // 5
    for i in range(1 if rng.random() < 0.75 else int(rng.integers(2, 6))):
        line = stroke(spot, rng.uniform(0, 0.5), thin(spot), heading=heading + rng.normal(0, 0.2))
        # Rubbing leaves near-parallel lines side by side.
        move = rng.integers(-reach, reach + 1, 2) if i else (0, 0)
        alpha = np.maximum(alpha, np.roll(line, (int(move[0]), int(move[1])), (0, 1)))
    changed = lay(spot, ink(spot, 30), alpha, rng.uniform(0.6, 1))
    if rng.random() < 0.4:
        changed = changed + (np.roll(alpha, 1, 0) * (1 - alpha) * rng.uniform(-50, 60))[..., None]
    return changed, alpha


def crack(spot: Spot) -> tuple[Array, Array]:
    """Jagged dark line with branches."""
    rng = spot.rng
    alpha = stroke(spot, rng.uniform(1, 2.6), thin(spot, 0.5, 2), int(rng.integers(0, 5)), jagged=True)
    changed = lay(spot, ink(spot, 35, -1.0 if rng.random() < 0.85 else 1.0), alpha, rng.uniform(0.7, 1))
    if rng.random() < 0.4:
        changed = changed + (np.roll(alpha, (1, 1), (0, 1)) * (1 - alpha) * rng.uniform(10, 50))[..., None]
    return changed, alpha


def hole(spot: Spot) -> tuple[Array, Array]:
    """Opening onto something dark or onto the background, with a shaded rim."""
    rng, alpha = spot.rng, blob(spot, 0.0 if spot.rng.random() < 0.7 else 0.12, 1.6)
    if len(spot.outside) and rng.random() < 0.4:
        floor = spot.outside[rng.integers(len(spot.outside))]
    else:
        floor = spot.image.mean((0, 1)) * rng.uniform(0, 0.45)
    inner = floor + (noise(rng, *spot.size, 3) * rng.uniform(0, 8))[..., None]
    rim = light(blur(alpha, 1.6) * 4, rng.uniform(0, 6.3)) * rng.uniform(10, 60)
    return lay(spot, inner, alpha) + rim[..., None], alpha


def small_spot(spot: Spot) -> tuple[Array, Array]:
    """Dark or bright speck."""
    alpha = blob(spot, stretch=1.8)
    return lay(spot, ink(spot, 25), alpha, spot.rng.uniform(0.6, 1)), alpha


def stain(spot: Spot) -> tuple[Array, Array]:
    """Translucent soft patch, sometimes with a darker drying ring."""
    rng, alpha = spot.rng, blob(spot, float(spot.rng.uniform(0.03, 0.25)))
    if rng.random() < 0.4:
        alpha = alpha * rng.uniform(0.3, 0.7) + 2.2 * alpha * (1 - alpha) * rng.uniform(0.4, 1)
    cloud = np.clip(1 + 0.25 * noise(rng, *spot.size, max(3.0, math.sqrt(spot.area) / 3), 3), 0, 1.4)
    tone, opacity = ink(spot, 30), rng.uniform(0.35, 0.9)
    if rng.random() < 0.4:  # Liquids keep the texture and only filter its light.
        gain = np.clip(tone / np.maximum(spot.image.mean((0, 1)), 8), 0.15, 2.2)
        return lay(spot, spot.image * gain, alpha * cloud, opacity), alpha
    return lay(spot, tone, np.clip(alpha * cloud, 0, 1), opacity), alpha


def contamination(spot: Spot) -> tuple[Array, Array]:
    """Opaque foreign matter with its own grain, rounding and shadow."""
    rng, alpha = spot.rng, blob(spot, 0.0 if spot.rng.random() < 0.7 else 0.15)
    tone = colour(rng) if rng.random() < 0.6 else ink(spot, 35)
    grain = noise(rng, *spot.size, rng.uniform(1.2, 6), 2) * rng.uniform(2, 16)
    thick = blur(alpha, max(1.5, math.sqrt(spot.area) * 0.2))
    shade = light(thick * rng.uniform(2, 12), rng.uniform(0, 6.3)) * rng.uniform(10, 50)
    shadow = np.roll(thick, (2, 2), (0, 1)) * (1 - alpha) * rng.uniform(0, 0.4)
    under = spot.image * (1 - shadow)[..., None]
    return under + (tone + (grain + shade)[..., None] - under) * alpha[..., None], alpha


def local_blur(spot: Spot) -> tuple[Array, Array]:
    """Texture rubbed away or molten: unlike a lens, it leaves a patch with a border in sharp surroundings."""
    alpha = blob(spot, 0.06)
    radius = spot.rng.uniform(2, 7)
    smooth = np.stack([blur(np.ascontiguousarray(spot.image[..., c]), radius) for c in range(3)], 2)
    return lay(spot, smooth + spot.rng.normal(0, 12), alpha), alpha


def cut_paste(spot: Spot) -> tuple[Array, Array]:
    """A piece from elsewhere in the image, turned, or from another image."""
    rng, (h, w), alpha = spot.rng, spot.size, blob(spot, 0.0 if spot.rng.random() < 0.6 else 0.1)
    other = spot.donor is not None and rng.random() < 0.5
    source = spot.donor if other else spot.whole
    y, x = rng.integers(0, max(1, source.shape[0] - h)), rng.integers(0, max(1, source.shape[1] - w))
    piece = source[y : y + h, x : x + w].astype(np.float32)
    if piece.shape[:2] != (h, w):
        return spot.image, alpha
    if h == w:
        piece = np.rot90(piece, int(rng.integers(0, 4)))
    if rng.random() < 0.4:
        piece = piece * rng.uniform(0.6, 1.4) + rng.normal(0, 15, 3)
    if other and rng.random() < 0.4:
        piece = piece + 0.8 * (spot.image.mean((0, 1)) - piece.mean((0, 1)))
    return lay(spot, piece, alpha, rng.uniform(0.6, 1)), alpha


def dent(spot: Spot) -> tuple[Array, Array]:
    """Shading of a pressed-in or raised place; the texture stays."""
    rng, reach = spot.rng, math.sqrt(spot.area / math.pi)
    alpha = blob(spot, float(rng.uniform(0.1, 0.4)))
    bowl = blur(alpha, max(1.5, reach * rng.uniform(0.25, 0.7)))
    shade = light(bowl * reach, rng.uniform(0, 6.3), rng.uniform(1.5, 5))
    changed = spot.image * (1 + rng.uniform(0.35, 0.9) * shade)[..., None]
    changed = changed + (np.clip(shade, 0, 1) ** 4 * rng.uniform(0, 90))[..., None]
    return changed, np.clip(np.maximum(alpha, np.abs(shade) * 2), 0, 1)


def missing_chunk(spot: Spot) -> tuple[Array, Array]:
    """Broken-off piece: what is behind the object shows; the window lies on the object's edge."""
    rng, alpha = spot.rng, blob(spot, 0.0, 1.8)
    if len(spot.outside):
        near = spot.image[~spot.inside]
        pool = near if len(near) > 20 else spot.outside
        behind = pool.mean(0) + noise(rng, *spot.size, 1.5)[..., None] * min(12.0, float(pool.std(0).mean()))
    else:
        behind = ink(spot, 40) + (noise(rng, *spot.size, 2, 2) * rng.uniform(0, 10))[..., None]
    rim = np.clip(light(blur(alpha, 1.5) * 3, rng.uniform(0, 6.3)), -1, 1) * alpha * rng.uniform(0, 40)
    return lay(spot, behind, alpha) + rim[..., None], alpha


def bent(spot: Spot) -> tuple[Array, Array]:
    """Local push or twist of the picture, with what it moves."""
    rng, (h, w), alpha = spot.rng, spot.size, blob(spot, 0.35)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    reach = math.sqrt(spot.area / math.pi)
    if rng.random() < 0.5:
        theta, push = rng.uniform(0, 6.3), rng.uniform(0.3, 0.8) * reach * alpha
        sy, sx = y + math.sin(theta) * push, x + math.cos(theta) * push
    else:
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.8) * alpha
        dy, dx = y - h / 2, x - w / 2
        sy, sx = h / 2 + dy * np.cos(turn) + dx * np.sin(turn), w / 2 + dx * np.cos(turn) - dy * np.sin(turn)
    planes = [map_coordinates(spot.image[..., c], (sy, sx), order=1, mode="nearest") for c in range(3)]
    return np.stack(planes, 2), (alpha > 0.12).astype(np.float32)


def colour_change(spot: Spot) -> tuple[Array, Array]:
    """Local tint or fading; the texture stays."""
    rng, alpha = spot.rng, blob(spot, float(spot.rng.uniform(0, 0.15)))
    gain = np.exp(rng.normal(0, 0.3, 3) + rng.choice([-1, 1]) * rng.uniform(0, 0.5)).astype(np.float32)
    changed = spot.image * gain + rng.normal(0, 8)
    if rng.random() < 0.3:
        changed = changed.mean(2, keepdims=True) + rng.normal(0, 18, 3)
    return lay(spot, changed, alpha), alpha


def thread(spot: Spot) -> tuple[Array, Array]:
    """Fibre or hair lying on the surface, with a faint shadow."""
    rng, alpha = spot.rng, stroke(spot, spot.rng.uniform(1.5, 6), thin(spot, 0.5, 1.6))
    under = spot.image * (1 - rng.uniform(0, 0.5) * np.roll(alpha, (2, 1), (0, 1)))[..., None]
    tone = colour(rng) if rng.random() < 0.5 else ink(spot, 45)
    return under + (tone - under) * alpha[..., None], alpha


def pits(spot: Spot) -> tuple[Array, Array]:
    """Several small marks close together, or an eroded region."""
    rng, (h, w) = spot.rng, spot.size
    if rng.random() < 0.4:
        grain = turned_noise(rng, h, w, (rng.uniform(2, 5), rng.uniform(2, 8)), 0)
        alpha = (blob(spot, 0.3) * np.clip((grain - 0.2) * 3, 0, 1)).astype(np.float32)
        return lay(spot, ink(spot, 30), alpha), alpha
    shape = Image.new("L", (2 * w, 2 * h))
    draw, count = ImageDraw.Draw(shape), int(rng.integers(3, 14))
    for x, y in rng.normal(0, 0.18, (count, 2)):
        radius = math.sqrt(spot.area / count / math.pi) * rng.uniform(0.6, 1.4)
        draw.circle((2 * w * (x + 0.5), 2 * h * (y + 0.5)), 2 * max(0.8, radius), fill=255)
    alpha = np.asarray(shape.reduce(2), np.float32) / 255
    rim = light(blur(alpha, 1.4) * 3, rng.uniform(0, 6.3)) * rng.uniform(0, 40)
    return lay(spot, ink(spot, 30), alpha, rng.uniform(0.6, 1)) + rim[..., None], alpha


def rough(spot: Spot) -> tuple[Array, Array]:
    """Worn or abraded place: fine grain or rubbing marks where the surface was smoother."""
    rng, (h, w) = spot.rng, spot.size
    alpha, cell = blob(spot, float(rng.uniform(0, 0.3))), float(rng.uniform(1, 2.5))
    if rng.random() < 0.5:
        grain = turned_noise(rng, h, w, (cell, cell * rng.uniform(3, 12)), rng.uniform(0, 180))
    else:
        grain = noise(rng, h, w, cell, 2)
    return spot.image + (alpha * (grain * rng.uniform(18, 50) + rng.normal(0, 10)))[..., None], alpha


def line_fault(spot: Spot) -> tuple[Array, Array]:
    """Break, bite or pin hole in lines of two tones, or a spur, bridge or island: one tone where the other belongs."""
    rng, grey = spot.rng, spot.image.mean(2)
    low, high = np.percentile(grey, (4, 96))
    is_dark = grey < (low + high) / 2
    if high - low < 50 or not 0.08 < is_dark.mean() < 0.92:
        return spot.image, np.zeros(spot.size, np.float32)
    shape = blob(spot, 0.0, 2.0) if rng.random() < 0.6 else stroke(spot, 0.1, thin(spot, 1, 3))
    to_dark = rng.random() < 0.5
    tone = np.median(spot.image[is_dark if to_dark else ~is_dark], 0)
    alpha = np.where(is_dark != to_dark, shape, 0).astype(np.float32)
    return lay(spot, tone, alpha), alpha


# Kind -> (function, caption words, weight, largest area share, window side per root of the area).
KINDS: dict[str, tuple[Callable[[Spot], tuple[Array, Array]], tuple[str, ...], float, float, float]] = {
    "scratch": (scratch, ("scratch", "scratches"), 1.6, 0.012, 8.0),
    "crack": (crack, ("crack", "fracture"), 1.4, 0.02, 7.0),
    "hole": (hole, ("hole",), 1.2, 0.08, 2.2),
    "spot": (small_spot, ("spot", "speck"), 1.3, 0.02, 2.2),
    "stain": (stain, ("stain", "dirt"), 0.8, 0.25, 2.3),
    "contamination": (contamination, ("contamination", "foreign material"), 1.3, 0.15, 2.3),
    "blur": (local_blur, ("worn area", "rough area"), 0.2, 0.2, 2.2),
    "cut_paste": (cut_paste, ("misplaced piece", "damage"), 1.2, 0.2, 2.2),
    "dent": (dent, ("dent", "bump"), 0.6, 0.2, 2.6),
    "missing_chunk": (missing_chunk, ("missing piece", "broken edge"), 0.9, 0.15, 2.2),
    "bent": (bent, ("bent part", "deformation"), 0.5, 0.2, 2.3),
    "colour_change": (colour_change, ("discoloration", "color defect"), 0.5, 0.25, 2.2),
    "thread": (thread, ("thread", "fiber"), 0.9, 0.015, 7.0),
    "pits": (pits, ("pits", "corrosion"), 1.5, 0.06, 2.6),
    "rough": (rough, ("worn spot", "rough spot"), 0.9, 0.12, 2.4),
    "line_fault": (line_fault, ("broken line", "short circuit"), 0.4, 0.008, 5.0),
}
_NAMES = list(KINDS)
_WEIGHTS = np.array([KINDS[name][2] for name in _NAMES]) / sum(KINDS[name][2] for name in _NAMES)


def choose_kind(rng: Rng) -> str:
    """A random kind by weight."""
    return _NAMES[int(rng.choice(len(_NAMES), p=_WEIGHTS))]


def _centre(rng: Rng, foreground: Array, on_edge: bool) -> tuple[int, int] | None:
    """A random foreground pixel (row, column), or one on the foreground's edge."""
    h, w = foreground.shape
    if on_edge:
        edge = foreground.copy()
        edge[1:-1, 1:-1] &= ~(
            foreground[:-2, 1:-1] & foreground[2:, 1:-1] & foreground[1:-1, :-2] & foreground[1:-1, 2:]
        )
        found = np.flatnonzero(edge)
        return divmod(int(rng.choice(found)), w) if len(found) else None
    for _ in range(40):
        y, x = int(rng.integers(0, h)), int(rng.integers(0, w))
        if foreground[y, x]:
            return y, x
    return None


def _visible(before: Array, after: Array, alpha: Array, inside: Array, is_clear: bool) -> Array | None:
    """Mask (h, w) of what visibly changed, or None when the change is too faint against the local texture."""
    difference = np.abs(after - before).mean(2)
    # A wide window keeps places inside a patch where old and new happen to be alike.
    mask = (alpha > 0.2) & inside & (blur(difference, max(1.5, 0.1 * math.sqrt(alpha.sum()))) > 4)
    if mask.sum() < 5:
        return None
    texture = float(before[inside].mean(1).std()) if inside.any() else 0.0
    faintest = max(32.0, 1.1 * texture) if is_clear else max(10.0, 0.5 * texture)
    return mask if difference[mask].mean() > faintest else None


def try_defect(
    image: Array, foreground: Array, rng: Rng, kind: str, donor: Array | None = None, is_clear: bool = False
) -> tuple[Array, Array] | None:
    """One attempt: (image float32 (H, W, 3), mask (H, W) bool), or None when nothing visible came out."""
    function, _, _, largest, reach = KINDS[kind]
    h, w = foreground.shape
    is_object = not foreground.all()
    share = math.exp(rng.uniform(math.log(SMALLEST), math.log(min(largest, LARGEST))))
    area = max(6.0, share * (float(foreground.sum()) if is_object else h * w))
    centre = _centre(rng, foreground, kind == "missing_chunk" or (is_object and rng.random() < 0.15))
    if centre is None:
        return None
    half = int(np.clip(math.sqrt(area) * reach / 2 + 4, 6, max(h, w) / 2))
    rows = slice(max(0, min(centre[0] - half, h - 2 * half)), min(h, max(centre[0] + half, 2 * half)))
    columns = slice(max(0, min(centre[1] - half, w - 2 * half)), min(w, max(centre[1] + half, 2 * half)))
    if kind == "missing_chunk" or is_object:  # Near borders keep the defect on the chosen pixel.
        rows = slice(max(0, centre[0] - half), min(h, centre[0] + half))
        columns = slice(max(0, centre[1] - half), min(w, centre[1] + half))
    image = image.astype(np.float32)
    window, inside = image[rows, columns], foreground[rows, columns]
    outside = image[::4, ::4][~foreground[::4, ::4]] if is_object else np.zeros((0, 3), np.float32)
    changed, alpha = function(Spot(rng, window, inside, image, outside, area, donor))
    changed = np.clip(np.where((inside | (not is_object))[..., None], changed, window), 0, 255)
    mask = _visible(window, changed, alpha, inside, is_clear)
    if mask is None or not 0.0005 * h * w <= mask.sum() <= 0.3 * h * w:
        return None
    # Outside the mask only faint remains (shadows, soft borders) may stay changed.
    result, full = image.copy(), np.zeros((h, w), bool)
    result[rows, columns], full[rows, columns] = changed, mask
    return result, full


def apply_defect(
    image: Array,
    foreground: Array,
    rng: Rng,
    kind: str | None = None,
    donor: Array | None = None,
    attempts: int = 40,
    is_clear: bool = False,
) -> tuple[Array, Array, str]:
    """Add one visible defect: (image float32 (H, W, 3) in 0..255, mask (H, W) bool, kind)."""
    kind = choose_kind(rng) if kind is None else kind
    for attempt in range(attempts):
        if attempt and attempt % 4 == 0:  # This kind does not show on this surface.
            kind = choose_kind(rng)
        found = try_defect(image, foreground, rng, kind, donor, is_clear)
        if found is not None:
            return *found, kind
    return image.astype(np.float32), np.zeros(foreground.shape, bool), kind


def words(kind: str, rng: Rng) -> str:
    """Caption words of a kind."""
    return str(rng.choice(KINDS[kind][1]))
