# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The one engine: reads images, runs a backend in batches, post-processes. Every command scores through it."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from ..assets import DEFAULT_MODEL
from ..data.samples import Sample, SampleReader
from ..image_processing_anomalyclip import ImageSource, check_value_range
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .backends import Backend, CompiledBackend, TorchBackend


BACKENDS = ("torch", "compile")
RESOLUTIONS = ("model", "original")
MAX_PIXELS_IN_FLIGHT = 50_000_000  # read and not yet scored

logger = logging.get_logger(__name__)


@dataclass
class AnomalyResult:
    """Hold the result of one image.

    Args:
        index (`int`): Place among the images that were given.
        source (`str`): Name of the image: its path, or `"image 3"`.
        size (`tuple[int, int]`, *optional*): Height and width of the upright image, in pixels.
        score (`float`, *optional*): Probability of abnormal, in [0, 1].
        label (`str`, *optional*): `"normal"` or `"anomalous"`.
        anomaly_map (`np.ndarray` of shape `(height, width)`, *optional*):
            float32, from 0 to the number of selected layers; at the image's size, or at the model's.
        mask (`np.ndarray` of shape `(height, width)`, *optional*): bool; `None` without a pixel threshold.
        regions (`list[dict]`, *optional*): See [`find_regions`]; `None` without a pixel threshold.
        error (`str`, *optional*): Why the image could not be read, in one line; then all but `index` and `source` is
            `None`.
        sample ([`Sample`], *optional*): Label, mask and category, where the dataset has them.
    """

    index: int
    source: str
    size: tuple[int, int] | None = None
    score: float | None = None
    label: str | None = None
    anomaly_map: np.ndarray | None = None
    mask: np.ndarray | None = None
    regions: list[dict[str, Any]] | None = None
    error: str | None = None
    sample: Sample | None = None

    @property
    def image(self) -> Image.Image | None:
        """The upright RGB image, where it was asked to be kept."""
        return None if self.sample is None else self.sample.image


class AnomalyScorer:
    """Score any number of images in bounded memory.

    Args:
        model ([`AnomalyCLIPModel`], `str` or `os.PathLike`, *optional*):
            Model, or folder or Hub id of one; defaults to the demonstration model, with a warning.
        processor ([`AnomalyCLIPProcessor`], *optional*):
            Defaults to the one stored beside the model; for a model in memory, to the one that fits its configuration.
        backend (`str` or [`Backend`], *optional*): `"torch"`, the default; `"compile"`, which compiles the model
            first; or any object with a method `run` like [`Backend`]'s.
        device (`str` or `torch.device`, *optional*): Defaults to the first accelerator, or the CPU; a model in memory
            stays where it is.
        dtype (`str` or `torch.dtype`, *optional*): Precision to compute in; defaults to that of the weights.
        batch_size (`int`, *optional*, defaults to 8): Images per forward pass.
        num_workers (`int`, *optional*): Threads that read and resize ahead of the model; defaults to one less than the
            processors, at least 1 and at most 8.
        resolution (`str`, *optional*, defaults to `"original"`): Size of the maps: each image's own, or `"model"`.
        threshold (`float`, *optional*): Overrides the processor's.
        pixel_threshold (`float`, *optional*): Overrides the processor's.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits; overrides the processor's.

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
        model: AnomalyCLIPModel | str | os.PathLike | None = None,
        processor: AnomalyCLIPProcessor | None = None,
        *,
        backend: str | Backend | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        resolution: str = "original",
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        value_range: Any = None,
    ):
        if resolution not in RESOLUTIONS:
            raise ValueError(f"resolution is {resolution!r}; expected one of {', '.join(RESOLUTIONS)}.")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more.")
        self.model = _load_model(model, device, dtype)
        self.processor = processor or _load_processor(model, self.model)
        self.processor.check_model(self.model.config)
        self.processor.check_thresholds(threshold, pixel_threshold)
        self.threshold = self.processor.threshold if threshold is None else threshold
        self.pixel_threshold = self.processor.pixel_threshold if pixel_threshold is None else pixel_threshold
        self.value_range = check_value_range(self.processor.value_range if value_range is None else value_range)
        self.backend = _make_backend(backend, self.model, batch_size)
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
        if isinstance(images, ImageSource):
            images = [images]
        if masks is not None:
            images = list(images)
            if len(masks) != len(images):
                raise ValueError(f"got {len(masks)} masks for {len(images)} images; give None for a normal image.")
            rows = zip(images, masks, strict=True)
            images = [{"image": image, "mask": mask, "label": int(mask is not None)} for image, mask in rows]
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
        yield from self._score(partial(self._read, reader, index, keep_images, image_side) for index in order)

    @property
    def settings(self) -> dict[str, Any]:
        """All that scores and maps depend on beside the weights, ready for JSON."""
        return {
            "threshold": self.threshold,
            "pixel_threshold": self.pixel_threshold,
            "smoothing_sigma": self.processor.smoothing_sigma,
            "image_size": list(self.processor.size),
            "resolution": self.resolution,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "value_range": self.value_range,
            "backend": type(self.backend).__name__,
        }

    def _score(self, tasks: Iterator[Callable[[], "_Item"]]) -> Iterator[AnomalyResult]:
        """Form batches of what the readers deliver, and score them; results keep the order of the tasks."""
        batch: list[_Item] = []
        for item in _read_ahead(tasks, self.num_workers, 2 * self.batch_size):
            batch.append(item)
            if sum(item.error is None for item in batch) >= self.batch_size:
                yield from self._score_batch(batch)
                batch = []
        yield from self._score_batch(batch)

    def _read(
        self, reader: SampleReader, index: int, keep_image: bool = False, image_side: int | None = None
    ) -> "_Item":
        try:
            sample = reader.read(index)
            size = (sample.image.height, sample.image.width)
            pixel_values = self.processor(images=sample.image)["pixel_values"][0]
        except (OSError, ValueError) as error:
            return _Item(index, reader.name(index), error=" ".join(str(error).split()))
        if not keep_image:
            sample.image = None  # type: ignore[assignment]
        elif image_side is not None and max(size) > image_side:
            sample.image.thumbnail((image_side, image_side))
        return _Item(index, sample.source, size, sample, pixel_values)

    def _read_one(self, index: int, image: Any) -> "_Item":
        item = self._read(SampleReader([image], value_range=self.value_range), 0)
        item.index = index
        if item.source == "image 0":
            item.source = f"image {index}"
        return item

    def _score_batch(self, items: list["_Item"]) -> Iterator[AnomalyResult]:
        readable = [item for item in items if item.error is None]
        found = self._post_process(readable)
        for item in items:
            if item.error is not None:
                yield AnomalyResult(item.index, item.source, error=item.error)
                continue
            values = next(found)
            mask = None if values["mask"] is None else values["mask"].numpy()
            yield AnomalyResult(
                item.index,
                item.source,
                item.size,
                values["score"],
                values["label"],
                values["anomaly_map"].numpy(),
                mask,
                values["regions"],
                sample=item.sample,
            )

    def _run(self, items: list["_Item"]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the backend; where the device has too little memory, in halves, also from then on."""
        try:
            return self.backend.run(torch.stack([item.pixel_values for item in items]))  # type: ignore[misc]
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise
            half = self.batch_size = len(items) // 2
            logger.warning("The device is out of memory; going on with batches of %d.", self.batch_size)
        halves = [self._run(items[:half]), self._run(items[half:])]
        scores, maps = zip(*halves, strict=True)
        return torch.cat(scores), torch.cat(maps)

    def _post_process(self, items: list["_Item"]) -> Iterator[dict[str, Any]]:
        """Score a batch and post-process it: at once, or one by one where maps may be as large as the images."""
        if not items:
            return
        scores, maps = self._run(items)
        step = 1 if self.resolution == "original" else len(items)
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            try:
                results = self.processor.post_process_anomaly_detection(
                    {"image_scores": scores[part], "anomaly_maps": maps[part]},
                    target_sizes=[item.size for item in items[part]] if self.resolution == "original" else None,  # type: ignore[misc]
                    threshold=self.threshold,
                    pixel_threshold=self.pixel_threshold,
                )
            except ValueError as error:
                raise ValueError(f"{items[0].source} to {items[-1].source}: {error}") from error
            for item, result in zip(items[part], results, strict=True):
                if result["regions"]:
                    result["regions"] = scale_regions(result["regions"], result["anomaly_map"].shape, item.size)  # type: ignore[arg-type]
                yield result


@dataclass
class _Item:
    """One image on its way to the backend: read and resized, or why it could not be read."""

    index: int
    source: str
    size: tuple[int, int] | None = None
    sample: Sample | None = None
    pixel_values: torch.Tensor | None = None
    error: str | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels as read, 1 for an image that could not be read."""
        return 1 if self.size is None else self.size[0] * self.size[1]


def _read_ahead(tasks: Iterator[Callable[[], _Item]], workers: int, most: int) -> Iterator[_Item]:
    """Run tasks in threads, in order, a bounded number ahead: Pillow and NumPy release the interpreter lock.

    The number starts at 1 and then depends on the largest recent image, so that memory stays bounded at any size.
    """
    recent: deque[int] = deque(maxlen=most)
    with ThreadPoolExecutor(workers, thread_name_prefix="reader") as pool:
        waiting: deque[Future[_Item]] = deque()
        try:
            while True:
                ahead = min(most, max(1, MAX_PIXELS_IN_FLIGHT // max(recent))) if recent else 1
                waiting.extend(pool.submit(task) for task in islice(tasks, max(0, ahead - len(waiting))))
                if not waiting:
                    return
                item = waiting.popleft().result()
                recent.append(item.pixels)
                yield item
        finally:
            for future in waiting:
                future.cancel()


def scale_regions(
    regions: Sequence[dict[str, Any]], size: Sequence[int], target: Sequence[int]
) -> list[dict[str, Any]]:
    """Convert regions from the pixels of one size to those of another.

    Args:
        regions (`Sequence[dict]`): From [`find_regions`].
        size (`Sequence[int]`): Height and width in which they were found.
        target (`Sequence[int]`): Height and width of the image.

    Returns:
        `list[dict]`: with boxes rounded outwards and areas rounded.
    """
    y_scale, x_scale = target[0] / size[0], target[1] / size[1]
    scaled = []
    for region in regions:
        box = region["box"]
        box = {
            "xmin": math.floor(box["xmin"] * x_scale),
            "ymin": math.floor(box["ymin"] * y_scale),
            "xmax": math.ceil(box["xmax"] * x_scale),
            "ymax": math.ceil(box["ymax"] * y_scale),
        }
        scaled.append({**region, "box": box, "area": round(region["area"] * x_scale * y_scale)})
    return scaled


def _load_model(model: Any, device: Any, dtype: Any) -> AnomalyCLIPModel:
    if isinstance(model, AnomalyCLIPModel):
        return model if device is None and dtype is None else model.to(device=device, dtype=_as_dtype(dtype))
    if model is None:
        logger.warning_once(DEMONSTRATION_NOTE)
        model = DEFAULT_MODEL
    loaded = AnomalyCLIPModel.from_pretrained(model, dtype="auto" if dtype is None else _as_dtype(dtype))
    if device is None and torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
    return loaded.to(device or "cpu")


def _as_dtype(dtype: Any) -> torch.dtype | None:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def _load_processor(source: Any, model: AnomalyCLIPModel) -> AnomalyCLIPProcessor:
    if isinstance(source, AnomalyCLIPModel):
        return AnomalyCLIPProcessor.from_config(model.config)
    return AnomalyCLIPProcessor.from_pretrained(source or DEFAULT_MODEL)


def _make_backend(backend: str | Backend | None, model: AnomalyCLIPModel, batch_size: int) -> Backend:
    if isinstance(backend, str) and backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}.")
    if backend == "compile":
        return CompiledBackend(model, batch_size)
    return TorchBackend(model) if backend is None or isinstance(backend, str) else backend


__all__ = ["AnomalyResult", "AnomalyScorer"]
