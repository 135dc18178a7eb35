# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""A data set through a model: scores as rows, maps straight into the metric, so that memory does not grow."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import datasets
import torch
from PIL import Image
from torch import Tensor

from ..image_processing_anomalyclip import load_image, load_mask, masks_to_tensor
from ..metrics import AnomalyDetectionMetric
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..processing_anomalyclip import AnomalyCLIPProcessor


RESOLUTIONS = ("model", "original")
ASPECT_TOLERANCE = 0.02  # relative; masks of another resolution are common, of another shape they are mistakes


@dataclass
class Example:
    """One image with its ground truth, opened."""

    row: dict[str, Any]  # path, category, defect_type, label
    image: Image.Image
    mask: Tensor | None  # (height, width) bool at the image's size; None where there is no ground truth


@dataclass
class Evaluation:
    """What a process has done so far.

    Args:
        metric ([`AnomalyDetectionMetric`]): What was counted.
        rows (`list[dict]`): One for each image that was scored, or that could not be read (with `error`).
    """

    metric: AnomalyDetectionMetric
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> set[int]:
        """Places in the data set that need no scoring any more."""
        return {row["index"] for row in self.rows}

    def merge(self, other: "Evaluation") -> None:
        """Take over what another process, or an earlier run, has done."""
        self.metric.merge(other.metric)
        self.rows += other.rows


class Scorer:
    """A model that scores a data set of [`load_anomaly_dataset`], at one resolution.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision.
        processor ([`AnomalyCLIPProcessor`]): Of the model.
        dataset ([`~datasets.Dataset`]): With the columns of [`load_anomaly_dataset`].
        resolution (`str`): `"model"`: masks are brought to the model's size, as in the paper; `"original"`: maps to
            each image's own size.
        on_error (`str`): What to do about an image or mask that cannot be read: `"skip"` (and count) or `"fail"`.
        count_pixels (`bool`): Whether maps go into the metric.

    Raises:
        ValueError: If labels are missing or the resolution is unknown.
    """

    def __init__(
        self,
        model: AnomalyCLIPModel,
        processor: AnomalyCLIPProcessor,
        dataset: datasets.Dataset,
        resolution: str = "model",
        on_error: str = "skip",
        count_pixels: bool = True,
    ):
        if resolution not in RESOLUTIONS:
            raise ValueError(f"resolution is {resolution!r}; expected one of {', '.join(RESOLUTIONS)}.")
        unlabelled = sum(label is None for label in dataset["label"])
        if unlabelled:
            raise ValueError(f"{unlabelled} images have no label, so there is nothing to compare with; use predict.")
        self.model, self.processor, self.resolution, self.on_error = model.eval(), processor, resolution, on_error
        self.count_pixels = count_pixels
        self.mask_rule = dataset.features["mask"].mask_rule
        # Files are opened here, where one that cannot be read can be skipped.
        undecoded = datasets.Image(decode=False)
        self.dataset = dataset.cast_column("image", undecoded).cast_column("mask", undecoded)

    def score(self, indices: Iterable[int], batch_size: int, evaluation: Evaluation) -> Iterator[int]:
        """Score images and count them in `evaluation`.

        Args:
            indices (`Iterable[int]`): Places in the data set.
            batch_size (`int`): Images per forward pass.
            evaluation ([`Evaluation`]): Is added to, batch after batch.

        Yields:
            `int`: how many images were done, after each batch.

        Raises:
            ValueError: If the model gives NaN, or with `on_error="fail"` an image cannot be read.
        """
        pending: list[tuple[int, Example]] = []
        skipped = 0
        for index in indices:
            try:
                pending.append((index, self.read(index)))
            except (OSError, ValueError) as error:
                if self.on_error == "fail":
                    raise
                skipped += 1
                evaluation.rows.append(self._row(index, score=None, error=" ".join(str(error).split())))
            if len(pending) == batch_size:
                self._count(pending, evaluation)
                yield len(pending) + skipped
                pending, skipped = [], 0
        if pending:
            self._count(pending, evaluation)
        if pending or skipped:
            yield len(pending) + skipped

    def read(self, index: int) -> Example:
        """Open an image and its mask.

        Args:
            index (`int`): Place in the data set.

        Raises:
            FileNotFoundError: If one of the files is not there.
            ValueError: If one cannot be read, or the mask has another shape than the image.
        """
        row = self.dataset[index]
        image = load_image(row.pop("image"))
        source = row.pop("mask")
        if source is None:
            # A normal image needs no file to say that all of it is normal.
            mask = None if row["label"] else torch.zeros(image.height, image.width, dtype=torch.bool)
            return Example(row, image, mask)
        mask = torch.from_numpy(load_mask(source, self.mask_rule))
        height, width = mask.shape
        if abs(width * image.height / (height * image.width) - 1) > ASPECT_TOLERANCE:
            raise ValueError(
                f"{row['path']} is {image.width}x{image.height} px and its mask {width}x{height}; expected one shape."
            )
        if (height, width) != (image.height, image.width):
            mask = masks_to_tensor([mask], (image.height, image.width))[0] > 0
        return Example(row, image, mask)

    @torch.no_grad()
    def predict(self, examples: list[Example]) -> list[dict[str, Any]]:
        """Score opened images.

        Args:
            examples (`list[Example]`): One batch.

        Returns:
            `list[dict]`: as [`AnomalyCLIPProcessor.post_process_anomaly_detection`] gives them.

        Raises:
            ValueError: If the model gives NaN.
        """
        pixel_values = self.processor(images=[example.image for example in examples])["pixel_values"]
        outputs = self.model(pixel_values=pixel_values.to(self.model.device, self.model.dtype))
        sizes = [(example.image.height, example.image.width) for example in examples]
        try:
            return self.processor.post_process_anomaly_detection(
                outputs, target_sizes=sizes if self.resolution == "original" else None
            )
        except ValueError as error:
            names = f"{examples[0].row['path']} … {examples[-1].row['path']}"
            raise ValueError(f"{names}: {error}") from error

    def _count(self, pending: list[tuple[int, Example]], evaluation: Evaluation) -> None:
        examples = [example for _, example in pending]
        results = self.predict(examples)
        maps = [result["anomaly_map"] for result in results]
        masks = [example.mask for example in examples]
        if self.resolution == "model":
            height, width = maps[0].shape
            masks = [None if mask is None else masks_to_tensor([mask], (height, width))[0] for mask in masks]
        evaluation.metric.add_batch(
            image_scores=[result["score"] for result in results],
            labels=[example.row["label"] for example in examples],
            anomaly_maps=maps if self.count_pixels else None,
            masks=masks if self.count_pixels else None,
            categories=[example.row["category"] for example in examples],
        )
        for (index, _), result in zip(pending, results, strict=True):
            evaluation.rows.append(self._row(index, score=result["score"], error=None))

    def _row(self, index: int, score: float | None, error: str | None) -> dict[str, Any]:
        row = {name: value for name, value in self.dataset[index].items() if name not in ("image", "mask")}
        return {"index": index, **row, "score": score, "error": error}
