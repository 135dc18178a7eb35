# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Add synthetic defects to normal images, for training without real ones."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage


SMALLEST, LARGEST = 0.002, 0.08  # fraction of the image's area
MIN_CHANGE = 12.0  # smallest mean change of the marked pixels, in grey levels; below it another defect is tried
TRIES = 20

Defect = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def add_synthetic_defect(image: Image.Image, seed: int) -> tuple[Image.Image, np.ndarray]:
    """Add one visible defect to an image.

    The defect is a part of the image pasted elsewhere (as in Li et al., *CutPaste*, CVPR 2021), or a blob or a scratch
    of another colour, brightness or texture.

    Args:
        image (`PIL.Image.Image`): RGB, at least 8 pixels wide and high.
        seed (`int`): The same seed adds the same defect.

    Returns:
        `tuple[PIL.Image.Image, np.ndarray]`: the image with the defect, and its mask of shape `(height, width)`, bool.

    Example:
    ```python
    >>> from PIL import Image
    >>> from anomalyclip_hf.training.synthetic import add_synthetic_defect

    >>> damaged, mask = add_synthetic_defect(Image.new("RGB", (64, 48), "grey"), seed=1)
    >>> damaged.size, mask.shape, bool(mask.any())
    ((64, 48), (48, 64), True)

    ```
    """
    rng = np.random.default_rng(seed)
    pixels = np.asarray(image, dtype=np.float32)
    damaged, mask = pixels, np.zeros(pixels.shape[:2], dtype=bool)
    for attempt in range(TRIES):
        shape = (_blob, _scratch)[int(rng.random() < 0.35)](rng, *pixels.shape[:2])
        # A pasted part is invisible on a plain surface; another colour is always visible.
        defects = DEFECTS if attempt < TRIES // 2 else (_other_colour,)
        changed = np.clip(defects[int(rng.integers(len(defects)))](pixels, shape, rng), 0, 255)
        opacity = shape[..., None]
        damaged = pixels * (1 - opacity) + changed * opacity
        mask = shape > 0.5
        if mask.any() and np.abs(damaged - pixels)[mask].mean() > MIN_CHANGE:
            break
    return Image.fromarray(damaged.round().astype(np.uint8)), mask


def _blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the opacity (height, width) of an irregular patch."""
    area = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))) * height * width
    radius = max(2.0, (area / np.pi) ** 0.5)
    rows, columns = np.ogrid[:height, :width]
    top, left = rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width
    stretch = np.exp(rng.normal(0, 0.4))
    distance = np.hypot((rows - top) / stretch, (columns - left) * stretch) / radius
    rough = ndimage.gaussian_filter(rng.normal(size=(height, width)), radius / 2)
    rough *= rng.uniform(0, 0.4) / max(float(rough.std()), 1e-6)
    return np.clip((1 + rough - distance) * radius / rng.uniform(1, 3), 0, 1).astype(np.float32)


def _scratch(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the opacity (height, width) of a thin, bent line."""
    length = rng.uniform(0.1, 0.5) * min(height, width)
    steps = np.linspace(0, 1, max(8, int(3 * length)))
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.6) * steps
    rows = rng.uniform(0.15, 0.85) * height + np.cumsum(np.sin(turn)) * length / len(steps)
    columns = rng.uniform(0.15, 0.85) * width + np.cumsum(np.cos(turn)) * length / len(steps)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    line = np.zeros((height, width), dtype=np.float32)
    line[rows[inside].astype(int), columns[inside].astype(int)] = 1
    thickness = rng.uniform(0.5, 1.5) * max(1.0, min(height, width) / 256)
    return np.clip(3 * thickness * ndimage.gaussian_filter(line, thickness), 0, 1)


def _pasted(pixels: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return another part of the same image, upside down."""
    height, width = pixels.shape[:2]
    shift = (int(rng.uniform(0.15, 0.85) * height), int(rng.uniform(0.15, 0.85) * width))
    return np.roll(pixels, shift, axis=(0, 1))[::-1]


def _other_colour(pixels: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one colour, mixed with a little of the image."""
    return rng.uniform(0, 255, 3) * 0.85 + pixels * 0.15


def _other_brightness(pixels: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken or brighten, as a stain or wear does."""
    return pixels * (rng.uniform(0.3, 0.7) if rng.random() < 0.6 else rng.uniform(1.3, 1.8))


def _other_texture(pixels: np.ndarray, shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add grain, or blur."""
    if rng.random() < 0.5:
        return pixels + rng.normal(0, 45, pixels.shape)
    return ndimage.gaussian_filter(pixels, (4, 4, 0)) + rng.normal(0, 20, 3)


DEFECTS: tuple[Defect, ...] = (_pasted, _other_colour, _other_brightness, _other_texture)
