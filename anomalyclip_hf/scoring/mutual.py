# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score the images of an unlabelled batch by comparing them with each other: what most images lack is anomalous.

This follows MuSc (Li et al., ICLR 2024). Patches are averaged over neighbourhoods of several sizes. The score of a
patch is its distance to the nearest patches in the images that are most similar to it. The score of an image is
averaged with those of the images whose class tokens are nearest.
"""

import hashlib
import logging
import math
import tempfile
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..image_processing_anomalyclip import to_array
from ..io.fingerprints import fingerprint
from ..postprocessing_anomalyclip import resize_map
from .backends import Backend, Outputs
from .evidence import ReferenceEvidence, add_evidence, image_distances
from .neighbours import grid_of, like, normalise, principal_axes, to_float32, typical_distance
from .opening import Detector
from .tiling import Tiling


NEIGHBOURHOODS = (1, 3, 5)  # patches along each side
NEAREST_SHARE = 0.3  # share of the other images that a patch is compared with, at least one
WINDOWS = (1, 2, 3)  # numbers of images over which scores are averaged, the scored one included
COMPONENTS = 64  # principal components of the features that are compared
VIEWS_FOR_AXES = 16  # views from which they are computed
BATCH_NOTE = "The images were compared with each other, so their scores depend on the batch."
BLOCK = 1 << 24  # similarities that are held at once, 64 MiB

logger = logging.getLogger(__name__)


class Scale(NamedTuple):
    """Identify features: those of one layer, averaged over one size of neighbourhood."""

    layer: int  # index among the layers
    side: int  # of the neighbourhood, in patches


class Axes(NamedTuple):
    """Hold the principal axes of the features of a scale, and the mean distance between two random patches."""

    mean: np.ndarray
    directions: np.ndarray
    typical: float


class ComparisonSet:
    """Hold the images that all images are compared with.

    Only `COMPONENTS` principal components of their patches stay in memory. Whole features are in a temporary file
    until [`ComparisonSet.finish`].

    Args:
        grid (`tuple[int, int]`): Rows and columns of the patches.
        radius (`int`, *optional*): Compare only patches at most this many rows and columns apart.
    """

    def __init__(self, grid: tuple[int, int], radius: int | None = None):
        self.grid, self.radius = grid, radius
        self.owners: list[int] = []  # number of the image of each view
        self.copies: dict[bytes, set[int]] = {}  # images with the same pixels
        self._own: list[set[int]] = []  # for each view, its image and the copies
        self.embeds: Any = []
        self.evidence: ReferenceEvidence | None = None  # of the finished set
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._shape: tuple[int, ...] = ()
        self._example: Any = None  # a feature, for the type and device of all
        self._axes: dict[Scale, Axes] = {}
        self._references: dict[Scale, tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self.owners)

    def add(self, owner: int, digest: bytes, features: Sequence[Any], embed: Any) -> None:
        """Add a view of an image; those of one image follow each other.

        Args:
            owner (`int`): Number of the image.
            digest (`bytes`): Digest of its pixels.
            features (sequence of arrays of shape `(num_patches, width)`): For each layer.
            embed (array of shape `(projection_dim,)`): Image embedding, L2-normalised.
        """
        self._example = features[0][:1]
        stacked = np.stack([to_array(normalise(layer)) for layer in features]).astype(np.float16)
        self._file.write(stacked.tobytes())
        self._shape = stacked.shape
        self.owners.append(owner)
        same = self.copies.setdefault(digest, set())
        same.add(owner)
        self._own.append(same)
        self.embeds.append(to_array(embed).astype(np.float32))

    def finish(self) -> None:
        """Prepare the comparison, and compare the images of the set with each other."""
        self._file.flush()
        features = np.memmap(self._file, np.float16, "r", shape=(len(self), *self._shape))
        self.embeds = np.stack(self.embeds)
        self.starts = np.unique(self.owners, return_index=True)[1]
        self.starts.sort()
        self.images = [self.owners[start] for start in self.starts]
        for scale in (Scale(layer, side) for layer in range(self._shape[0]) for side in NEIGHBOURHOODS):
            views = np.unique(np.linspace(0, len(self) - 1, min(len(self), VIEWS_FOR_AXES)).astype(int))
            sample = np.stack([self._average(features[view, scale.layer], scale.side) for view in views])
            sample = sample.reshape(-1, sample.shape[-1])
            mean, directions = principal_axes(sample)
            self._axes[scale] = Axes(mean, directions[:, -COMPONENTS:], typical_distance(sample))
            patches = np.stack([self._project(view[scale.layer], scale, least=2) for view in features])
            self._references[scale] = patches, (patches**2).sum(-1) / 2
        del features
        self._file.close()
        self.alone = np.full(len(self), np.nan, np.float32)  # NaN where nothing is left to compare with
        for view, own in enumerate(self._own):
            queries = {scale: like(arrays[0][view], self._example) for scale, arrays in self._references.items()}
            distances = self._distances(queries, own, least=2)
            if distances is not None:
                self.alone[view] = image_distances(distances[None])[0]
        compared = np.flatnonzero(~np.isnan(self.alone))
        if not len(compared):
            logger.warning(
                "The images are exact copies of each other; copies are not compared and get the text scores."
            )
        scores = [self.average_score(float(self.alone[v]), self.embeds[v], self._own[v]) for v in compared]
        self.evidence = ReferenceEvidence.from_held_out(scores)

    def distances(self, features: Sequence[Any], without: set[int]) -> np.ndarray | None:
        """Compute how far the patches of a view are from those of the most similar images of the set.

        Args:
            features (sequence of arrays of shape `(num_patches, width)`): For each layer.
            without (`set[int]`): Images to leave out: itself and its copies.

        Returns:
            `np.ndarray` of shape `(num_patches,)` or `None`: float32, where 1 is the mean distance of two random
            patches; `None` if no image is left.
        """
        normalised = [normalise(layer) for layer in features]
        return self._distances({scale: self._project(normalised[scale.layer], scale) for scale in self._axes}, without)

    def average_score(self, score: float, embed: np.ndarray, without: set[int]) -> float:
        """Average a score with those of the images whose embeddings are nearest, over windows of several sizes.

        Args:
            score (`float`): Distance of a view.
            embed (`np.ndarray` of shape `(projection_dim,)`): Its image embedding.
            without (`set[int]`): Images to leave out.
        """
        left_out = np.isin(self.owners, list(without)) | np.isnan(self.alone)
        similarities = np.where(left_out, -np.inf, self.embeds @ embed)
        nearest = np.argsort(-similarities)[: max(WINDOWS) - 1]
        nearest = nearest[similarities[nearest] > 0]
        weights = np.concatenate([[1.0], similarities[nearest]])
        scores = np.concatenate([[score], self.alone[nearest]])
        means = [np.average(scores[:count], weights=weights[:count]) for count in WINDOWS]
        return float(np.mean(means))

    def _average(self, features: Any, side: int, least: int = 1) -> Any:
        """Average features over neighbourhoods that overlap by half; border patches are repeated."""
        step, parts = max(least, (side + 1) // 2), to_float32(features).reshape(*self.grid, -1)
        offsets = np.arange(side) - side // 2
        for axis in (0, 1):
            length = parts.shape[axis]
            near = np.clip(np.arange(step // 2, length, step)[:, None] + offsets, 0, length - 1)
            parts = (parts[near] if axis == 0 else parts[:, near]).mean(axis + 1)
        return normalise(parts.reshape(-1, parts.shape[-1]))

    def _project(self, features: Any, scale: Scale, least: int = 1) -> Any:
        axes = self._axes[scale]
        averaged = self._average(features, scale.side, least)
        return (averaged - like(axes.mean, averaged)) @ like(axes.directions, averaged)

    def _distances(self, patches: dict[Scale, Any], without: set[int], least: int = 1) -> np.ndarray | None:
        others = ~np.isin(self.images, list(without))
        if not others.any():
            return None
        count = max(1, int(NEAREST_SHARE * others.sum()))
        grids = []
        for scale, queries in patches.items():
            step = max(least, (scale.side + 1) // 2)
            found = self._nearest(queries, scale, step)[:, others] / self._axes[scale].typical
            nearest = np.partition(found, count - 1, axis=1)[:, :count].mean(1)
            rows, columns = (len(range(step // 2, length, step)) for length in self.grid)
            grids.append(resize_map(nearest.reshape(rows, columns), self.grid))
        return np.mean(grids, axis=0).ravel()

    def _nearest(self, queries: Any, scale: Scale, step: int) -> np.ndarray:
        """Return the cosine distance of each query to the nearest patch of each image: (num_queries, num_images)."""
        references, half_norms = self._references[scale] = tuple(
            like(array, queries) for array in self._references[scale]
        )
        views, patches, width = references.shape
        penalty = None if self.radius is None else like(self._too_far(scale, step), queries)
        found = []
        rows = max(1, BLOCK // (views * patches))
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            # |a - b|^2 / 2 is one minus the cosine, and largest is ab - |b|^2 / 2 for the nearest b.
            closeness = (block @ references.reshape(-1, width).T).reshape(len(block), views, patches) - half_norms
            if penalty is not None:
                closeness = closeness + penalty[start : start + rows, None]
            best = closeness.max(-1) if isinstance(closeness, np.ndarray) else closeness.amax(-1)
            found.append(to_array((block**2).sum(-1)[:, None] / 2 - best))
        return np.minimum.reduceat(np.maximum(np.concatenate(found), 0), self.starts, axis=1)

    def _too_far(self, scale: Scale, step: int) -> np.ndarray:
        """Return -inf for patches that are not compared: (num_queries, num_patches)."""
        steps = (step, max(2, (scale.side + 1) // 2))
        places = [
            np.stack(np.meshgrid(*(np.arange(s // 2, length, s) for length in self.grid), indexing="ij"), -1)
            for s in steps
        ]
        ours, theirs = (place.reshape(-1, 2) for place in places)
        # Steps of two patches leave no neighbour within a smaller radius.
        far = np.abs(ours[:, None] - theirs).max(-1) > max(self.radius or 0, steps[1])
        return np.where(far, -np.inf, 0).astype(np.float32)


class MutualBackend:
    """Run a backend, and combine its scores and maps with the distances to other images of the batch.

    The text prompts and the comparison are combined as with references, see [`ReferenceEvidence`]. Normal distances
    are estimated from the batch, so scores depend on it.

    Args:
        base ([`Backend`]): Computes scores, maps and patch features in one pass.
        layers (`Sequence[int]`): Vision layers that are compared, counted from 1.
        most (`int`, *optional*, defaults to 200): Number of images, or tiles, that all are compared with.
        radius (`int`, *optional*): Compare only patches at most this many rows and columns apart, for objects that are
            always in the same place. Values below 2 count as 2.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, base: Backend, layers: Sequence[int], most: int = 200, radius: int | None = None):
        if most < 2:
            raise ValueError(f"mutual_references is {most}; expected 2 images or more.")
        if radius is not None and radius < 0:
            raise ValueError(f"mutual_radius is {radius}; expected a number of patches, 0 or more.")
        self.base, self.layers, self.most, self.radius = base, tuple(layers), most, radius
        self.name = f"mutual({base.name})"
        self.precision, self.input_size, self.map_maximum = base.precision, base.input_size, base.map_maximum
        self.comparison: ComparisonSet | None = None

    @cached_property
    def fingerprint(self) -> str:
        """See [`Backend`]; it does not depend on the images that are compared."""
        return fingerprint(self.base.fingerprint, "mutual", self.layers, self.most, self.radius)

    @property
    def is_full(self) -> bool:
        """Return whether `most` views were collected, of more than one image."""
        collected = self.comparison
        return collected is not None and len(collected) >= self.most and len(set(collected.owners)) > 1

    def collect(self, pixel_values: np.ndarray, owners: Sequence[int]) -> Outputs:
        """Add images to the set that all images are compared with.

        Args:
            pixel_values (`np.ndarray` of shape `(batch_size, 3, height, width)`): As for [`Backend.run`].
            owners (`Sequence[int]`): Number of the image of each view; views of one image follow each other.

        Returns:
            [`Outputs`]: those of `base`.
        """
        outputs = self.base.run(pixel_values, self.layers)
        if self.comparison is None:
            self.comparison = ComparisonSet(grid_of(self.input_size, outputs.patch_features[0].shape[1]), self.radius)
        for place, owner in enumerate(owners):
            features = [_on_host(layer[place]) for layer in outputs.patch_features]
            self.comparison.add(owner, _digest(pixel_values[place]), features, outputs.image_embeds[place])
        return outputs

    def finish(self, name: str) -> ComparisonSet | None:
        """Compare the collected images with each other, and return the set.

        Args:
            name (`str`): Name of the images, for the error.

        Returns:
            [`ComparisonSet`] or `None`: `None` if no image could be read.

        Raises:
            ValueError: If there is only one image.
        """
        if self.comparison is None:
            return None
        if len(set(self.comparison.owners)) < 2:
            raise ValueError(
                f"mutual scoring compares images with each other, and {name} has 1 that can be read; expected 2 or "
                "more."
            )
        self.comparison.finish()
        return self.comparison

    def run(self, pixel_values: np.ndarray, feature_layers: Sequence[int] = ()) -> Outputs:
        """See [`Backend.run`]; images must be collected before.

        Raises:
            ValueError: If no images were collected, or the set is not finished.
        """
        comparison = self.comparison
        if comparison is None or comparison.evidence is None:
            raise ValueError("there is nothing to compare with; collect images of the batch and finish the set first.")
        layers = [*feature_layers, *(layer for layer in self.layers if layer not in feature_layers)]
        outputs = self.base.run(pixel_values, layers)
        by_layer = dict(zip(layers, outputs.patch_features, strict=True))
        grids, scores = [], []
        for place, pixels in enumerate(pixel_values):
            own = comparison.copies.get(_digest(pixels), set())
            distances = comparison.distances([_on_host(by_layer[layer][place]) for layer in self.layers], own)
            if distances is None:
                distances = np.full(math.prod(comparison.grid), comparison.evidence.neutral, np.float32)
            embed = to_array(outputs.image_embeds[place])
            scores.append(comparison.average_score(float(image_distances(distances[None])[0]), embed, own))
            grids.append(distances.reshape(comparison.grid))
        found = comparison.evidence, np.array(scores), np.stack(grids)
        combined = add_evidence(outputs.image_scores, outputs.anomaly_maps, *found, self.map_maximum)
        features = tuple(by_layer[layer] for layer in feature_layers)
        return Outputs(*combined, features, outputs.image_embeds if feature_layers else None)


def open_mutual(
    detector: Detector, base: Backend, most: int = 200, radius: int | None = None, tiling: Tiling | None = None
) -> MutualBackend:
    """Return a backend that compares the layer at two thirds of the depth and the last, or those of an export.

    Args:
        detector ([`Detector`]): The model.
        base ([`Backend`]): Its backend, or a backend that wraps it.
        most (`int`, *optional*, defaults to 200): See [`MutualBackend`].
        radius (`int`, *optional*): See [`MutualBackend`].
        tiling ([`Tiling`], *optional*): How images are divided.

    Raises:
        ValueError: If an export gives no patch features, both a radius and tiles are given, or an argument is out of
            range.
    """
    if tiling is not None and radius is not None:
        raise ValueError(
            f"mutual_radius is {radius} and tile is {tiling.tile}; patches of different tiles are not in the same "
            "place. Give one of the two."
        )
    if detector.model is not None:
        count = detector.model.config.vision_config.num_hidden_layers
        return MutualBackend(base, sorted({max(1, round(2 * count / 3)), count}), most, radius)
    if not detector.exported_layers:
        raise ValueError(
            f"{detector.name} was exported without patch features, which mutual scoring needs; export it again with "
            "feature_layers (--feature-layer N)."
        )
    return MutualBackend(base, detector.exported_layers, most, radius)


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()


def _on_host(array: Any) -> Any:
    """Convert a tensor on the CPU to a NumPy array; other arrays are returned unchanged."""
    return array if isinstance(array, np.ndarray) or array.device.type != "cpu" else array.numpy()


__all__ = ["ComparisonSet", "MutualBackend", "open_mutual"]
