# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Resize and normalise images with NumPy and Pillow alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Preprocessing:
    """Resize an image and normalise its pixels, as [`AnomalyCLIPProcessor`] does.

    Args:
        size (`tuple[int, int]`): Height and width to resize to, in pixels.
        mean (`tuple[float, ...]`): Mean of each channel, of pixels in [0, 1].
        std (`tuple[float, ...]`): Standard deviation of each channel.
        scale (`float`, *optional*, defaults to 1 / 255): Factor from 8-bit values to the range of mean and deviation.
        resample (`int`, *optional*, defaults to 3): Pillow's number of the filter; 3 is bicubic.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    resample: int = 3

    @classmethod
    def from_processor(cls, processor: Any) -> "Preprocessing":
        """Read the settings of an [`AnomalyCLIPProcessor`]."""
        settings = processor.score_settings
        mean, std = tuple(settings["mean"]), tuple(settings["std"])
        return cls(tuple(settings["image_size"]), mean, std, settings["scale"], settings["resample"])

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Prepare one image.

        Args:
            image (`PIL.Image.Image`): In mode RGB.

        Returns:
            `np.ndarray` of shape `(3, height, width)`: float32.
        """
        height, width = self.size
        values = np.asarray(image.resize((width, height), Image.Resampling(self.resample)))
        return np.stack([table[values[..., channel]] for channel, table in enumerate(self._tables)])

    @cached_property
    def _tables(self) -> np.ndarray:
        """Normalised values of all 8-bit values of each channel, rounded at each step as in transformers."""
        values = (np.arange(256) * self.scale).astype(np.float32)
        mean, std = np.array(self.mean, np.float32)[:, None], np.array(self.std, np.float32)[:, None]
        return (values - mean) / std
