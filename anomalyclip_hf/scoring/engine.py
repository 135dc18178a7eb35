# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The one engine: reads images, runs a backend in batches, post-processes. Every command scores through it."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.samples import SampleReader
from ..image_processing_anomalyclip import check_value_range, is_image
from ..io.fingerprints import fingerprint
from ..io.read_ahead import read_ahead
from ..postprocessing_anomalyclip import (
    IMAGE_SCORES,
    LABELS,
    check_thresholds,
    combine_scores,
    finish_map,
    judge,
    precision_settings,
    thresholds_for,
)
from .backends import Backend
from .items import Item, View
from .mutual import ComparisonSet, MutualBackend, open_mutual
from .opening import open_detector
from .reference_backend import ReferenceBackend, open_references
from .results import AnomalyResult, scale_regions
from .thresholds import valid_calibration
from .tiling import Box, Tiling, resize_blended


if TYPE_CHECKING:  # an exported model is scored without PyTorch
    import torch

    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import AnomalyCLIPProcessor

RESOLUTIONS = ("model", "original")

logger = logging.getLogger(__name__)


class AnomalyScorer:
    """Score any number of images in bounded memory.

    Args:
        model ([`AnomalyCLIPModel`], `str` or `os.PathLike`, *optional*):
            Model, folder or Hub id of one, or an exported folder; by default the demonstration model, with a warning.
        processor ([`AnomalyCLIPProcessor`], *optional*):
            Defaults to the one stored beside the model; for a model in memory, to the one that fits its configuration.
        backend (`str` or [`Backend`], *optional*): `"torch"` (the default) or `"compile"`; for an exported model
            `"onnxruntime"` or `"openvino"`; or an object like [`Backend`].
        device (`str` or `torch.device`, *optional*): Defaults to the first accelerator, or the CPU; a model in memory
            stays where it is.
        dtype (`str` or `torch.dtype`, *optional*): Precision to compute in; defaults to that of the weights.
        batch_size (`int`, *optional*, defaults to 8): Images per forward pass.
        num_workers (`int`, *optional*): Threads that read and resize ahead of the model; defaults to one less than the
            processors, at least 1 and at most 8.
        resolution (`str`, *optional*, defaults to `"original"`): Size of the maps: each image's own; or `"model"`, the
            size at which the model sees the image, which with tiles is that of all tiles together.
        threshold (`float`, *optional*): Overrides that of the model's calibration, or of its processor.
        pixel_threshold (`float`, *optional*): Overrides that of the model's calibration, or of its processor.
        image_score (`str`, *optional*): `"paper"`, `"fusion"` or `"top1%"`, see `combine_scores`; overrides the
            processor's.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits; overrides the processor's.
        tile (`int`, *optional*): Score images also in tiles with so many pixels on their longer side, for defects that
            vanish when the whole image is resized; see [`Tiling`]. An image that fits into one tile has no others.
        overlap (`float`, *optional*, defaults to 0.25): Part of a tile, in [0, 1), that the next one shows too.
        references ([`ReferenceMemory`], `str`, `os.PathLike` or sequence, *optional*): Images that are known to be
            normal, to compare with: a memory, its folder, a folder with images, or images.
        mutual (`bool`, *optional*, defaults to `False`): Compare the images of a batch with each other: what most of
            them lack is anomalous. All images are given at once, and scores depend on which they are; see
            [`MutualBackend`].
        mutual_references (`int`, *optional*, defaults to 200): Number of images, picked at random, with which all are
            compared; tiles count as images.
        mutual_radius (`int`, *optional*): Compare only patches at most so many rows and columns apart, for things that
            always lie in the same place.

    Raises:
        OSError: If there is no such model, or a file of it is damaged.
        ValueError: If an argument is out of range, or processor and model do not fit.

    Example:
    ```python
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer

    >>> scorer = AnomalyScorer(DEFAULT_MODEL)
    >>> for result in scorer.score(["examples/images/corrugated_stained.png", "missing.png"]):
    ...     print(result.index, result.label, result.error)
    0 anomalous None
    1 None missing.png does not exist; expected an image file.

    ```
    """

    def __init__(
        self,
        model: "AnomalyCLIPModel | str | os.PathLike | None" = None,
        processor: "AnomalyCLIPProcessor | None" = None,
        *,
        backend: str | Backend | None = None,
        device: Any = None,
        dtype: Any = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        resolution: str = "original",
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        value_range: Any = None,
        tile: int | None = None,
        overlap: float = 0.25,
        image_score: str | None = None,
        references: Any = None,
        mutual: bool = False,
        mutual_references: int = 200,
        mutual_radius: int | None = None,
    ):
        if resolution not in RESOLUTIONS:
            raise ValueError(f"resolution is {resolution!r}; expected one of {', '.join(RESOLUTIONS)}.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more.")
        self.tiling = None if tile is None else Tiling(tile, overlap)
        opened = open_detector(model, processor, backend=backend, device=device, dtype=dtype, batch_size=batch_size)
        self.model, self.processor, self.name = opened.model, opened.processor, opened.name
        self.backend, self.preprocessing, self._runtime = opened.backend, opened.preprocessing, opened.backend.name
        stored = opened.settings
        self.map_maximum, self.smoothing_sigma = stored["map_maximum"], stored["smoothing_sigma"]
        check_thresholds(threshold, pixel_threshold, self.map_maximum)
        self.value_range = check_value_range(stored["value_range"] if value_range is None else value_range)
        self.references = None
        if references is not None:
            reading = {"batch_size": batch_size, "value_range": self.value_range}
            self.references = open_references(references, opened, tile, overlap, **reading)
            self.backend = ReferenceBackend(self.backend, self.references, tile, overlap)
        self.mutual = None
        if mutual:
            self.mutual = self.backend = open_mutual(
                opened, self.backend, mutual_references, mutual_radius, self.tiling
            )
        self.image_score = str(stored["image_score"] if image_score is None else image_score)
        if self.image_score not in IMAGE_SCORES:
            raise ValueError(f"image_score is {image_score!r}; expected one of {', '.join(IMAGE_SCORES)}.")
        given = {"threshold": threshold, "pixel_threshold": pixel_threshold}
        self.calibration = valid_calibration(stored, self.backend.fingerprint, self.score_settings, **given)
        used = {name: stored[name] if value is None else value for name, value in given.items()}
        used |= self.calibration or {}
        self.threshold, self.pixel_threshold = used["threshold"], used["pixel_threshold"]
        self.batch_size, self.resolution = batch_size, resolution
        self.num_workers = min(8, max(1, (os.cpu_count() or 1) - 1)) if num_workers is None else max(1, num_workers)

    def score(self, images: Iterable[Any], masks: Sequence[Any] | None = None) -> Iterator[AnomalyResult]:
        """Score images one after another.

        Args:
            images (`Iterable`): Paths, URLs, file objects, bytes, PIL images or arrays; or a dataset with a column
                `image`. Generators are read as they are needed.
            masks (`Sequence`, *optional*): Ground truth of each image, kept in `result.sample`; `None` for a normal
                image.

        Yields:
            [`AnomalyResult`]: one per image, in the order given; an image that cannot be read has an `error`.

        Raises:
            ValueError: If the model gives NaN, or images and masks differ in number.
        """
        if is_image(images):
            images = [images]
        if masks is not None:
            images = list(images)
            if len(masks) != len(images):
                raise ValueError(f"got {len(masks)} masks for {len(images)} images; give None for a normal image.")
            rows = zip(images, masks, strict=True)
            images = [{"image": image, "mask": mask, "label": int(mask is not None)} for image, mask in rows]
        if self.mutual is not None and not hasattr(images, "__getitem__"):
            images = list(images)  # all are needed before the first is scored
        if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
            yield from self.score_samples(SampleReader(images, value_range=self.value_range))
        else:  # a generator or stream
            yield from self._score(partial(self._read_one, index, image) for index, image in enumerate(images))

    def score_samples(
        self,
        reader: SampleReader,
        indices: Iterable[int] | None = None,
        keep_images: bool = False,
        image_side: int | None = None,
    ) -> Iterator[AnomalyResult]:
        """Score samples of a reader, with their ground truth.

        Args:
            reader ([`SampleReader`]): Opens images and masks.
            indices (`Iterable[int]`, *optional*): Places of the samples to score; defaults to all.
            keep_images (`bool`, *optional*, defaults to `False`): Keep each image in its result.
            image_side (`int`, *optional*): Longest side, in pixels, to which images that are kept are reduced.

        Yields:
            [`AnomalyResult`]: one per index, in order, with `sample`.

        Raises:
            ValueError: If the model gives NaN; names the images.
        """
        order = range(len(reader)) if indices is None else indices
        if reader.value_range is None:
            reader.value_range = self.value_range
        if self.mutual is None:
            yield from self._score(partial(self._read, reader, index, keep_images, image_side) for index in order)
            return
        compared: dict[str | None, ComparisonSet | None] = {}
        for category, members in groupby(order, key=reader.categories.__getitem__):
            if category not in compared:
                compared[category] = self._collect(self.mutual, reader, category)
            self.mutual.comparison = compared[category]
            yield from self._score(partial(self._read, reader, index, keep_images, image_side) for index in members)

    @property
    def score_settings(self) -> dict[str, Any]:
        """All that scores and maps depend on beside the model, ready for JSON; see `AnomalyCLIPProcessor`."""
        prepared = self.preprocessing
        added: dict[str, Any] = (
            {} if self.tiling is None else {"tile": self.tiling.tile, "overlap": self.tiling.overlap}
        )
        if self.references is not None:
            added["references"] = self.references.digest
        if self.mutual is not None:
            added |= {"mutual_references": self.mutual.most, "mutual_radius": self.mutual.radius}
        return {
            **precision_settings(self.backend.precision, self._runtime),
            "image_size": list(prepared.size),
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "scale": prepared.scale,
            "resample": prepared.resample,
            "value_range": self.value_range,
            "smoothing_sigma": self.smoothing_sigma,
            "image_score": self.image_score,
            **added,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """All that results depend on beside the weights, ready for JSON."""
        return {
            "threshold": self.threshold,
            "pixel_threshold": self.pixel_threshold,
            "smoothing_sigma": self.smoothing_sigma,
            "image_size": list(self.preprocessing.size),
            "resolution": self.resolution,
            "dtype": self.backend.precision,
            "value_range": self.value_range,
            "backend": self.backend.name,
            "tile": None if self.tiling is None else self.tiling.tile,
            "overlap": None if self.tiling is None else self.tiling.overlap,
            "mutual_references": None if self.mutual is None else self.mutual.most,
            "image_score": self.image_score,
            "calibration": self.calibration and f"{self.calibration['method']}, {self.calibration['date']}",
            "references": None if self.references is None else self.references.summary,
        }

    @property
    def gpu(self) -> "torch.device | None":
        """The GPU on which the model runs in PyTorch, if it does."""
        return self.model.device if self.model is not None and self.model.device.type == "cuda" else None

    @cached_property
    def score_key(self) -> str:
        """A digest of all that scores and maps depend on: weights, precision and preprocessing, but no thresholds."""
        return fingerprint(self.backend.fingerprint, sorted(self.score_settings.items()))

    def _views(self, size: tuple[int, int]) -> list[Box]:
        whole = (0, 0, size[1], size[0])
        return [whole] if self.tiling is None else self.tiling.views(size, self.preprocessing.size)

    def _cut(self, image: Image.Image, view: Box) -> np.ndarray:
        is_whole = view == (0, 0, *image.size)
        return self.preprocessing(image if is_whole else image.crop(view))

    def _score(self, tasks: Iterator[Callable[[], Item]]) -> Iterator[AnomalyResult]:
        """Score images; results keep the order of the tasks."""
        waiting: deque[Item] = deque()  # not finished, or behind one that is not
        runs = (partial(self._run, batch) for batch in self._batches(tasks, waiting))
        # A GPU computes the next batch while this one is finished; a CPU has no processor to spare for that.
        scored = read_ahead(runs, 1, 2, cost=lambda _: 1) if self.gpu is not None else (run() for run in runs)
        for batch in scored:
            for view, score, anomaly_map in batch:
                view.item.add(view.number, score, anomaly_map)
            while waiting and waiting[0].is_finished:
                item = waiting.popleft()
                yield AnomalyResult(item.index, item.source, error=item.error) if item.error else self._finish(item)

    def _batches(self, tasks: Iterator[Callable[[], Item]], read: deque[Item]) -> Iterator[list[View]]:
        """Form batches of views across images; adds all images to `read`, those that cannot be read too."""
        batch: list[View] = []
        for item in read_ahead(tasks, self.num_workers, 2 * self.batch_size, cost=lambda item: item.pixels):
            read.append(item)
            for number, pixel_values in enumerate(self._pixels(item)):
                batch.append(View(item, number, pixel_values))
                if len(batch) >= self.batch_size:
                    yield batch
                    batch = []
        yield batch

    def _collect(self, mutual: MutualBackend, reader: SampleReader, category: str | None) -> ComparisonSet | None:
        """Collect a sample of the images of a category, with which all of them are compared."""
        members = [index for index, other in enumerate(reader.categories) if other == category]
        sample = np.random.default_rng(0).permutation(members)
        tasks = (partial(self._read, reader, int(index)) for index in sample)
        mutual.comparison = None
        for batch in self._batches(tasks, deque(maxlen=0)):  # what was read is not kept
            self._run(batch, collect=True)
            if mutual.is_full:
                break
        return mutual.finish(category or "the batch")

    def _pixels(self, item: Item) -> Iterator[np.ndarray]:
        """Return the pixels of each view: prepared when it was read, or cut out as they are needed."""
        if item.pixel_values is not None:
            yield item.pixel_values
        elif item.image is not None:
            tasks = (partial(self._cut, item.image, view) for view in item.views)
            yield from read_ahead(tasks, self.num_workers, 2 * self.batch_size, cost=np.size)
            item.image = None

    def _read(self, reader: SampleReader, index: int, keep_image: bool = False, image_side: int | None = None) -> Item:
        try:
            sample = reader.read(index)
            size = (sample.image.height, sample.image.width)
            views = self._views(size)
            pixel_values = self.preprocessing(sample.image) if len(views) == 1 else None
        except (OSError, ValueError, MemoryError) as error:
            name, problem = reader.name(index), " ".join(str(error).split())
            is_too_large = isinstance(error, MemoryError)
            return Item(index, name, error=f"{name} does not fit into memory." if is_too_large else problem)
        item = Item(index, sample.source, size, sample, views, pixel_values)
        if pixel_values is None:  # its tiles are cut out of it
            item.image = sample.image
        if not keep_image:
            sample.image = None  # type: ignore[assignment]
        elif image_side is not None and max(size) > image_side:
            if item.image is not None:
                sample.image = sample.image.copy()
            sample.image.thumbnail((image_side, image_side))
        return item

    def _read_one(self, index: int, image: Any) -> Item:
        item = self._read(SampleReader([image], value_range=self.value_range, start=index), 0)
        item.index = index
        return item

    def _run(self, views: list[View], collect: bool = False) -> list[tuple[View, float, np.ndarray]]:
        """Return score and map of each view; where the device has too little memory, in halves, also from then on."""
        if not views:
            return []
        pixel_values, outputs = np.stack([view.pixel_values for view in views]), None
        try:
            if collect and self.mutual is not None:
                outputs = self.mutual.collect(pixel_values, [view.item.index for view in views])
            else:
                outputs = self.backend.run(pixel_values)
        except MemoryError:
            if len(views) == 1:
                raise
        if outputs is None:  # after the handler, since the error holds on to what the pass has allocated
            half = self.batch_size = len(views) // 2
            logger.warning("The device is out of memory; going on with batches of %d.", half)
            return self._run(views[:half], collect) + self._run(views[half:], collect)
        if not (np.isfinite(outputs.image_scores).all() and np.isfinite(outputs.anomaly_maps).all()):
            which = f"{views[0].item.source} to {views[-1].item.source}"
            raise ValueError(f"{which}: the model gave NaN or infinite scores; check the images and the weights.")
        return list(zip(views, outputs.image_scores.tolist(), outputs.anomaly_maps, strict=True))

    def _map_size(self, item: Item) -> tuple[int, int]:
        return item.size if self.resolution == "original" else self._model_size(item)  # type: ignore[return-value]

    def _model_size(self, item: Item) -> tuple[int, int]:
        if self.tiling is None or len(item.views) == 1:
            return self.preprocessing.size
        return self.tiling.map_size(item.size, self.preprocessing.size)  # type: ignore[arg-type]

    def _finish(self, item: Item) -> AnomalyResult:
        """Apply the thresholds, at the resolution that was asked for."""
        score, anomaly_map = item.merge(self._map_size(item))
        category = None if item.sample is None else item.sample.category
        used: Any = {"threshold": self.threshold, "pixel_threshold": self.pixel_threshold}
        if self.calibration is not None and self.calibration["categories"]:
            used = thresholds_for(self.calibration, category)
        scored = anomaly_map
        if self.image_score != "paper" and item.merger is not None:  # the score is the same at any resolution
            scored = resize_blended(anomaly_map, self._model_size(item))
        (score,) = combine_scores(np.array([score]), scored[None], self.map_maximum, self.image_score)
        finished = finish_map(anomaly_map, self._map_size(item), used["pixel_threshold"])
        if finished["regions"]:
            regions, found_at = finished["regions"], finished["anomaly_map"].shape
            finished["regions"] = scale_regions(regions, found_at, item.size)  # type: ignore[arg-type]
        if self.calibration is not None:
            finished |= zip(("p_value", "decision"), judge(float(score), self.calibration, category), strict=True)
        label = LABELS[bool(score >= used["threshold"])]
        return AnomalyResult(item.index, item.source, item.size, float(score), label, **finished, sample=item.sample)


__all__ = ["AnomalyResult", "AnomalyScorer"]
