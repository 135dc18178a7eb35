# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""How `datasets` decodes the columns image and mask: any file that the package reads, masks as 0 and 255."""

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
    """An image by reference that decodes to upright RGB, whatever its format and mode.

    `dataset.cast_column("image", datasets.Image())` turns it into the feature that everybody's `datasets` knows.
    """

    _type: str = field(default="AnomalyImage", init=False, repr=False)

    def decode_example(self, value: Any, token_per_repo_id: dict | None = None) -> Image.Image:
        """Decode `{"bytes", "path"}`; ValueError in one line that names the file when that cannot be done."""
        if not isinstance(value, dict) or _is_remote(value):
            return load_image(super().decode_example(value, token_per_repo_id))
        return load_image(value)


@dataclass
class AnomalyMask(datasets.Image):
    """A mask by reference that decodes to mode L with 0 where normal and 255 where anomalous.

    Args:
        mask_rule (`str`): `"auto"`, `"classes"` or `"nonzero"`, see [`load_mask`].
    """

    mask_rule: str = field(default="auto", compare=False)  # or datasets with different rules could not be joined
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
    warnings.filterwarnings("ignore", message=".*experimental")  # it has been so for years, and is the only way
    register_feature(AnomalyImage, "AnomalyImage")
    register_feature(AnomalyMask, "AnomalyMask")
