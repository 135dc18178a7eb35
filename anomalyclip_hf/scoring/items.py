# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Hold an image while the engine scores it, in one view or in several tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.samples import Sample
from .tiling import Box, TileMerger


@dataclass
class Item:
    """Hold one image while it is scored, or the reason why it could not be read."""

    index: int
    source: str
    size: tuple[int, int] | None = None
    sample: Sample | None = None
    views: Sequence[Box] = ()
    pixel_values: np.ndarray | None = None  # of its only view
    image: Image.Image | None = None  # while tiles are cut out of it
    error: str | None = None
    merger: TileMerger | None = None  # made with the first scored view, since it holds a map of the image's size
    found: tuple[float, np.ndarray] | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels as read, 1 for an image that could not be read."""
        return 1 if self.size is None else self.size[0] * self.size[1]

    @property
    def is_finished(self) -> bool:
        """Return whether all views were scored, or the image could not be read."""
        return bool(self.error or self.found) or (self.merger is not None and self.merger.is_complete)

    def add(self, number: int, score: float, anomaly_map: np.ndarray) -> None:
        """Add the score and map of one view."""
        self.pixel_values = None
        if len(self.views) == 1:
            self.found = score, anomaly_map
            return
        if self.merger is None:
            self.merger = TileMerger(self.size, self.views)  # type: ignore[arg-type]
        self.merger.add(number, score, anomaly_map)

    def merge(self, size: tuple[int, int]) -> tuple[float, np.ndarray]:
        """Return the score and the map; a map that was merged from several views has the given size."""
        return self.found if self.found is not None else self.merger.merge(size)  # type: ignore[union-attr]


class View(NamedTuple):
    """Hold one view of an image, prepared for the backend."""

    item: Item
    number: int
    pixel_values: np.ndarray


__all__ = ["Item", "View"]
