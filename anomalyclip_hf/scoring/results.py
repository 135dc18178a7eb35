# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Hold the result of scoring an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..data.samples import Sample


@dataclass
class AnomalyResult:
    """Hold the result of one image.

    Args:
        index (`int`): Index among the given images.
        source (`str`): Name of the image: its path, or `"image 3"`.
        size (`tuple[int, int]`, *optional*): Height and width of the upright image, in pixels.
        score (`float`, *optional*): Probability of abnormal, or another `image_score`, in [0, 1].
        label (`str`, *optional*): `"normal"` or `"anomalous"`.
        anomaly_map (`np.ndarray` of shape `(height, width)`, *optional*):
            float32, from 0 to the number of selected layers; at the image's size, or at the model's.
        mask (`np.ndarray` of shape `(height, width)`, *optional*): bool; `None` without a pixel threshold.
        regions (`list[dict]`, *optional*): See [`find_regions`]; `None` without a pixel threshold.
        error (`str`, *optional*): Why the image could not be read, in one line; then all but `index` and `source` is
            `None`.
        sample ([`Sample`], *optional*): Label, mask and category, where the dataset has them.
        p_value (`float`, *optional*): Share of normal images that score as high or higher, with a calibrated model.
        decision (`str`, *optional*): `"accept"`, `"look"` or `"reject"`, with a calibrated model.
    """

    index: int
    source: str
    size: tuple[int, int] | None = None
    score: float | None = None
    label: str | None = None
    anomaly_map: np.ndarray | None = None
    mask: np.ndarray | None = None
    regions: list[dict[str, Any]] | None = None
    error: str | None = None
    sample: Sample | None = None
    p_value: float | None = None
    decision: str | None = None

    @property
    def image(self) -> Image.Image | None:
        """The upright RGB image, if images were kept."""
        return None if self.sample is None else self.sample.image


def scale_regions(
    regions: Sequence[dict[str, Any]], size: Sequence[int], target: Sequence[int]
) -> list[dict[str, Any]]:
    """Convert regions from the pixels of one size to those of another.

    Args:
        regions (`Sequence[dict]`): From [`find_regions`].
        size (`Sequence[int]`): Height and width in which they were found.
        target (`Sequence[int]`): Height and width of the image.

    Returns:
        `list[dict]`: with boxes rounded outwards and areas rounded.
    """
    y_scale, x_scale = target[0] / size[0], target[1] / size[1]
    scaled = []
    for region in regions:
        box = region["box"]
        box = {
            "xmin": math.floor(box["xmin"] * x_scale),
            "ymin": math.floor(box["ymin"] * y_scale),
            "xmax": math.ceil(box["xmax"] * x_scale),
            "ymax": math.ceil(box["ymax"] * y_scale),
        }
        scaled.append({**region, "box": box, "area": round(region["area"] * x_scale * y_scale)})
    return scaled


__all__ = ["AnomalyResult", "scale_regions"]
