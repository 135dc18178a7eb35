# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""An image on its way through the engine: read, seen by the backend in one view or several, and merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.samples import Sample
from .tiling import Box, TileMerger


@dataclass
class Item:
    """One image on its way through the backend, or why it could not be read."""

    index: int
    source: str
    size: tuple[int, int] | None = None
    sample: Sample | None = None
    views: Sequence[Box] = ()
    pixel_values: np.ndarray | None = None  # of its only view
    image: Image.Image | None = None  # while tiles are cut out of it
    error: str | None = None
    merger: TileMerger | None = None  # holds a map of the image's size, so it is made when the first view was scored
    found: tuple[float, np.ndarray] | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels as read, 1 for an image that could not be read."""
        return 1 if self.size is None else self.size[0] * self.size[1]

    @property
    def is_finished(self) -> bool:
        """Return whether all views were scored, or there are none."""
        return bool(self.error or self.found) or (self.merger is not None and self.merger.is_complete)

    def add(self, number: int, score: float, anomaly_map: np.ndarray) -> None:
        """Add what was found in one view."""
        self.pixel_values = None
        if len(self.views) == 1:
            self.found = score, anomaly_map
            return
        if self.merger is None:
            self.merger = TileMerger(self.size, self.views)  # type: ignore[arg-type]
        self.merger.add(number, score, anomaly_map)

    def merge(self, size: tuple[int, int]) -> tuple[float, np.ndarray]:
        """Return the score and the map: of the only view as it is, of several ones at a size."""
        return self.found if self.found is not None else self.merger.merge(size)  # type: ignore[union-attr]


class View(NamedTuple):
    """One view of an image, prepared for the backend."""

    item: Item
    number: int
    pixel_values: np.ndarray


__all__ = ["Item", "View"]
