# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Find the most similar of many patches, in NumPy or PyTorch, on any device and in bounded memory."""

from typing import Any

import numpy as np

from ..image_processing_anomalyclip import to_array


SEARCH_WIDTH = 128  # principal components that the search compares; distances use the whole width
BLOCK = 1 << 24  # similarities that are held at once, 64 MiB
SAMPLE = 1 << 14  # patches from which the principal components are computed
RANDOM_PAIRS = 4096  # of patches, from which their mean distance is computed

Array = Any  # np.ndarray or torch.Tensor: what is used here has the same name in both


class PatchIndex:
    """Hold features of reference patches and find the most similar one to each patch of an image.

    The search compares the first principal components only. This costs a fraction of comparing the whole width, and
    rarely finds another patch. The distance to the patch that it finds is exact.

    Args:
        features (`np.ndarray` of shape `(num_views, num_patches, width)`): L2-normalised, float16 or float32; a view
            is an image or a tile of it. A selection of patches has the shape `(1, num_patches, width)`.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.scoring.neighbours import PatchIndex, normalise

    >>> features = normalise(np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32))
    >>> distances = PatchIndex(features).distances(features[1])
    >>> distances.shape, bool(distances.max() < 1e-6)
    ((4,), True)

    ```
    """

    def __init__(self, features: np.ndarray):
        self.shape = features.shape
        flat = features.reshape(-1, self.shape[-1])
        self.mean, self.axes = principal_axes(flat)
        step = max(1, BLOCK // self.shape[-1])
        parts = [self._project(flat[start : start + step].astype(np.float32)) for start in range(0, len(flat), step)]
        projected = np.concatenate(parts)
        self._arrays = (flat, self.mean, self.axes, projected, (projected**2).sum(1) / 2)

    def _project(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.axes

    @property
    def features(self) -> np.ndarray:
        """All features: (num_views, num_patches, width)."""
        return to_array(self._arrays[0]).reshape(self.shape)

    @property
    def projected(self) -> np.ndarray:
        """The principal components: (num_views * num_patches, components)."""
        return to_array(self._arrays[3])

    def distances(
        self,
        queries: Array,
        without: slice | None = None,
        radius: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Array:
        """Compute how far each patch of one image is from the most similar reference patch.

        Args:
            queries (array of shape `(num_queries, width)`): L2-normalised, float32; NumPy, or PyTorch on any device.
            without (`slice`, *optional*): Views to leave out.
            radius (`int`, *optional*): Compare only patches at most this many rows and columns apart.
            grid (`tuple[int, int]`, *optional*): Rows and columns of the patches; needed with `radius`.

        Returns:
            array of shape `(num_queries,)`: one minus the cosine similarity, float32, of the type of `queries`.
        """
        self._arrays = tuple(like(array, queries) for array in self._arrays)  # moved to the device once
        flat, mean, axes, projected, half_norms = self._arrays
        if radius is not None and grid is not None:
            return self._near_distances(queries, without, radius, grid)
        found = []
        step = max(1, BLOCK // len(flat))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            # The largest value is that of the nearest patch: |a - b|^2 = |a|^2 - 2 (ab - |b|^2 / 2).
            closeness = (block - mean) @ axes @ projected.T - half_norms
            if without is not None:
                closeness.reshape(len(block), *self.shape[:2])[:, without] = -np.inf
            found.append(1 - (block * to_float32(flat[closeness.argmax(1)])).sum(1))
        return _concatenate(found)

    def _near_distances(self, queries: Array, without: slice | None, radius: int, grid: tuple[int, int]) -> Array:
        """Compare each row of patches with the rows around it, without the columns that are too far away."""
        (rows, columns), count = grid, self.shape[0]
        flat, mean, axes, projected, half_norms = self._arrays
        features, projected, half_norms = (
            array.reshape(count, rows, columns, -1) for array in (flat, projected, half_norms)
        )
        place = np.arange(columns)
        too_far = like(np.where(np.abs(place[:, None] - place) > radius, np.float32(1e9), 0), queries)[:, None, None]
        found = []
        for row in range(rows):
            block = queries[row * columns : (row + 1) * columns]
            near = slice(max(0, row - radius), row + radius + 1)
            candidates = projected[:, near].reshape(-1, projected.shape[-1])
            closeness = (block - mean) @ axes @ candidates.T - half_norms[:, near].reshape(-1)
            by_place = closeness.reshape(columns, count, -1, columns)
            by_place -= too_far
            if without is not None:
                by_place[:, without] = -np.inf
            nearest = features[:, near].reshape(-1, features.shape[-1])[closeness.argmax(1)]
            found.append(1 - (block * to_float32(nearest)).sum(1))
        return _concatenate(found)


def normalise(features: Array) -> Array:
    """Divide features by their length, along the last axis."""
    return features / ((features * features).sum(-1)[..., None] ** 0.5 + 1e-12)


def principal_axes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of features `(num_features, width)`, and the directions in which they vary most, as columns."""
    sample = features[:: max(1, len(features) // SAMPLE)].astype(np.float32)
    mean = sample.mean(0)
    centred = sample - mean
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    return mean, np.ascontiguousarray(axes[:, -SEARCH_WIDTH:].astype(np.float32))


def typical_distance(features: np.ndarray) -> float:
    """Return the mean cosine distance of two L2-normalised features picked at random."""
    flat = features.reshape(-1, features.shape[-1])
    first, second = np.random.default_rng(0).integers(0, len(flat), (2, RANDOM_PAIRS))
    cosines = (flat[first].astype(np.float32) * flat[second]).sum(1)
    return max(float((1 - cosines).mean()), 1e-6)


def grid_of(input_size: tuple[int, int], patches: int) -> tuple[int, int]:
    """Return the rows and columns of an image's square patches, from the size of the image and their number."""
    patch = round((input_size[0] * input_size[1] / patches) ** 0.5)
    return input_size[0] // patch, input_size[1] // patch


def select_spread(features: np.ndarray, count: int) -> np.ndarray:
    """Choose features that lie far apart: the next is always the one farthest from those already chosen.

    This is the greedy solution of the k-centre problem (Gonzalez, 1985), by which PatchCore (Roth et al., CVPR 2022)
    thins its memory.

    Args:
        features (`np.ndarray` of shape `(num_features, width)`): float32.
        count (`int`): Number of features to choose, at most `num_features`.

    Returns:
        `np.ndarray` of shape `(count,)`: their indices, ascending.
    """
    chosen = [int(((features - features.mean(0)) ** 2).sum(1).argmax())]
    norms = (features**2).sum(1)
    distances = np.full(len(features), np.inf, np.float32)
    while len(chosen) < count:
        last = features[chosen[-1]]
        np.minimum(distances, norms - 2 * (features @ last) + last @ last, out=distances)
        distances[chosen[-1]] = -np.inf
        chosen.append(int(distances.argmax()))
    return np.sort(chosen)


def like(array: Array, other: Array) -> Array:
    """Convert an array to the type and device of another."""
    if isinstance(other, np.ndarray):
        return to_array(array)
    import torch

    return (torch.from_numpy(array) if isinstance(array, np.ndarray) else array).to(other.device)


def to_float32(array: Array) -> Array:
    """Convert an array to float32; its type stays."""
    return array.astype(np.float32) if isinstance(array, np.ndarray) else array.float()


def _concatenate(arrays: list[Array]) -> Array:
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays)
    import torch

    return torch.cat(arrays)


__all__ = [
    *("PatchIndex", "grid_of", "like", "normalise", "principal_axes", "select_spread", "to_float32"),
    "typical_distance",
]
