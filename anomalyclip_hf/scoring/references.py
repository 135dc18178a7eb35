# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compare images with normal reference images, and combine the result with the text prompts."""

import json
import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..data.samples import SampleReader
from ..io.atomic import atomic_write
from ..io.fingerprints import fingerprint
from .backends import Backend
from .evidence import ReferenceEvidence, add_evidence, image_distances
from .neighbours import PatchIndex, grid_of, normalise, select_spread, typical_distance
from .opening import Detector, open_detector
from .reference_images import (
    ReferenceFeatures,
    check_arguments,
    default_layers,
    image_digest,
    read_features,
)
from .tiling import Tiling


FILE_NAME = "references.safetensors"
METADATA_KEY = "anomalyclip_references"
MOST_HELD_OUT = 32  # references that are compared with all others; more would only cost time
FEWEST_TO_JUDGE = 4  # references that are needed to call one of them unlike the others
UNLIKE = 5.0  # a reference this many median absolute deviations above the median is unlike the others

logger = logging.getLogger(__name__)


@dataclass
class ReferenceSettings:
    """Hold the settings of a memory, which are stored as JSON beside its features.

    Args:
        fingerprint (`str`): Digest of the model whose features these are.
        input_size (`list[int]`): Height and width of the model's input, in pixels.
        grid (`list[int]`): Rows and columns of the patches.
        layers (`list[int]`): Vision layers that are compared, counted from 1.
        digests (`list[str]`): [`image_digest`] of each reference.
        typical (`list[float]`): For each layer, the mean distance between two patches picked at random.
        held_out (`list[float]`): Distance of references from all others; see [`ReferenceEvidence`].
        radius (`int`, *optional*): Largest distance between compared patches, in rows and columns.
        coreset (`int`, *optional*): Number of patches that were kept.
        tile (`int`, *optional*): Longer side of the tiles that images were divided into, in pixels.
        overlap (`float`): Overlap of the tiles.
    """

    fingerprint: str
    input_size: list[int]
    grid: list[int]
    layers: list[int]
    digests: list[str]
    typical: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    radius: int | None = None
    coreset: int | None = None
    tile: int | None = None
    overlap: float = 0.25


class ReferenceMemory:
    """Store the patch features of normal images, and compute how far new patches are from them.

    Create it with [`ReferenceMemory.from_images`] or [`ReferenceMemory.from_pretrained`]. As in PatchCore (Roth et
    al., CVPR 2022) and WinCLIP (Jeong et al., CVPR 2023), the distance of a patch is one minus the largest cosine
    similarity to a stored patch. It is averaged over the layers, each in units of its typical distance.

    Args:
        features (`Sequence[np.ndarray]` of shape `(num_views, num_patches, width)`): For each layer, L2-normalised.
        settings ([`ReferenceSettings`]): Settings of the memory.

    Example:
    ```python
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer, ReferenceMemory

    >>> memory = ReferenceMemory.from_images(DEFAULT_MODEL, None, ["examples/images/corrugated.png"])
    >>> len(memory), memory.settings.layers
    (1, [3])
    >>> scorer = AnomalyScorer(DEFAULT_MODEL, references=memory)
    >>> good, stained = scorer.score(["examples/images/corrugated.png", "examples/images/corrugated_stained.png"])
    >>> good.score < stained.score
    True

    ```
    """

    def __init__(self, features: Sequence[np.ndarray], settings: ReferenceSettings):
        self.settings = settings
        self._checked: Any = None
        self._indices = [PatchIndex(layer) for layer in features]
        self.evidence = ReferenceEvidence.from_held_out(settings.held_out)

    def __len__(self) -> int:
        return len(self.settings.digests)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that distances depend on."""
        return fingerprint(json.dumps(asdict(self.settings)))

    def has(self, image: Image.Image | None) -> bool:
        """Return whether an image, in mode RGB, is one of the references."""
        return image is not None and image_digest(image) in self.settings.digests

    @property
    def summary(self) -> dict[str, Any]:
        """The description of the references in results, ready for JSON."""
        names = ("layers", "radius", "coreset", "tile")
        return {
            "images": len(self),
            **{name: getattr(self.settings, name) for name in names},
            "weight": round(self.evidence.weight, 4),
            "digest": self.digest,
        }

    @classmethod
    def from_images(
        cls,
        model: Any,
        processor: Any,
        images: Any,
        layers: Sequence[int] | None = None,
        coreset: int | float | None = None,
        radius: int | None = None,
        *,
        tile: int | None = None,
        overlap: float = 0.25,
        batch_size: int = 8,
        device: Any = None,
        value_range: Any = None,
    ) -> "ReferenceMemory":
        """Build a memory from normal images, with one forward pass per image.

        Args:
            model ([`AnomalyCLIPModel`], `str`, `os.PathLike` or [`Detector`]): Model, folder (of an export too) or Hub
                id.
            processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one stored beside the model.
            images (sequence): Paths, PIL images or arrays, or a dataset with a column `image`. One is enough; four or
                more show how much normal images differ. Images that cannot be read, and repeated images, are skipped
                with a warning.
            layers (`Sequence[int]`, *optional*): Vision layers, counted from 1; defaults to the middle one, or to
                those that an export gives.
            coreset (`int` or `float`, *optional*): Number of patches to keep, or their share if below 1. The patches
                that lie farthest apart are kept. This bounds the cost for thousands of images.
            radius (`int`, *optional*): Compare only patches at most this many rows and columns apart, for objects that
                are always in the same place.
            tile (`int`, *optional*): Longer side of the tiles that images are divided into, in pixels; use the same
                when images are scored.
            overlap (`float`, *optional*, defaults to 0.25): Overlap of the tiles.
            batch_size (`int`, *optional*, defaults to 8): Images per forward pass.
            device (`str` or `torch.device`, *optional*): Defaults to the first accelerator, or the CPU.
            value_range (`tuple[float, float]` or `"auto"`, *optional*): See [`AnomalyScorer`].

        Returns:
            [`ReferenceMemory`]

        Raises:
            OSError: If there is no such model.
            ValueError: If there is no readable image, the model gives NaN, or an argument is out of range.
        """
        detector = model if isinstance(model, Detector) else open_detector(model, processor, device=device)
        tiling = None if tile is None else Tiling(tile, overlap)
        layers = list(layers) if layers else default_layers(detector)
        check_arguments(coreset, radius, tiling)
        reader = SampleReader(images, value_range=value_range or detector.settings.get("value_range"))
        found, backend = read_features(reader, detector, layers, tiling, batch_size), detector.backend
        settings = ReferenceSettings(
            fingerprint=backend.fingerprint,
            input_size=list(backend.input_size),
            grid=list(grid_of(backend.input_size, found.layers[0].shape[1])),
            layers=layers,
            digests=found.digests,
            typical=[typical_distance(layer) for layer in found.layers],
            radius=radius,
            tile=tile,
            overlap=overlap,
        )
        memory = cls(found.layers, settings)
        memory._hold_out(found)
        return memory._thin_out(found.layers, coreset)

    def distances(self, patch_features: Sequence[Any], without: slice | None = None) -> np.ndarray:
        """Compute how far the patches of images are from the nearest stored ones.

        Args:
            patch_features (sequence of arrays of shape `(batch_size, num_patches, width)`): One per layer of
                `settings.layers`, as [`~AnomalyCLIPModel.get_patch_features`] returns them. NumPy arrays, or tensors
                on any device; the comparison runs there.
            without (`slice`, *optional*): Stored views to leave out.

        Returns:
            `np.ndarray` of shape `(batch_size, num_patches)`: float32, averaged over layers. 1 is the mean distance of
            two random patches of the references.
        """
        rows, columns = self.settings.grid
        total = []
        for image in range(len(patch_features[0])):
            layers = [
                index.distances(normalise(features[image]), without, self.settings.radius, (rows, columns)) / typical
                for index, features, typical in zip(self._indices, patch_features, self.settings.typical, strict=True)
            ]
            mean = sum(layers) / len(layers)
            total.append(mean if isinstance(mean, np.ndarray) else mean.cpu().numpy())
        return np.stack(total)

    def combine(
        self, image_scores: np.ndarray, anomaly_maps: np.ndarray, patch_features: Sequence[Any], map_maximum: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Combine the scores and maps of the text prompts with the evidence of the references.

        Args:
            image_scores (`np.ndarray` of shape `(batch_size,)`): Probability of abnormal.
            anomaly_maps (`np.ndarray` of shape `(batch_size, height, width)`): Smoothed.
            patch_features (sequence of arrays of shape `(batch_size, num_patches, width)`): See `distances`.
            map_maximum (`float`): Largest value that a map can have.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: scores and maps, in the same ranges.
        """
        distances = self.distances(patch_features)
        grids = distances.reshape(-1, *self.settings.grid)
        found = self.evidence, image_distances(distances), grids
        return add_evidence(image_scores, anomaly_maps, *found, map_maximum)

    def check_backend(self, backend: Backend, tile: int | None = None, overlap: float = 0.25) -> None:
        """Check that the memory fits a backend.

        Raises:
            ValueError: If the memory is of another model, input size or tiles.
        """
        settings = self.settings
        if list(backend.input_size) != settings.input_size:
            raise ValueError(
                f"the references were stored at {settings.input_size[0]}x{settings.input_size[1]} px; the model takes "
                f"{backend.input_size[0]}x{backend.input_size[1]}; build the memory again with this model."
            )
        if backend.fingerprint != settings.fingerprint:
            raise ValueError(
                f"the references are of the model {settings.fingerprint:.12}… and not of this one, "
                f"{backend.fingerprint:.12}…; build the memory again with this model and dtype."
            )
        if (tile, tile and overlap) != (settings.tile, settings.tile and settings.overlap):
            raise ValueError(
                f"the references were stored with tile={settings.tile} and images are scored with tile={tile}; "
                "use the same tiles for both."
            )

    def check_model(self, model: Any) -> None:
        """Check that the memory fits an [`AnomalyCLIPModel`]; see `check_backend`."""
        if self._checked is None or self._checked() is not model:
            from .torch_backends import TorchBackend

            self.check_backend(TorchBackend(model))
            self._checked = weakref.ref(model)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the memory into a folder, as `references.safetensors`.

        Args:
            folder (`str` or `os.PathLike`): Folder; created if missing.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        tensors = {
            f"layer_{layer}": np.ascontiguousarray(index.features)
            for layer, index in zip(self.settings.layers, self._indices, strict=True)
        }
        with atomic_write(Path(folder, FILE_NAME)) as path:
            save_file(tensors, path, {METADATA_KEY: json.dumps(asdict(self.settings))})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> "ReferenceMemory":
        """Load a memory from a folder, or from the file itself.

        Args:
            folder (`str` or `os.PathLike`): Folder that `save_pretrained` has written, or the file in it.

        Raises:
            OSError: If there is no memory, or it is damaged.
        """
        path = Path(folder)
        path = path / FILE_NAME if path.is_dir() else path
        try:
            with safe_open(path, framework="numpy") as file:
                settings = ReferenceSettings(**json.loads((file.metadata() or {})[METADATA_KEY]))
                features = [file.get_tensor(f"layer_{layer}") for layer in settings.layers]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} does not exist; expected a memory from save_pretrained.") from error
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise OSError(f"{path} is not a memory of references, or is damaged ({error}); build it again.") from error
        if len(settings.typical) != len(features) or not all(np.isfinite(layer).all() for layer in features):
            raise OSError(f"{path} is damaged: it holds NaN or lacks a layer; build it again.")
        return cls(features, settings)

    def _hold_out(self, found: ReferenceFeatures) -> None:
        """Compare each reference with all others, and warn about those that are unlike them."""
        count = len(found.names)
        if count == 1:
            return
        chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_HELD_OUT)).astype(int))
        for number in chosen:
            start, stop = np.searchsorted(found.owners, [number, number + 1])
            own = slice(int(start), int(stop))
            queries = [layer[own].astype(np.float32) for layer in found.layers]
            distances = image_distances(self.distances(queries, without=own))
            self.settings.held_out.append(float(distances.max()))
        held_out = np.array(self.settings.held_out)
        self.evidence = ReferenceEvidence.from_held_out(self.settings.held_out)
        middle = np.median(held_out)
        limit = max(middle + UNLIKE * np.median(np.abs(held_out - middle)), 1.5 * middle)
        for number, distance in zip(chosen, held_out, strict=True):
            if count >= FEWEST_TO_JUDGE and distance > limit:
                logger.warning(
                    "%s is unlike the other references (distance %.2f, median %.2f); check that it is normal.",
                    found.names[number], distance, middle,
                )  # fmt: skip
        if not self.evidence.weight:
            logger.warning(
                "The references differ so much from each other that they are not used; scores are those of the text."
            )

    def _thin_out(self, features: Sequence[np.ndarray], coreset: int | float | None) -> "ReferenceMemory":
        """Keep the patches that lie farthest apart in the principal components of all layers."""
        if coreset is None:
            return self
        patches = features[0].shape[0] * features[0].shape[1]
        count = round(coreset * patches) if coreset < 1 else int(coreset)
        if count >= patches:
            return self
        components = [
            index.projected[:, -16:] / typical**0.5
            for index, typical in zip(self._indices, self.settings.typical, strict=True)
        ]
        kept = select_spread(np.concatenate(components, 1), max(1, count))
        self.settings.coreset = len(kept)
        return type(self)([layer.reshape(patches, -1)[kept][None] for layer in features], self.settings)


__all__ = ["FILE_NAME", "ReferenceMemory", "ReferenceSettings"]
