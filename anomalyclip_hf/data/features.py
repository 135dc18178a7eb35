# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Decode the columns image and mask of a dataset: every format that the package reads, masks as 0 and 255."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import datasets
from datasets.features.features import register_feature
from datasets.utils.file_utils import is_local_path
from PIL import Image

from ..image_processing_anomalyclip import load_image, load_mask


@dataclass
class AnomalyImage(datasets.Image):
    """Decode an image to upright RGB, whatever its format and mode.

    `dataset.cast_column("image", datasets.Image())` turns it into the standard feature of `datasets`.
    """

    _type: str = field(default="AnomalyImage", init=False, repr=False)

    def decode_example(self, value: Any, token_per_repo_id: dict | None = None) -> Image.Image:
        """Decode `{"bytes", "path"}`; errors are ValueErrors of one line that name the file."""
        if not isinstance(value, dict) or _is_remote(value):
            return load_image(super().decode_example(value, token_per_repo_id))
        return load_image(value)


@dataclass
class AnomalyMask(datasets.Image):
    """Decode a mask to mode L, 0 where normal and 255 where anomalous.

    Args:
        mask_rule (`str`): `"auto"`, `"classes"` or `"nonzero"`, see [`load_mask`].
    """

    mask_rule: str = field(default="auto", compare=False)  # datasets with different rules can be joined
    _type: str = field(default="AnomalyMask", init=False, repr=False)

    def decode_example(self, value: Any, token_per_repo_id: dict | None = None) -> Image.Image:
        """Decode `{"bytes", "path"}`, and warn when no pixel is anomalous."""
        if not isinstance(value, dict) or _is_remote(value):
            value = super().decode_example(value, token_per_repo_id)
        anomalous = load_mask(value, self.mask_rule)
        if not anomalous.any():
            name = (value.get("path") if isinstance(value, dict) else None) or "a mask"
            warnings.warn(f"{name} is empty: it marks nothing, though its image is anomalous.", stacklevel=2)
        return Image.fromarray(anomalous).convert("L")


def _is_remote(value: dict) -> bool:
    return value.get("bytes") is None and value.get("path") is not None and not is_local_path(value["path"])


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*experimental")  # there is no other way to add a feature
    register_feature(AnomalyImage, "AnomalyImage")
    register_feature(AnomalyMask, "AnomalyMask")
