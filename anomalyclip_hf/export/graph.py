# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compute scores and smoothed maps from pixels in one module, which exporters can trace."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling_anomalyclip import AnomalyCLIPModel, encode_image
from ..postprocessing_anomalyclip import smoothing_matrix


class AnomalyGraph(nn.Module):
    """Compute image scores, smoothed anomaly maps and patch maps, for any batch size.

    Args:
        model ([`AnomalyCLIPModel`]): The model; it is copied to the CPU, and its prompts are embedded here.
        image_size (`tuple[int, int]`): Height and width of the pixels, in multiples of the patch.
        smoothing_sigma (`float`): Standard deviation of the Gaussian over the maps, in pixels.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Data type of the weights.
        feature_layers (`Sequence[int]`, *optional*): Layers, counted from 1, whose patch features are outputs too.
    """

    direction: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        model: AnomalyCLIPModel,
        image_size: tuple[int, int],
        smoothing_sigma: float,
        dtype: torch.dtype = torch.float32,
        feature_layers: Sequence[int] = (),
    ):
        super().__init__()
        self.clip = nn.Module()  # the vision part of CLIP
        self.clip.vision_model = copy.deepcopy(model.clip.vision_model).to("cpu", dtype)
        self.clip.visual_projection = copy.deepcopy(model.clip.visual_projection).to("cpu", dtype)
        self.dual_path, self.feature_layers = model.config.dual_path, list(feature_layers)
        self.image_size = tuple(image_size)
        patch = model.config.vision_config.patch_size
        self.grid = (image_size[0] // patch, image_size[1] // patch)
        with torch.no_grad():
            normal, abnormal = model.get_text_embeds().cpu()
        # A matrix, since some runtimes refuse a matrix times a vector; a softmax over two classes is a sigmoid.
        self.register_buffer("direction", (abnormal - normal)[:, None] / model.config.temperature)
        for name, length in zip(("rows", "columns"), self.image_size, strict=True):
            self.register_buffer(name, torch.from_numpy(smoothing_matrix(length, smoothing_sigma)))
        self.eval().requires_grad_(False)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs of `forward`, in order."""
        features = [f"patch_features_{layer}" for layer in self.feature_layers]
        return ["image_scores", "anomaly_maps", "patch_maps", *features, *(["image_embeds"] if features else [])]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Score a batch of normalised images.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`): float32.

        Returns:
            `tuple[torch.Tensor, ...]`: image scores `(batch_size,)`, anomaly maps `(batch_size, height, width)`
            summed over the selected layers and smoothed, and patch maps `(batch_size, rows, columns)`; for each of
            `feature_layers` patch features `(batch_size, num_patches, width)`, and then normalised
            image embeddings `(batch_size, projection_dim)`.
        """
        image_embeds, patch_embeds, patch_features = encode_image(
            self.clip, pixel_values, **self.dual_path, patch_feature_layers=self.feature_layers
        )
        image_embeds = F.normalize(image_embeds.float(), dim=-1)
        patch_maps = sum(
            self._probability(F.normalize(embeds.float(), dim=-1)).unflatten(1, self.grid) for embeds in patch_embeds
        )
        maps = F.interpolate(patch_maps[:, None], size=self.image_size, mode="bilinear", align_corners=False)[:, 0]
        outputs = self._probability(image_embeds), self.rows @ maps @ self.columns.T, patch_maps
        return (*outputs, *patch_features, image_embeds) if self.feature_layers else outputs

    def _probability(self, embeds: Tensor) -> Tensor:
        """Return the probability of abnormal of normalised embeddings `(..., projection_dim)`."""
        return (embeds @ self.direction).sigmoid()[..., 0]


class ImageGraph(nn.Module):
    """Resize and normalise an image as Pillow and the processor do, and run a graph on it.

    Args:
        graph ([`AnomalyGraph`]): Graph that takes the pixels.
        mean (`Sequence[float]`): Mean of each channel, for values in [0, 1].
        std (`Sequence[float]`): Standard deviation of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, graph: AnomalyGraph, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.detector = graph  # a traced module cannot have an attribute called graph
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Score one image.

        Args:
            image (`torch.Tensor` of shape `(1, height, width, 3)`): uint8, RGB, of any size.

        Returns:
            `tuple[torch.Tensor, ...]`: as [`AnomalyGraph`].
        """
        height, width = self.detector.image_size
        pixels = image.permute(0, 3, 1, 2).float()
        pixels = _round(pixels @ resize_matrix(image.shape[2], width).T)  # Pillow rounds after each of the two passes
        pixels = _round(resize_matrix(image.shape[1], height) @ pixels)
        return self.detector((pixels - self.mean) / self.std)


def _round(pixels: Tensor) -> Tensor:
    return (pixels + 0.5).floor().clamp(0, 255)


def resize_matrix(length: int, target: int) -> Tensor:
    """Return the matrix that resizes one axis: cubic with a = -0.5, widened when shrinking, as Pillow's bicubic.

    Plain operations are used because not every runtime follows the `antialias` of ONNX' Resize.

    Args:
        length (`int`): Pixels of the image along the axis.
        target (`int`): Pixels of the result.

    Returns:
        `torch.Tensor` of shape `(target, length)`: float32; rows add to 1.

    Example:
    ```python
    >>> from anomalyclip_hf.export.graph import resize_matrix

    >>> resize_matrix(4, 2).sum(1)
    tensor([1., 1.])

    ```
    """
    source = torch.arange(length, dtype=torch.float32) + 0.5
    scale = (source[-1:] + 0.5) / target  # the length as a tensor, so that the exported graph takes any length
    centre = (torch.arange(target, dtype=torch.float32)[:, None] + 0.5) * scale
    distance = ((source - centre) / scale.clamp(min=1)).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros(())))
    return weights / weights.sum(1, keepdim=True)
