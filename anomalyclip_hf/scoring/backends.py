# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What a backend is: it runs a model on a batch of pixels, whatever the runtime."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Outputs(NamedTuple):
    """Hold what a backend returns for a batch.

    Args:
        image_scores (`np.ndarray` of shape `(batch_size,)`): Probability of abnormal, in [0, 1]; float32.
        anomaly_maps (`np.ndarray` of shape `(batch_size, height, width)`):
            Summed over the selected layers and smoothed, at the size of the pixels; float32.
        patch_features (`tuple`): For each layer that was asked for, an array of shape
            `(batch_size, num_patches, width)`, as [`~AnomalyCLIPModel.get_patch_features`] returns them; of the
            runtime's own kind and on its device.
        image_embeds (*optional*): Array of shape `(batch_size, projection_dim)`, L2-normalised, from the class token;
            where patch features were asked for.
    """

    image_scores: np.ndarray
    anomaly_maps: np.ndarray
    patch_features: tuple[Any, ...] = ()
    image_embeds: Any = None


class Backend(Protocol):
    """A runtime with a model in it.

    Args:
        name (`str`): Name of the runtime, such as `"torch"`; a backend around another adds its own.
        fingerprint (`str`): Digest of the model, and of references that it compares with; that of an exported model is
            its source's.
        precision (`str`): Precision of the computation, such as `"float32"`.
        input_size (`tuple[int, int]`): Height and width of the pixels, in pixels.
        map_maximum (`float`): Largest value that a map can have.
    """

    name: str
    precision: str
    input_size: tuple[int, int]
    map_maximum: float

    @property
    def fingerprint(self) -> str:  # noqa: D102
        ...

    def run(self, pixel_values: np.ndarray, feature_layers: Sequence[int] = ()) -> Outputs:
        """Score a batch.

        Args:
            pixel_values (`np.ndarray` of shape `(batch_size, 3, height, width)`): float32, from [`Preprocessing`].
            feature_layers (`Sequence[int]`, *optional*): Vision layers, counted from 1, whose patch features are
                returned too.

        Returns:
            [`Outputs`]

        Raises:
            MemoryError: If the device has too little memory for the batch; the caller may try a smaller one.
            ValueError: If the runtime cannot return these features.
        """
        ...


__all__ = ["Backend", "Outputs"]
