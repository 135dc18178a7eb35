# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Make training examples from images and their targets, order them in an epoch, and batch them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers.utils import logging

from ..data.samples import Sample, SampleReader
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .synthetic import add_synthetic_defect


logger = logging.get_logger(__name__)


class TrainingImages(Dataset):
    """Provide the images of a dataset as training examples, opened on access.

    Args:
        dataset: What [`SampleReader`] reads: a [`~datasets.Dataset`] with the columns `image`, `mask` and `label`, a
            list of such rows, or, for prediction, a list of images.
        processor ([`AnomalyCLIPProcessor`]): Processor of the model.
        synthetic (`bool`, *optional*, defaults to `False`):
            Use only the normal images, each once unchanged and once with a synthetic defect.
        seed (`int`, *optional*, defaults to 111): Seed of the synthetic defects.
        argument (`str`, *optional*, defaults to `"train_dataset"`): Name of the dataset in errors.

    Raises:
        ValueError: If the dataset is empty, is streamed, or has no column `image`.
    """

    def __init__(
        self,
        dataset: Any,
        processor: AnomalyCLIPProcessor,
        synthetic: bool = False,
        seed: int = 111,
        argument: str = "train_dataset",
    ):
        try:
            self.reader = SampleReader(dataset, value_range=processor.value_range)
            labels = self.reader.labels
        except ValueError as error:
            raise ValueError(f"{argument}: {error}") from error
        self.processor, self.synthetic, self.seed, self.argument = processor, synthetic, seed, argument
        self._named_vanished = False
        self.description = getattr(getattr(dataset, "info", None), "description", None)
        self.sources = [index for index, label in enumerate(labels) if not synthetic or label == 0]
        if not self.sources:
            raise ValueError(f"{argument} has no {'normal ' if synthetic else ''}images; give at least one.")
        self.labels = [labels[index] for index in self.sources] + [1] * (len(self.sources) if synthetic else 0)
        categories = self.reader.categories
        self.categories = [categories[self._source(index)] for index in range(len(self))]
        self.has_labels = None not in self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def check_labels(self, both: bool = False) -> None:
        """Check that every image has a label.

        Args:
            both (`bool`, *optional*, defaults to `False`): Check also that normal and anomalous images exist.

        Raises:
            ValueError: If labels are missing, or with `both` one of the two kinds.
        """
        missing = self.labels.count(None)
        if missing:
            raise ValueError(f"{missing} images of {self.argument} have no label; give 0 (normal) or 1 (anomalous).")
        if both and len(set(self.labels)) == 1:
            kind = "anomalous" if self.labels[0] == 0 else "normal"
            raise ValueError(
                f"none of the {len(self)} images of {self.argument} is {kind}; add some. If all are normal, "
                "synthetic_anomalies=True (--synthetic) adds synthetic defects."
            )

    def has_masks(self) -> bool:
        """Return whether any image has a mask, or gets one with a synthetic defect."""
        return self.synthetic or self.reader.has_masks

    def describe(self) -> dict[str, Any]:
        """Return `dataset`, `images`, `normal`, `anomalous`, `categories` and `synthetic` for the model card."""
        return {
            "dataset": self.description or "a dataset without a description",
            "images": len(self),
            "normal": self.labels.count(0),
            "anomalous": self.labels.count(1),
            "categories": sorted({category for category in self.categories if category}),
            "synthetic": self.synthetic,
        }

    def read(self, index: int) -> Sample:
        """Open an image with its ground truth, and add the synthetic defect where there is one.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: If a file cannot be read.
        """
        sample = self.reader.read(self._source(index))
        if self._is_synthetic(index):
            sample.image, mask = add_synthetic_defect(sample.image, self.seed + index)
            sample.mask, sample.label = mask.astype(np.uint8), 1
        return sample

    def name(self, index: int) -> str:
        """Return the name of the image in errors."""
        return self.reader.name(self._source(index)) + (" (synthetic defect)" if self._is_synthetic(index) else "")

    def digest(self, index: int) -> str:
        """Return a digest of everything that the example depends on."""
        defect = f"-synthetic-{self.seed + index}" if self._is_synthetic(index) else ""
        return self.reader.digest(self._source(index)) + defect

    def __getitem__(self, item: "int | WeightedIndex") -> dict[str, Any]:
        item = item if isinstance(item, WeightedIndex) else WeightedIndex(item)
        sample = self.read(item.number)
        pixel_values = self.processor(images=sample.image)["pixel_values"][0]
        return {"pixel_values": pixel_values} | self.targets(self.mask_of(sample), item)

    def mask_of(self, sample: Sample) -> Tensor | None:
        """Return the ground truth of an opened image at the model's size; `None` if it has none, or it vanishes."""
        mask = sample.mask_at(self.processor.size)
        if mask is not None and sample.label and not mask.any():
            if not self._named_vanished:  # the mask vanishes when it is resized
                self._named_vanished = True
                logger.warning("%s Further masks that vanish are not named.", sample.note)
            return None
        return None if mask is None else torch.from_numpy(mask)

    def targets(self, mask: Tensor | None, item: "WeightedIndex") -> dict[str, Any]:
        """Return the part of an example that does not depend on its pixels.

        Args:
            mask (`torch.Tensor` of shape `(height, width)`, *optional*):
                Ground truth at the model's size; `None` where there is none.
            item ([`WeightedIndex`]): Which example.

        Returns:
            `dict`: `masks`, `mask_weights`, `labels`, `image_weights` and `indices`; empty for a dataset without
            labels.
        """
        if not self.has_labels:
            return {}
        return {
            "masks": torch.zeros(self.processor.size) if mask is None else mask.float(),
            "mask_weights": float(mask is not None),
            "labels": self.labels[item.number],
            "image_weights": item.weight,
            "indices": item.number,
        }

    def _source(self, index: int) -> int:
        return self.sources[index % len(self.sources)]

    def _is_synthetic(self, index: int) -> bool:
        return index >= len(self.sources)


class WeightedIndex(NamedTuple):
    """Identify an example, with its weight in the loss."""

    number: int
    weight: float = 1.0


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Make a batch of examples.

    Args:
        examples (`Sequence[dict]`): Items of [`TrainingImages`] or [`CachedFeatures`].

    Returns:
        `dict[str, torch.Tensor]`: the arguments of [`AnomalyCLIPModel.forward`], and `indices` `(batch_size,)`.
        `patch_embeds` has shape `(layers, batch_size, num_patches, projection_dim)`.
    """
    batch = {}
    for name, first in examples[0].items():
        values = [example[name] for example in examples]
        batch[name] = torch.stack(values) if isinstance(first, Tensor) else torch.tensor(values)
    if "patch_embeds" in batch:
        batch["patch_embeds"] = batch["patch_embeds"].transpose(0, 1)
    return batch


class EpochOrder(Sampler):
    """Order examples randomly for each epoch, by seed and epoch only, padded to complete optimiser steps.

    Padding has weight 0, and the other examples of the last step have a higher weight. The loss of that step is then
    the mean over its examples, however they are divided among processes and accumulated batches.

    Args:
        length (`int`): Number of examples.
        step_size (`int`): Examples per optimiser step: batch size times processes times accumulated batches.
        seed (`int`): Seed of the order.
    """

    def __init__(self, length: int, step_size: int, seed: int):
        self.length, self.step_size, self.seed, self.epoch = length, step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the data loader calls this at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.step_size) * self.step_size

    def __iter__(self) -> Iterator[WeightedIndex]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length).tolist()
        rest = self.length % self.step_size
        full_steps = self.length - rest
        yield from (WeightedIndex(index) for index in order[:full_steps])
        if rest:
            yield from (WeightedIndex(index, self.step_size / rest) for index in order[full_steps:])
            yield from (WeightedIndex(order[0], 0.0) for _ in range(self.step_size - rest))
