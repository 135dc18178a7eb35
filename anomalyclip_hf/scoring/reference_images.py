# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read reference images and compute their patch features."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image

from ..data.samples import SampleReader
from ..io.fingerprints import fingerprint
from ..io.read_ahead import read_ahead
from .backends import Backend
from .neighbours import normalise
from .opening import Detector
from .tiling import Tiling


logger = logging.getLogger(__name__)


@dataclass
class ReferenceFeatures:
    """Hold the features of references.

    Args:
        layers (`list[np.ndarray]` of shape `(num_views, num_patches, width)`): float16, L2-normalised; a view is an
            image or a tile of it.
        owners (`list[int]`): Number of the image of each view, ascending.
        names (`list[str]`): Names of the images.
        digests (`list[str]`): [`image_digest`] of the images.
    """

    layers: list[np.ndarray] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)


def read_features(
    reader: SampleReader, detector: Detector, layers: Sequence[int], tiling: Tiling | None, batch_size: int
) -> ReferenceFeatures:
    """Compute the features of all images that can be read; repeated images are used once.

    Args:
        reader ([`SampleReader`]): Opens the images.
        detector ([`Detector`]): The model.
        layers (`Sequence[int]`): Vision layers, counted from 1.
        tiling ([`Tiling`], *optional*): Divides images into views.
        batch_size (`int`): Views per forward pass.

    Raises:
        ValueError: If no image can be read, or the model gives NaN for one.
    """
    found = ReferenceFeatures()
    parts: list[list[np.ndarray]] = [[] for _ in layers]
    batch: list[np.ndarray] = []

    def flush() -> None:
        names = [found.names[owner] for owner in found.owners[-len(batch) :]]
        for part, features in zip(parts, _run(detector.backend, np.stack(batch), layers, names), strict=True):
            part.append(features)
        batch.clear()

    for name, digest, views in _read_views(reader, detector, tiling):
        found.names.append(name)
        found.digests.append(digest)
        for view in views:
            batch.append(view)
            found.owners.append(len(found.names) - 1)
            if len(batch) == batch_size:
                flush()
    if not found.names:
        raise ValueError("there is no reference image that can be read; expected at least one.")
    if batch:
        flush()
    found.layers = [np.concatenate(part) for part in parts]
    return found


def _run(
    backend: Backend, pixel_values: np.ndarray, layers: Sequence[int], names: Sequence[str]
) -> Iterator[np.ndarray]:
    """Yield the normalised features of each layer: (num_views, num_patches, width), float16."""
    for features in backend.run(pixel_values, layers).patch_features:
        values = features if isinstance(features, np.ndarray) else features.float().cpu().numpy()
        for name, image in zip(names, values, strict=True):
            if not np.isfinite(image).all():
                raise ValueError(f"the model gives NaN for the reference {name}; check its pixels and the weights.")
        yield normalise(values).astype(np.float16)


def default_layers(detector: Detector) -> list[int]:
    """Return the middle layer, or the layers that an export gives."""
    if detector.model is not None:
        return [max(1, detector.model.config.vision_config.num_hidden_layers // 2)]
    if not detector.exported_layers:
        raise ValueError(
            "this export gives no patch features, which references need; export the model with --feature-layer N, "
            "where N is half the number of vision layers (12 of 24)."
        )
    return detector.exported_layers


def image_digest(image: Image.Image) -> str:
    """Compute a digest of the pixels of an image, whatever the format of its file."""
    return fingerprint(image.size, image.tobytes())


def check_arguments(coreset: int | float | None, radius: int | None, tiling: Tiling | None) -> None:
    """Check the arguments of [`ReferenceMemory.from_images`].

    Raises:
        ValueError: If an argument is out of range, or a radius is combined with a coreset or tiles.
    """
    if coreset is not None and (isinstance(coreset, bool) or not coreset > 0):
        raise ValueError(f"coreset is {coreset!r}; expected a number of patches, or their share between 0 and 1.")
    if radius is None:
        return
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise ValueError(f"radius is {radius!r}; expected a whole number of patches, 0 or more.")
    if coreset is not None or tiling is not None:
        raise ValueError("radius needs all patches of whole images; give it without coreset and tile.")


def _read_views(
    reader: SampleReader, detector: Detector, tiling: Tiling | None
) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    """Yield name, digest and prepared pixels of each image; unreadable and repeated ones are skipped."""
    seen: dict[str, str] = {}
    tasks = (partial(_read_one, reader, index, detector, tiling) for index in range(len(reader)))
    for name, digest, pixels, problem in read_ahead(tasks, min(4, os.cpu_count() or 1), 8, cost=_cost):
        if problem is not None:
            logger.warning("Skipped a reference: %s", problem)
        elif digest in seen:
            logger.warning("Skipped the reference %s: it is the same image as %s.", name, seen[digest])
        else:
            seen[digest] = name
            yield name, digest, pixels


def _read_one(
    reader: SampleReader, index: int, detector: Detector, tiling: Tiling | None
) -> tuple[str, str, list[np.ndarray], str | None]:
    try:
        image = reader.read(index).image
    except (OSError, ValueError) as error:
        return reader.name(index), "", [], " ".join(str(error).split())
    size = (image.height, image.width)
    boxes = [None] if tiling is None else tiling.views(size, detector.backend.input_size)
    pixels = [detector.preprocessing(image if box is None else image.crop(box)) for box in boxes]
    return reader.name(index), image_digest(image), pixels, None


def _cost(found: tuple[str, str, list[np.ndarray], str | None]) -> int:
    return max(1, sum(pixels.size for pixels in found[2]))


__all__ = ["ReferenceFeatures", "check_arguments", "default_layers", "image_digest", "read_features"]
