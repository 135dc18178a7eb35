# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Divide a large image into overlapping tiles, and merge their scores and maps without seams."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


MIN_TILE = 32  # pixels; CLIP's patches have up to 32
WHOLE_WEIGHT = 0.25  # weight of the whole image's map; the blend of its tiles has the rest
STRIP_ROWS = 256  # rows of the canvas that are computed at once

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, as Pillow crops


@dataclass(frozen=True)
class Tiling:
    """Divide images into views: the whole image, and tiles of the model's shape that cover it.

    Args:
        tile (`int`): Longer side of a tile, in pixels of the image. Tiles of the model's input size are not resized.
        overlap (`float`, *optional*, defaults to 0.25): Smallest part of a tile, in [0, 1), that it shares with the
            next one.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    ```python
    >>> from anomalyclip_hf.scoring.tiling import Tiling

    >>> Tiling(512, overlap=0.25).views((512, 1200), input_size=(256, 256))
    [(0, 0, 1200, 512), (0, 0, 512, 512), (344, 0, 856, 512), (688, 0, 1200, 512)]

    ```
    """

    tile: int
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if isinstance(self.tile, bool) or not isinstance(self.tile, int) or self.tile < MIN_TILE:
            raise ValueError(f"tile is {self.tile!r}; expected a whole number of pixels, {MIN_TILE} or more.")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap!r}; expected a part of a tile, from 0 to below 1.")

    def views(self, size: tuple[int, int], input_size: tuple[int, int]) -> list[Box]:
        """Return the boxes to score of an image: the whole image first, then its tiles row by row.

        Tiles overlap by at least `overlap`, are spread evenly and end at the borders. Where the image is shorter
        than a tile, the tile is as short as the image; an image that fits into one tile has no tiles.

        Args:
            size (`tuple[int, int]`): Height and width of the image, in pixels.
            input_size (`tuple[int, int]`): Height and width that the model takes; tiles have its shape.

        Returns:
            `list[tuple[int, int, int, int]]`: left, top, right and bottom of each view.
        """
        whole = (0, 0, size[1], size[0])
        (rows, height), (columns, width) = self._axes(size, input_size)
        if len(rows) * len(columns) == 1:
            return [whole]
        return [whole, *((left, top, left + width, top + height) for top in rows for left in columns)]

    def map_size(self, size: tuple[int, int], input_size: tuple[int, int]) -> tuple[int, int]:
        """Return the size at which the model sees an image in tiles; a map of that size is not upsampled.

        Args:
            size (`tuple[int, int]`): Height and width of the image, in pixels.
            input_size (`tuple[int, int]`): Height and width that the model takes.

        Returns:
            `tuple[int, int]`: height and width, at most those of the image.
        """
        scale = min(1.0, max(input_size) / self.tile)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _axes(self, size: tuple[int, int], input_size: tuple[int, int]) -> list[tuple[list[int], int]]:
        """Return the starts of tiles and their length, for rows and for columns."""
        axes = []
        for length, side in zip(size, input_size, strict=True):
            tile = min(length, max(1, round(self.tile * side / max(input_size))))
            step = max(1, math.floor(tile * (1 - self.overlap)))
            count = math.ceil((length - tile) / step) + 1
            axes.append((np.linspace(0, length - tile, count).round().astype(int).tolist(), tile))
        return axes


def blend_weights(starts: Sequence[int], tile: int, length: int) -> list[np.ndarray]:
    """Compute the weights of tiles along one axis; at each pixel they sum to 1.

    A weight is highest in the middle of a tile, where the model sees most around a pixel, and falls towards its ends.
    The weights of a two-dimensional tile are the product of those of its row and its column.

    Args:
        starts (`Sequence[int]`): First pixel of each tile, ascending, from 0 to `length - tile`.
        tile (`int`): Length of each tile, in pixels.
        length (`int`): Length of the image, in pixels.

    Returns:
        `list[np.ndarray]`: per tile float32 of shape `(tile,)`, above 0.

    Example:
    ```python
    >>> from anomalyclip_hf.scoring.tiling import blend_weights

    >>> [weights.round(2).tolist() for weights in blend_weights([0, 2], tile=4, length=6)]
    [[1.0, 1.0, 0.75, 0.25], [0.25, 0.75, 1.0, 1.0]]

    ```
    """
    triangle = np.minimum(np.arange(tile) + 0.5, tile - np.arange(tile) - 0.5)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += triangle
    return [(triangle / total[start : start + tile]).astype(np.float32) for start in starts]


class TileMerger:
    """Merge scores and maps of the views of one image, in any order, in one float32 map of the image's size.

    Args:
        size (`tuple[int, int]`): Height and width of the image, in pixels.
        views (`list[tuple[int, int, int, int]]`): From [`Tiling.views`], with tiles.
    """

    def __init__(self, size: tuple[int, int], views: Sequence[Box]):
        self.views = views
        self.canvas = np.zeros(size, dtype=np.float32)
        self.whole: np.ndarray | None = None
        self.scores: dict[int, float] = {}
        columns, rows = sorted({view[0] for view in views[1:]}), sorted({view[1] for view in views[1:]})
        left, top, right, bottom = views[1]
        self._columns = dict(zip(columns, blend_weights(columns, right - left, size[1]), strict=True))
        self._rows = dict(zip(rows, blend_weights(rows, bottom - top, size[0]), strict=True))

    @property
    def is_complete(self) -> bool:
        """Return whether all views were added."""
        return len(self.scores) == len(self.views)

    def add(self, number: int, score: float, anomaly_map: np.ndarray) -> None:
        """Add the score and map of one view.

        Args:
            number (`int`): Index of the view in `views`.
            score (`float`): Its score, in [0, 1].
            anomaly_map (`np.ndarray` of shape `(height, width)`): Its smoothed map, of any size.
        """
        self.scores[number] = score
        if number == 0:
            self.whole = anomaly_map
            return
        left, top, right, bottom = self.views[number]
        values = resize_blended(anomaly_map, (bottom - top, right - left))
        values = values * self._rows[top][:, None] * self._columns[left]
        self.canvas[top:bottom, left:right] += values

    def merge(self, size: tuple[int, int] | None = None) -> tuple[float, np.ndarray]:
        """Return the score and map of the image, once all views were added.

        The score is the highest of all views, the whole image included. In the map, the whole image has the weight
        `WHOLE_WEIGHT`, and the blend of the tiles has the rest.

        Args:
            size (`tuple[int, int]`, *optional*): Height and width of the map; defaults to those of the image.

        Returns:
            `tuple[float, np.ndarray]`: the score, and the map of shape `(height, width)`, float32.

        Raises:
            ValueError: If views are missing.
        """
        if not self.is_complete or self.whole is None:
            raise ValueError(f"{len(self.scores)} of {len(self.views)} views were added; add all of them first.")
        height, width = self.canvas.shape
        scale = self.whole.shape[0] / height
        self.canvas *= 1 - WHOLE_WEIGHT
        for top in range(0, height, STRIP_ROWS):  # a second map of the image's size would double the memory
            bottom = min(top + STRIP_ROWS, height)
            box = (0, top * scale, self.whole.shape[1], bottom * scale)
            self.canvas[top:bottom] += WHOLE_WEIGHT * resize_blended(self.whole, (bottom - top, width), box)
        anomaly_map = self.canvas if size in (None, self.canvas.shape) else resize_blended(self.canvas, size)
        return max(self.scores.values()), anomaly_map


def resize_blended(
    values: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize a map, or a box of it, bilinearly; where it gets smaller, to the means over the new pixels."""
    picture = Image.fromarray(np.asarray(values, dtype=np.float32))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box=box))


__all__ = ["TileMerger", "Tiling", "blend_weights", "resize_blended"]
