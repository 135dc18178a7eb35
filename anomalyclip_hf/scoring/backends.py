# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Backends: each runs a model on a batch of pixels, whatever the runtime."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from transformers.utils import logging

from ..modeling_anomalyclip import AnomalyCLIPModel


logger = logging.get_logger(__name__)


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
    """Run the model in PyTorch as it is, with its prompts as they are when the backend is created.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision; put into evaluation mode.
    """

    def __init__(self, model: AnomalyCLIPModel):
        self.model = model.eval()
        with torch.no_grad():
            self.text_embeds = model.get_text_embeds()  # once, so that the forward has no state and no wait

    @torch.inference_mode()
    def run(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """See [`Backend.run`]; the model itself casts the pixels, after its patch embedding."""
        return self._forward(pixel_values.to(self.model.device, non_blocking=True))

    def _forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(pixel_values=pixel_values, text_embeds=self.text_embeds)
        return outputs.image_scores, outputs.anomaly_maps


class CompiledBackend(TorchBackend):
    """Run the model through `torch.compile`, in one shape: smaller batches are padded.

    The first batch waits for the compiler, which takes up to some minutes and pays for thousands of images. Where the
    compiler does not work, a warning says so and the model runs as it is.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision; put into evaluation mode.
        batch_size (`int`): Size of all batches.
    """

    def __init__(self, model: AnomalyCLIPModel, batch_size: int):
        super().__init__(model)
        self.batch_size = batch_size
        self.compiled: Callable | None = torch.compile(self._forward, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def run(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """See [`Backend.run`]."""
        if self.compiled is None or pixel_values.shape[0] > self.batch_size:
            return super().run(pixel_values)
        count = pixel_values.shape[0]
        padding = pixel_values.new_zeros(self.batch_size - count, *pixel_values.shape[1:])
        padded = torch.cat([pixel_values, padding]).to(self.model.device, non_blocking=True)
        try:
            scores, maps = self.compiled(padded)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("torch.compile does not work here (%s); going on without it.", reason)
            self.compiled = None
            return super().run(pixel_values)
        return scores[:count], maps[:count]
