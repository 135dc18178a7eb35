# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The one engine: reads images, runs a backend in batches, post-processes. Every command scores through it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers.utils import logging

from ..assets import DEFAULT_MODEL
from ..data.samples import Sample, SampleReader
from ..image_processing_anomalyclip import ImageSource, check_value_range
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .backends import Backend, TorchBackend


BACKENDS = ("torch",)
RESOLUTIONS = ("model", "original")
MAX_BATCH_PIXELS = 50_000_000  # as read: large images and their maps are kept until their batch is done

logger = logging.get_logger(__name__)


@dataclass
class AnomalyResult:
    """What is known about one image after scoring.

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
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one stored beside the model.
        backend (`str` or [`Backend`], *optional*): `"torch"`, the default.
        device (`str` or `torch.device`, *optional*): Defaults to the first accelerator, or the CPU; a model in memory
            stays where it is.
        dtype (`str` or `torch.dtype`, *optional*): Precision to compute in; defaults to that of the weights.
        batch_size (`int`, *optional*, defaults to 8): Images per forward pass.
        num_workers (`int`, *optional*): Processes that read and resize; defaults to none on a CPU, where they would
            compete with the model, and to one less than the processors, at most 8, beside an accelerator.
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
    >>> for result in scorer.score(["examples/images/gear.png", "missing.png"]):
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
        self.backend = _make_backend(backend, self.model)
        self.batch_size, self.resolution = batch_size, resolution
        self.num_workers = _default_workers(self.model.device) if num_workers is None else num_workers

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
        else:
            stream = _read_stream(images, self.processor, self.value_range)
            yield from self._score(stream, keep_images=False)

    def score_samples(
        self, reader: SampleReader, indices: Sequence[int] | None = None, keep_images: bool = False
    ) -> Iterator[AnomalyResult]:
        """Score samples of a reader, with their ground truth.

        Args:
            reader ([`SampleReader`]): Opens images and masks.
            indices (`Sequence[int]`, *optional*): Places of the samples to score; defaults to all.
            keep_images (`bool`, *optional*, defaults to `False`): Keep each image in its result.

        Yields:
            [`AnomalyResult`]: one per index, in order, with `sample`.

        Raises:
            ValueError: If the model gives NaN; names the images.
        """
        if reader.value_range is None:
            reader.value_range = self.value_range
        reading = _Reading(reader, self.processor)
        order = range(len(reader)) if indices is None else indices
        loader = DataLoader(
            reading,
            batch_size=None,  # batches are formed below, where large images can be counted
            sampler=order,
            num_workers=min(self.num_workers, len(order)),
            pin_memory=self.model.device.type == "cuda",
        )
        yield from self._score(loader, keep_images)

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
        }

    def _score(self, items: Iterable["_Item"], keep_images: bool) -> Iterator[AnomalyResult]:
        """Form batches and score them; results keep the order of the items."""
        batch: list[_Item] = []
        pixels = 0
        for item in items:
            batch.append(item)
            pixels += item.sample.image.width * item.sample.image.height if item.sample else 0
            if sum(item.error is None for item in batch) == self.batch_size or pixels > MAX_BATCH_PIXELS:
                yield from self._score_batch(batch, keep_images)
                batch, pixels = [], 0
        yield from self._score_batch(batch, keep_images)

    def _score_batch(self, items: list["_Item"], keep_images: bool) -> Iterator[AnomalyResult]:
        samples = [item.sample for item in items if item.sample is not None]
        post_processed = iter(
            self._run(samples, [item.pixel_values for item in items if item.pixel_values is not None])
        )
        for item in items:
            if item.sample is None:
                yield AnomalyResult(item.index, item.source, error=item.error)
                continue
            found, sample = next(post_processed), item.sample
            size = (sample.image.height, sample.image.width)
            if not keep_images:
                sample.image = None  # type: ignore[assignment]
            mask = None if found["mask"] is None else found["mask"].numpy()
            yield AnomalyResult(
                item.index,
                item.source,
                size,
                found["score"],
                found["label"],
                found["anomaly_map"].numpy(),
                mask,
                found["regions"],
                sample=sample,
            )

    def _run(self, samples: list[Sample], pixel_values: list[torch.Tensor]) -> list[dict[str, Any]]:
        if not samples:
            return []
        scores, maps = self.backend.run(torch.stack(pixel_values))
        sizes = [(sample.image.height, sample.image.width) for sample in samples]
        try:
            return self.processor.post_process_anomaly_detection(
                {"image_scores": scores, "anomaly_maps": maps},
                target_sizes=sizes if self.resolution == "original" else None,
                threshold=self.threshold,
                pixel_threshold=self.pixel_threshold,
            )
        except ValueError as error:
            raise ValueError(f"{samples[0].source} to {samples[-1].source}: {error}") from error


@dataclass
class _Item:
    """One image on its way to the backend: read and resized, or why it could not be read."""

    index: int
    source: str
    sample: Sample | None = None
    pixel_values: torch.Tensor | None = None
    error: str | None = None


class _Reading(Dataset):
    """Reads and resizes in the workers of a `DataLoader`."""

    def __init__(self, reader: SampleReader, processor: AnomalyCLIPProcessor):
        self.reader, self.processor = reader, processor

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> _Item:
        return _read(self.reader, index, self.processor)


def _read(reader: SampleReader, index: int, processor: AnomalyCLIPProcessor) -> _Item:
    try:
        sample = reader.read(index)
        return _Item(index, sample.source, sample, processor(images=sample.image)["pixel_values"][0])
    except (OSError, ValueError) as error:
        return _Item(index, reader.name(index), error=" ".join(str(error).split()))


def _read_stream(images: Iterable[Any], processor: AnomalyCLIPProcessor, value_range: Any) -> Iterator[_Item]:
    """Read images that come one after another and cannot be indexed."""
    for index, image in enumerate(images):
        item = _read(SampleReader([image], value_range=value_range), 0, processor)
        item.index = index
        if item.source == "image 0":
            item.source = f"image {index}"
        yield item


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


def _make_backend(backend: str | Backend | None, model: AnomalyCLIPModel) -> Backend:
    if isinstance(backend, str) and backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; expected one of {', '.join(BACKENDS)}.")
    return TorchBackend(model) if backend is None or isinstance(backend, str) else backend


def _default_workers(device: torch.device) -> int:
    return 0 if device.type == "cpu" else min(8, max(1, (os.cpu_count() or 1) - 1))


__all__ = ["AnomalyResult", "AnomalyScorer"]
