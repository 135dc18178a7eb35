# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The glocal loss of AnomalyCLIP (paper, section 3.3): cross-entropy on the image, focal and Dice on every pixel."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


FOCAL_GAMMA = 2.0
FOCAL_EPSILON = 1e-5
DICE_SMOOTHING = 1.0


class GlocalLoss(NamedTuple):
    """The total and its two parts, each a scalar; `pixel` is `None` without masks and comes before its weight."""

    total: Tensor
    image: Tensor
    pixel: Tensor | None


def glocal_loss(
    image_logits: Tensor,
    labels: Tensor,
    abnormal_maps: Sequence[Tensor] = (),
    masks: Tensor | None = None,
    pixel_loss_weight: float = 4.0,
    image_weights: Tensor | None = None,
    mask_weights: Tensor | None = None,
    image_loss_weight: float = 1.0,
) -> GlocalLoss:
    """Compute `image_loss_weight * cross_entropy(image) + pixel_loss_weight * pixel_loss`.

    Args:
        image_logits (`torch.Tensor` of shape `(batch_size, 2)`): Similarities to (normal, abnormal) over temperature.
        labels (`torch.Tensor` of shape `(batch_size,)`): 0 normal, 1 anomalous.
        abnormal_maps (sequence of `torch.Tensor` of shape `(batch_size, height, width)`):
            Probability of abnormal per selected layer, in [0, 1], at the size of the masks.
        masks (`torch.Tensor` of shape `(batch_size, height, width)`, *optional*): 1 where anomalous, 0 elsewhere.
        pixel_loss_weight (`float`, *optional*, defaults to 4.0): Weight of the pixel loss.
        image_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*):
            What each image weighs in both losses, 1 by default; an image that only fills up a batch weighs 0.
        mask_weights (`torch.Tensor` of shape `(batch_size,)`, *optional*):
            What it weighs in the pixel loss besides: 0 for an image without ground truth.
        image_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the image loss; 0 for an ablation.

    Returns:
        [`GlocalLoss`]: `total`, `image` and `pixel`.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf.losses_anomalyclip import glocal_loss

    >>> maps, masks = [torch.full((1, 4, 4), 0.5)], torch.zeros(1, 4, 4)
    >>> loss = glocal_loss(torch.zeros(1, 2), torch.tensor([0]), maps, masks)
    >>> round(loss.image.item(), 4)
    0.6931

    ```
    """
    image_loss = _weighted_mean(F.cross_entropy(image_logits.float(), labels.long(), reduction="none"), image_weights)
    total = image_loss_weight * image_loss
    if masks is None:
        return GlocalLoss(total, image_loss, None)
    if image_weights is not None and mask_weights is not None:
        mask_weights = mask_weights * image_weights
    local_loss = pixel_loss(abnormal_maps, masks, image_weights if mask_weights is None else mask_weights)
    return GlocalLoss(total + pixel_loss_weight * local_loss, image_loss, local_loss)


def pixel_loss(abnormal_maps: Sequence[Tensor], masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum focal loss, Dice of the abnormal map and Dice of the normal map over the selected layers.

    Args:
        abnormal_maps (sequence of `torch.Tensor` of shape `(batch_size, height, width)`):
            Probability of abnormal per selected layer, in [0, 1].
        masks (`torch.Tensor` of shape `(batch_size, height, width)`): 1 where anomalous, 0 elsewhere.
        weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): What each image weighs; 1 by default.

    Returns:
        `torch.Tensor`: scalar.
    """
    masks = masks.float()
    losses = [
        focal_loss(abnormal, masks, weights)
        + dice_loss(abnormal, masks, weights)
        + dice_loss(1 - abnormal, 1 - masks, weights)
        for abnormal in (layer_map.float() for layer_map in abnormal_maps)
    ]
    return torch.stack(losses).sum()


def focal_loss(abnormal_map: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary focal loss with gamma 2, no class weight, and the target clamped to [1e-5, 1 - 1e-5].

    Args:
        abnormal_map (`torch.Tensor` of shape `(batch_size, height, width)`): Probability of abnormal, in [0, 1].
        masks (`torch.Tensor` of shape `(batch_size, height, width)`): 1 where anomalous, 0 elsewhere.
        weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): What each image weighs; 1 by default.

    Returns:
        `torch.Tensor`: scalar, the mean over all pixels.
    """
    target = masks.clamp(FOCAL_EPSILON, 1 - FOCAL_EPSILON)
    true_probability = target * abnormal_map + (1 - target) * (1 - abnormal_map) + FOCAL_EPSILON
    per_pixel = -((1 - true_probability) ** FOCAL_GAMMA) * true_probability.log()
    return _weighted_mean(per_pixel.flatten(1).mean(1), weights)


def dice_loss(probability: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Dice loss per image, smoothed by 1, then averaged.

    Args:
        probability (`torch.Tensor` of shape `(batch_size, height, width)`): Probability of the class, in [0, 1].
        target (`torch.Tensor` of shape `(batch_size, height, width)`): 1 where the class is, 0 elsewhere.
        weights (`torch.Tensor` of shape `(batch_size,)`, *optional*): What each image weighs; 1 by default.

    Returns:
        `torch.Tensor`: scalar, 0 for a perfect map.
    """
    probability, target = probability.flatten(1), target.flatten(1)
    overlap = (probability * target).sum(1)
    dice = (2 * overlap + DICE_SMOOTHING) / (probability.sum(1) + target.sum(1) + DICE_SMOOTHING)
    return _weighted_mean(1 - dice, weights)


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the batch; weights are not divided by their sum, so that parts of a batch add up."""
    return losses.mean() if weights is None else (losses * weights).mean()


__all__ = ["GlocalLoss", "dice_loss", "focal_loss", "glocal_loss", "pixel_loss"]
