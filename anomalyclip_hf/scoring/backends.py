# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Backends: each runs a model on a batch of pixels, whatever the runtime."""

from typing import Protocol

import torch
from torch import Tensor

from ..modeling_anomalyclip import AnomalyCLIPModel


class Backend(Protocol):
    """A runtime with a model in it."""

    def run(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): float32, on the CPU.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: image scores of shape `(batch_size,)`, in [0, 1], and anomaly maps of
            shape `(batch_size, height, width)`, not smoothed; on any device.
        """
        ...


class TorchBackend:
    """The model in PyTorch, as it is.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision; put into evaluation mode.
    """

    def __init__(self, model: AnomalyCLIPModel):
        self.model = model.eval()

    @torch.inference_mode()
    def run(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """See [`Backend.run`]; the model itself casts the pixels, after its patch embedding."""
        outputs = self.model(pixel_values=pixel_values.to(self.model.device))
        return outputs.image_scores, outputs.anomaly_maps
