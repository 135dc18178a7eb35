# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Run a backend together with a memory of normal references."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .backends import Backend, Outputs
from .inputs import find_images
from .opening import Detector
from .references import FILE_NAME, ReferenceMemory


class ReferenceBackend:
    """Run a backend and combine its scores and maps with the distances to a memory of references.

    The log-odds of the text prompts and of the distance are added, see [`ReferenceEvidence`]. Scores stay in [0, 1]
    and maps below their maximum.

    Args:
        base ([`Backend`]): Computes scores, maps and patch features in one pass.
        memory ([`ReferenceMemory`]): References of the same model.
        tile (`int`, *optional*): Longer side of the tiles that images are divided into, in pixels.
        overlap (`float`, *optional*, defaults to 0.25): Overlap of the tiles.

    Raises:
        ValueError: If the memory is of another model, input size or tiles.
    """

    def __init__(self, base: Backend, memory: ReferenceMemory, tile: int | None = None, overlap: float = 0.25):
        memory.check_backend(base, tile, overlap)
        self.base, self.memory = base, memory
        self.name = f"references({base.name})"
        self.precision, self.input_size, self.map_maximum = base.precision, base.input_size, base.map_maximum

    @property
    def fingerprint(self) -> str:
        """See [`Backend`]; it does not depend on the references."""
        return self.base.fingerprint

    def run(self, pixel_values: np.ndarray, feature_layers: Sequence[int] = ()) -> Outputs:
        """See [`Backend.run`]."""
        asked, own = list(feature_layers), self.memory.settings.layers
        layers = [*asked, *(layer for layer in own if layer not in asked)]
        outputs = self.base.run(pixel_values, layers)
        by_layer = dict(zip(layers, outputs.patch_features, strict=True))
        scores, maps = self.memory.combine(
            outputs.image_scores, outputs.anomaly_maps, [by_layer[layer] for layer in own], self.map_maximum
        )
        features = tuple(by_layer[layer] for layer in asked)
        return Outputs(scores, maps, features, outputs.image_embeds if asked else None)


def open_references(
    references: Any, detector: Detector, tile: int | None = None, overlap: float = 0.25, **settings: Any
) -> ReferenceMemory:
    """Return a memory: the given one, one loaded from a folder, or one built from images.

    Args:
        references ([`ReferenceMemory`], `str`, `os.PathLike` or sequence): Memory, folder with
            `references.safetensors`, folder with images, or images.
        detector ([`Detector`]): The model.
        tile (`int`, *optional*): See [`ReferenceMemory.from_images`].
        overlap (`float`, *optional*, defaults to 0.25): Overlap of the tiles.
        **settings: Further arguments of [`ReferenceMemory.from_images`].

    Raises:
        OSError: If there is no such folder.
        ValueError: If the folder holds no image, or none can be read.
    """
    if isinstance(references, ReferenceMemory):
        return references
    if isinstance(references, str | os.PathLike):
        path = Path(references)
        if path.name == FILE_NAME or (path / FILE_NAME).is_file():
            return ReferenceMemory.from_pretrained(path)
        references = _images_in(path)
    return ReferenceMemory.from_images(detector, None, references, tile=tile, overlap=overlap, **settings)


def _images_in(path: Path) -> list[str]:
    images, problems = find_images([str(path)])
    if problems:
        raise FileNotFoundError(f"references: {next(iter(problems.values()))}")
    return [image.source for image in images]


__all__ = ["ReferenceBackend", "open_references"]
