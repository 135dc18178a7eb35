# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Backends that run the model in PyTorch, as it is or compiled."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from ..loading_anomalyclip import model_fingerprint
from ..modeling_anomalyclip import AnomalyCLIPModel, AnomalyMapHead
from .backends import Outputs


logger = logging.get_logger(__name__)


class TorchBackend:
    """Run the model in PyTorch as it is, with its prompts as they are when the backend is created.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision; put into evaluation mode.
        smoothing_sigma (`float`, *optional*, defaults to 4.0): See [`AnomalyMapHead`].
    """

    name = "torch"

    def __init__(self, model: AnomalyCLIPModel, smoothing_sigma: float = 4.0):
        self.model = model.eval()
        self.precision = str(model.dtype).removeprefix("torch.")
        self.input_size = model.config.input_size
        self.map_maximum = float(len(model.config.feature_layers or ()))
        self.head = AnomalyMapHead(self.input_size, smoothing_sigma).to(model.device)
        with torch.no_grad():
            self.text_embeds = model.get_text_embeds()  # once, so that the forward has no state and no wait

    @cached_property
    def fingerprint(self) -> str:
        """See [`Backend`]."""
        return model_fingerprint(self.model)

    @torch.inference_mode()
    def run(self, pixel_values: np.ndarray, feature_layers: Sequence[int] = ()) -> Outputs:
        """See [`Backend.run`]; the model itself casts the pixels, after its patch embedding."""
        pixels = torch.from_numpy(pixel_values)
        try:
            if self.model.device.type == "cuda":
                pixels = pixels.pin_memory().to(self.model.device, non_blocking=True)
            scores, maps, features, image_embeds = self._compute(pixels.to(self.model.device), feature_layers)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
                raise MemoryError(str(error).splitlines()[0]) from error
            raise
        return Outputs(scores.cpu().numpy(), maps.cpu().numpy(), features, image_embeds if feature_layers else None)

    def _compute(self, pixel_values: Tensor, feature_layers: Sequence[int]) -> tuple[Any, ...]:
        return self._forward(pixel_values, tuple(feature_layers))

    def _forward(self, pixel_values: Tensor, feature_layers: tuple[int, ...]) -> tuple[Any, ...]:
        outputs = self.model(
            pixel_values=pixel_values, text_embeds=self.text_embeds, patch_feature_layers=feature_layers
        )
        maps = self.head.smooth(outputs.anomaly_maps)
        return outputs.image_scores.float(), maps, outputs.patch_features or (), outputs.image_embeds


class CompiledBackend(TorchBackend):
    """Run the model through `torch.compile`, in one shape: smaller batches are padded.

    The first batch waits for the compiler, which takes up to some minutes and pays for thousands of images. Where the
    compiler does not work, the model runs as it is. The log tells of both.

    Args:
        model ([`AnomalyCLIPModel`]): On its device, in its precision; put into evaluation mode.
        smoothing_sigma (`float`): See [`AnomalyMapHead`].
        batch_size (`int`): Size of all batches.
    """

    name = "compile"

    def __init__(self, model: AnomalyCLIPModel, smoothing_sigma: float, batch_size: int):
        super().__init__(model, smoothing_sigma)
        self.batch_size = batch_size

    @cached_property
    def compiled(self) -> Callable | None:
        """The compiled forward pass; `None` where the compiler does not work."""
        logger.warning("compiling the model, which takes up to some minutes; later batches are faster.")
        return torch.compile(self._forward, fullgraph=True, dynamic=False)

    def _compute(self, pixel_values: Tensor, feature_layers: Sequence[int]) -> tuple[Any, ...]:
        count = pixel_values.shape[0]
        if count > self.batch_size or self.compiled is None:
            return super()._compute(pixel_values, feature_layers)
        padding = pixel_values.new_zeros(self.batch_size - count, *pixel_values.shape[1:])
        try:
            outputs = self.compiled(torch.cat([pixel_values, padding]), tuple(feature_layers))
        except torch.OutOfMemoryError:
            self.batch_size = max(1, count // 2)  # the caller goes on with batches of this size
            raise
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("torch.compile does not work here (%s); going on without it.", reason)
            self.compiled = None
            return super()._compute(pixel_values, feature_layers)
        scores, maps, features, image_embeds = outputs
        return scores[:count], maps[:count], tuple(states[:count] for states in features), image_embeds[:count]


__all__ = ["CompiledBackend", "TorchBackend", "model_fingerprint"]
