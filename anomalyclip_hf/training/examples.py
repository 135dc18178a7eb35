# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What a training step is made of: images with their targets, the order in which they come, and the batch."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..image_processing_anomalyclip import load_image, load_mask, masks_to_tensor
from ..processing_anomalyclip import AnomalyCLIPProcessor
from .synthetic import draw_anomaly


class Target(NamedTuple):
    """One image with its ground truth at the model's size."""

    image: Image.Image
    mask: Tensor  # (height, width) float32 at the model's size, 0 or 1
    mask_weight: float  # 0 where there is no ground truth
    label: int


class TrainingImages(Dataset):
    """Images of a data set as training examples, opened when asked for.

    Args:
        dataset ([`~datasets.Dataset`]): With the columns of [`load_anomaly_dataset`].
        processor ([`AnomalyCLIPProcessor`]): Of the model.
        synthetic (`bool`): Take the normal images only, and beside each the same with a drawn defect.
        seed (`int`): Of the drawn defects.
        needs_both (`bool`): Whether there must be normal and anomalous images, as for training.

    Raises:
        ValueError: If there is nothing to learn from: no images, no labels, or no anomalous or no normal ones.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        processor: AnomalyCLIPProcessor,
        synthetic: bool = False,
        seed: int = 111,
        needs_both: bool = True,
    ):
        labels = list(dataset["label"])
        if None in labels:
            raise ValueError(f"{labels.count(None)} images have no label; training needs one for each.")
        if synthetic:
            dataset = dataset.select([index for index, label in enumerate(labels) if label == 0])
        elif needs_both and not 0 < sum(labels) < len(labels):
            missing = "anomalous" if 0 in labels else "normal"
            raise ValueError(f"none of the {len(labels)} images is {missing}; synthetic_anomalies=True draws defects.")
        if not len(dataset):
            raise ValueError(
                "there are no normal images to draw defects into." if synthetic else "there are no images."
            )
        self.processor, self.synthetic, self.seed = processor, synthetic, seed
        self.mask_rule = dataset.features["mask"].mask_rule
        undecoded = datasets.Image(decode=False)
        self.rows = dataset.cast_column("image", undecoded).cast_column("mask", undecoded)

    def __len__(self) -> int:
        return len(self.rows) * (2 if self.synthetic else 1)

    def describe(self) -> dict[str, Any]:
        """What a model card says of them: `dataset`, `images`, `normal`, `anomalous`, `categories`, `synthetic`."""
        labels = self.rows["label"][:]
        normal, anomalous = labels.count(0), labels.count(1)
        return {
            "dataset": self.rows.info.description or "a data set without description",
            "images": len(self),
            "normal": normal,
            "anomalous": normal if self.synthetic else anomalous,
            "categories": sorted(set(self.rows["category"][:])),
            "synthetic": self.synthetic,
        }

    def has_masks(self) -> bool:
        """Whether any anomalous image says where its anomaly is."""
        return self.synthetic or any(row["mask"] is not None for row in self.rows)

    def load(self, index: int) -> Target:
        """Open an image and bring its ground truth to the model's size.

        Raises:
            FileNotFoundError: If a file is not there.
            ValueError: If one cannot be read.
        """
        row, drawn = self.rows[index % len(self.rows)], index >= len(self.rows)
        image, label, mask = load_image(row["image"]), int(row["label"]), None
        if drawn:
            image, mask = draw_anomaly(image, self.seed + index)
            label = 1
        elif row["mask"] is not None:
            mask = load_mask(row["mask"], self.mask_rule)
        # Of an anomalous image an empty mask says as little as none.
        has_truth = not label or (mask is not None and bool(mask.any()))
        target = masks_to_tensor([mask if has_truth else None], self.processor.size)[0]
        return Target(image, target, float(has_truth), label)

    def name(self, index: int) -> str:
        """What an error calls the image."""
        return self.rows[index % len(self.rows)]["path"] + (" (drawn defect)" if index >= len(self.rows) else "")

    def digest(self, index: int) -> str:
        """Of everything that the example depends on: the bytes of its files, its label, and the drawn defect."""
        row = self.rows[index % len(self.rows)]
        digest = hashlib.sha256(repr((row["label"], self.mask_rule)).encode())
        for source in (row["image"], row["mask"]):
            digest.update(b"" if source is None else _content(source))
        if index >= len(self.rows):
            digest.update(f"drawn {self.seed + index}".encode())
        return digest.hexdigest()

    def __getitem__(self, item: "int | Place") -> dict[str, Any]:
        place = item if isinstance(item, Place) else Place(item)
        target = self.load(place.number)
        pixel_values = self.processor(images=target.image)["pixel_values"][0]
        return {"pixel_values": pixel_values, **targets(target.mask, target.mask_weight, target.label, place)}


def _content(source: dict[str, Any]) -> bytes:
    if source["bytes"] is not None:
        return source["bytes"]
    with open(source["path"], "rb") as file:
        return file.read()


class Place(NamedTuple):
    """Which example comes next, and what it weighs."""

    number: int
    weight: float = 1.0


def targets(mask: Tensor, mask_weight: float, label: int, place: Place) -> dict[str, Any]:
    """The part of an example that does not depend on where its embeddings come from."""
    return {
        "masks": mask,
        "mask_weights": mask_weight,
        "labels": label,
        "image_weights": place.weight,
        "indices": place.number,
    }


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Put examples into a batch.

    Args:
        examples (`Sequence[dict]`): Of [`TrainingImages`] or [`CachedFeatures`].

    Returns:
        `dict[str, torch.Tensor]`: the arguments of [`AnomalyCLIPModel.forward`], and `indices` `(batch_size,)`;
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
    """A new order for each epoch, from seed and epoch alone, filled up to whole optimiser steps.

    What fills up the last step weighs nothing, and the rest of that step accordingly more, so that its loss is the
    mean over its images however they are divided over processes and accumulated batches.

    Args:
        length (`int`): Number of examples.
        step_size (`int`): Examples in an optimiser step: batch size times processes times accumulated batches.
        seed (`int`): Of the order.
    """

    def __init__(self, length: int, step_size: int, seed: int):
        self.length, self.step_size, self.seed, self.epoch = length, step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.step_size) * self.step_size

    def __iter__(self) -> Iterator[Place]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length).tolist()
        left = self.length % self.step_size
        whole = self.length - left
        yield from (Place(index) for index in order[:whole])
        if left:
            yield from (Place(index, self.step_size / left) for index in order[whole:])
            yield from (Place(order[0], 0.0) for _ in range(self.step_size - left))


def cache_folder(output_dir: str, cache_dir: str | None) -> str:
    """Where features go unless told otherwise."""
    return cache_dir or os.path.join(output_dir, "_features")  # Trainer pushes nothing that begins with _
