# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Load the images on which an export is calibrated and checked."""

import os
from typing import Any

import numpy as np
from PIL import Image

from ..assets import EXAMPLE_IMAGES
from ..image_processing_anomalyclip import load_image
from ..scoring.inputs import find_images


MOST_IMAGES = 64  # for calibration; more hardly change the ranges


def load_images(images: Any) -> list[Image.Image]:
    """Load the images on which the ranges of activations are measured.

    Args:
        images (`str`, `os.PathLike` or `Sequence`): Folder, or list of images as `load_image` accepts them; from more
            than 64, 64 are chosen at equal distances.

    Returns:
        `list[PIL.Image.Image]`: in mode RGB.

    Raises:
        OSError: If an image does not exist.
        ValueError: If there are no images, or one cannot be read.
    """
    sources = [images] if isinstance(images, str | os.PathLike) else list(images)
    if sources and all(isinstance(source, str | os.PathLike) for source in sources):
        found, problems = find_images([str(source) for source in sources])
        if problems:
            raise ValueError(f"calibration images: {next(iter(problems.values()))}")
        sources = [image.source for image in found]
    if not sources:
        raise ValueError("calibration_images is empty; expected some images like those that will be scored.")
    step = max(1.0, len(sources) / MOST_IMAGES)
    return [load_image(sources[int(index * step)]) for index in range(min(len(sources), MOST_IMAGES))]


def sample_images(count: int) -> list[Image.Image]:
    """Return sample images of the demo, or noise if the package was installed without them.

    Args:
        count (`int`): Number of images.

    Returns:
        `list[PIL.Image.Image]`: in mode RGB.
    """
    paths = sorted(EXAMPLE_IMAGES.glob("*.png"))[:count] if EXAMPLE_IMAGES.is_dir() else []
    if len(paths) == count:
        return [load_image(str(path)) for path in paths]
    noise = np.random.default_rng(0).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((320, 240)) for pixels in noise]
