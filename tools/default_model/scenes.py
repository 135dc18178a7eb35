# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Pairs of synthetic scenes, normal and defective, for training an anomaly detector from scratch.

python scenes.py --bank texture_bank --output sheet.png    # a contact sheet for eyes
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bank import TextureBank
from cutouts import lay_out
from defects import apply_defect, choose_kind, words
from nuisance import add_structure, cut_part, degrade, place
from optics import light_and_lens
from surfaces import FAMILIES, LINE_FAMILIES, MIRROR_FAMILIES, draw_family, names


__all__ = ["Scene", "TextureBank", "draw_pair"]
PHOTO_SHARE = 0.4
OBJECT_SHARE = 0.4
STRUCTURE_SHARE = 0.3
CUTOUT_SHARE = 0.12  # where the bank has cut-outs
MIRROR_SHARE = 0.15  # of training scenes: polished metal
PART_SHARE = 0.2  # of surfaces: only a part of the picture shows them
BINARISED_SHARE = 0.3  # of faults in line patterns
CLEAR_SHARE = 0.95  # of defects: plainly visible, the rest may be faint
FAINTEST = 18.0  # mean difference in the final picture, of 255
SAME_CAMERA_SHARE = 0.8  # of pairs: nothing but the defect tells the twins apart


@dataclass
class Scene:
    """One image with its label; words are for captions, family for grouping results."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool, empty when normal
    surface: str
    defect: str | None
    family: str


def _render_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """(height, width) to render at: often larger than the result, sometimes not square."""
    # A larger picture made smaller has the fine statistics of a camera; very large ones would cost too much.
    scale = 1.05 if rng.random() < 0.5 else float(rng.uniform(1.1, 2.3 if size <= 128 else 1.5))
    height = width = size * scale
    if rng.random() < 0.45:  # Photographs are squeezed into a square, whatever their shape.
        squeeze = float(rng.uniform(0.4, 1))
        height, width = (height * squeeze, width) if rng.random() < 0.5 else (height, width * squeeze)
    return max(32, round(height)), max(32, round(width))


def _base(
    rng: np.random.Generator, height: int, width: int, split: str, bank: TextureBank | None
) -> tuple[np.ndarray, np.ndarray, str, str]:
    """One normal scene: (image uint8, foreground bool, caption words, family)."""

    def surface(generator: np.random.Generator, h: int, w: int) -> np.ndarray:
        if bank is not None and generator.random() < 0.6:
            return bank.crop(generator, h, w, split)[0]
        return draw_family(str(generator.choice(names(split, False))), generator, h, w)[0]

    everywhere = np.ones((height, width), bool)
    if bank is not None and bank.cutouts and rng.random() < CUTOUT_SHARE:
        image, foreground = lay_out(rng, bank.cutout(rng, split), height, width, surface)
        if foreground.mean() > 0.05:
            return image, foreground, "object", "cutout"
    is_mirror = split == "train" and rng.random() < MIRROR_SHARE
    if bank is not None and not is_mirror and rng.random() < PHOTO_SHARE:
        image, caption = bank.crop(rng, height, width, split)
        family = "photo"
    else:
        family = str(rng.choice(MIRROR_FAMILIES if is_mirror else names(split, bool(rng.random() < OBJECT_SHARE))))
        material = (lambda g, h, w: bank.crop(g, h, w, split)[0]) if bank is not None else None
        image, foreground = draw_family(family, rng, height, width, material)
        caption = FAMILIES[family].words
        if FAMILIES[family].is_object and foreground.mean() > 0.02:
            return image, foreground, caption, family
    if rng.random() < STRUCTURE_SHARE:
        other = surface(rng, height, width) if rng.random() < 0.3 else None
        image = add_structure(rng, image, other)
    if rng.random() < PART_SHARE and family not in LINE_FAMILIES:
        part, foreground = cut_part(rng, image)
        if foreground.mean() > 0.1:
            return part, foreground, caption, family
    return image, everywhere, caption, family


def _finish(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, size: int, binarise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Label-independent geometry, light and camera of one image: (uint8 (size, size, 3), mask bool)."""
    image, mask = place(rng, image, mask, size)
    if binarise:
        grey = image.mean(2, keepdims=True)
        black_or_white = np.where(grey > (grey.min() + grey.max()) / 2, 255, 0).astype(np.uint8)
        return np.repeat(black_or_white, 3, 2), mask
    return degrade(rng, light_and_lens(rng, image, mask)), mask


def draw_pair(
    rng: np.random.Generator, size: int = 128, split: str = "train", bank: TextureBank | None = None
) -> tuple[Scene, Scene]:
    """The same scene without and with a defect, under its own light and camera or the same; (size, size, 3) each."""
    for _ in range(6):
        height, width = _render_size(rng, size)
        image, foreground, caption, family = _base(rng, height, width, split, bank)
        is_lines = family in LINE_FAMILIES
        kind = "line_fault" if is_lines and rng.random() < 0.7 else choose_kind(rng)
        donor = bank.crop(rng, height, width, split)[0] if bank is not None and kind == "cut_paste" else None
        is_clear = bool(rng.random() < CLEAR_SHARE)
        damaged, mask, kind = apply_defect(image, foreground, rng, kind, donor, is_clear=is_clear)
        binarise = kind == "line_fault" and is_lines and rng.random() < BINARISED_SHARE
        if mask.any() and rng.random() < 0.25:
            for _ in range(int(rng.integers(1, 3))):
                damaged, more, _ = apply_defect(damaged, foreground, rng, kind, donor, attempts=4)
                mask = mask | more
        seeds = rng.integers(0, 2**32, 2)
        if rng.random() < SAME_CAMERA_SHARE:
            seeds[0] = seeds[1]
        plain, _ = _finish(np.random.default_rng(seeds[0]), image, mask, size, binarise)
        marked, mask = _finish(np.random.default_rng(seeds[1]), damaged, mask, size, binarise)
        # Under two cameras every pixel differs, so that nothing can be said about the defect's.
        if mask.any() and (seeds[0] != seeds[1] or np.abs(marked.astype(float) - plain)[mask].mean() > FAINTEST):
            break
    normal = Scene(plain, np.zeros_like(mask), caption, None, family)
    return normal, Scene(marked, mask, caption, words(kind, rng), family)


def _outlined(scene: Scene) -> np.ndarray:
    """The image with the border of its mask in red."""
    grown = np.zeros_like(scene.mask)
    for axis in (0, 1):
        for step in (-1, 1):
            grown |= np.roll(scene.mask, step, axis)
    image = scene.image.copy()
    image[grown & ~scene.mask] = (255, 0, 0)
    return image


def main() -> None:
    """Write a contact sheet: rows of normal, defective, and defective with outlined mask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--output", type=Path, default=Path("scenes.png"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--rows", type=int, default=3)
    arguments = parser.parse_args()
    rng, bank = np.random.default_rng(arguments.seed), TextureBank(arguments.bank) if arguments.bank else None
    rows = []
    for _ in range(arguments.rows):
        pairs = [draw_pair(rng, arguments.size, arguments.split, bank) for _ in range(arguments.columns)]
        print("; ".join(f"{bad.surface}: {bad.defect}" for _, bad in pairs))
        rows.append(np.concatenate([normal.image for normal, _ in pairs], 1))
        rows.append(np.concatenate([bad.image for _, bad in pairs], 1))
        rows.append(np.concatenate([_outlined(bad) for _, bad in pairs], 1))
    Image.fromarray(np.concatenate(rows, 0)).save(arguments.output)


if __name__ == "__main__":
    main()
