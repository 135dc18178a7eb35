# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Check batches of any array type as a whole, before anything is counted."""

from typing import Any, NamedTuple

import numpy as np

from ..image_processing_anomalyclip import to_array
from .on_device import is_finite, is_on_gpu


class Example(NamedTuple):
    """Hold one image: score, label, category, anomaly map (float32) and mask (bool); the last three may be `None`.

    The map is an array, or a tensor if it was given on a GPU.
    """

    score: float
    label: bool
    category: str | None
    anomaly_map: Any
    mask: np.ndarray | None


def read_batch(image_scores: Any, labels: Any, anomaly_maps: Any, masks: Any, categories: Any) -> list[Example]:
    """Check a batch and split it into images. The arguments are those of [`AnomalyDetectionMetric.add_batch`].

    Returns:
        `list[Example]`: one per image.

    Raises:
        ValueError: If an image is wrong; names the first one by its index and category.
    """
    scores, flags = _numbers("image_scores", image_scores), _numbers("labels", labels)
    if masks is not None and anomaly_maps is None:
        raise ValueError("got masks without anomaly_maps; give both, or neither for image metrics only.")
    columns = {"labels": flags, "anomaly_maps": anomaly_maps, "masks": masks, "categories": categories}
    for name, column in columns.items():
        if column is not None and _length(name, column) != len(scores):
            raise ValueError(f"got {_length(name, column)} {name} for {len(scores)} image_scores; give one per image.")
    nothing = [None] * len(scores)
    names = nothing if categories is None else list(categories)
    maps = nothing if anomaly_maps is None else _images(anomaly_maps, keep_on_gpu=True)
    marks = nothing if masks is None else _images(masks)

    examples = []
    for index, (score, label, category) in enumerate(zip(scores.tolist(), flags.tolist(), names, strict=True)):
        where = f"image {index} of the batch" + (f" (category {category!r})" if category is not None else "")
        if categories is not None and not isinstance(category, str):
            raise ValueError(f"the category of image {index} of the batch is {category!r}; expected a str.")
        if not np.isfinite(score):
            raise ValueError(f"the score of {where} is {score}; expected a finite number.")
        if label not in (0, 1):
            raise ValueError(f"the label of {where} is {label}; expected 0 for normal or 1 for anomalous.")
        anomaly_map = None if anomaly_maps is None else _read_map(maps[index], where)
        mask = None if anomaly_map is None else _read_mask(marks[index], tuple(anomaly_map.shape), bool(label), where)
        examples.append(Example(score, bool(label), category, anomaly_map, mask))
    return examples


def _numbers(name: str, values: Any) -> np.ndarray:
    """Convert one number per image to a float64 array."""
    try:
        numbers = [float(value) for value in values] if isinstance(values, (list, tuple)) else to_array(values)
        array = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {type(values).__name__}; expected one number per image: {error}.") from error
    if array.ndim != 1:
        raise ValueError(f"{name} is {type(values).__name__} of shape {array.shape}; expected shape (batch_size,).")
    return array


def _length(name: str, column: Any) -> int:
    if isinstance(column, str) or not hasattr(column, "__len__"):
        raise ValueError(f"{name} is {column!r}; expected a list or array with one entry per image.")
    return len(column)


def _images(column: Any, keep_on_gpu: bool = False) -> Any:
    """Return maps or masks that can be indexed; a tensor is copied from its device once, if at all."""
    return to_array(column) if hasattr(column, "detach") and not (keep_on_gpu and is_on_gpu(column)) else column


def _read_map(value: Any, where: str) -> Any:
    if value is None:
        raise ValueError(f"{where} has no anomaly map; give one for every image, or anomaly_maps=None for none.")
    if is_on_gpu(value):
        anomaly_map = value.detach().float()
    else:
        with np.errstate(over="ignore"):  # values too large for float32 become infinite and are refused below
            anomaly_map = np.ascontiguousarray(to_array(value), dtype=np.float32)
    if anomaly_map.ndim != 2 or 0 in anomaly_map.shape:
        raise ValueError(f"the anomaly map of {where} has shape {tuple(anomaly_map.shape)}; expected (height, width).")
    if not is_finite(anomaly_map):
        raise ValueError(f"the anomaly map of {where} holds NaN or values that are infinite in float32.")
    return anomaly_map


def _read_mask(value: Any, shape: tuple[int, ...], label: bool, where: str) -> np.ndarray | None:
    if value is None:
        return None
    mask = to_array(value)
    if mask.shape != shape:
        raise ValueError(f"the mask of {where} has shape {mask.shape}, its map {shape}; resize one to the other.")
    if mask.dtype.kind == "f" and np.isnan(mask).any():
        raise ValueError(f"the mask of {where} holds NaN; expected 0 where normal, above 0 where anomalous.")
    mask = mask > 0
    if not label and mask.any():
        raise ValueError(
            f"{where} is labelled normal, but its mask marks {mask.sum()} pixels; correct one of the two."
        )
    return mask
