# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Images in; scores, smoothed anomaly maps, masks and regions out."""

import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from transformers import BatchFeature, CLIPImageProcessorPil, ProcessorMixin
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from .configuration_anomalyclip import AnomalyCLIPConfig
from .hub_files_anomalyclip import find_file, hub_arguments, pin_commit
from .image_processing_anomalyclip import ImageSource, is_batch, load_image, masks_to_tensor
from .limits_anomalyclip import read_json
from .processor_settings_anomalyclip import AUDIO_TOKENIZER, MAX_SIGMA, check_stored_settings
from .sharing_anomalyclip import HubSharing, add_code, take_push_arguments


KERNEL_TRUNCATION = 4.0  # standard deviations on either side
LABELS = ("normal", "anomalous")
OWN_SETTINGS = ("smoothing_sigma", "threshold", "pixel_threshold")


class AnomalyCLIPProcessor(HubSharing, ProcessorMixin):
    """Prepares images for [`AnomalyCLIPModel`] and turns its outputs into what a user looks at.

    Args:
        image_processor ([`~transformers.CLIPImageProcessorPil`]): Resizes to the model's size without cropping.
        smoothing_sigma (`float`, *optional*, defaults to 4.0):
            Standard deviation of the Gaussian over anomaly maps, in pixels at the model's size; 0 for none.
        threshold (`float`, *optional*, defaults to 0.5): Score in [0, 1] from which an image is called anomalous.
        pixel_threshold (`float`, *optional*):
            Map value from which a pixel belongs to the mask, from 0 to the number of tapped layers; none: no mask.

    Raises:
        ValueError: If a number is out of range, or the image processor crops or resizes to no height and width.

    Example:
    ```python
    >>> import torch
    >>> from PIL import Image, ImageDraw, ImageOps
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, AnomalyCLIPProcessor

    >>> processor = AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL)
    >>> model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    >>> image = Image.new("RGB", (320, 200), "grey")
    >>> with torch.no_grad():
    ...     outputs = model(**processor(images=image))
    >>> result = processor.post_process_anomaly_detection(outputs, target_sizes=[(200, 320)])[0]
    >>> result["anomaly_map"].shape
    torch.Size([200, 320])

    ```
    """

    def __init__(
        self,
        image_processor: CLIPImageProcessorPil,
        smoothing_sigma: float = 4.0,
        threshold: float = 0.5,
        pixel_threshold: float | None = None,
        **kwargs: Any,
    ):
        if not isinstance(image_processor, CLIPImageProcessorPil):
            # Where torchvision is installed, a saved processor comes back with that backend, which rounds differently.
            image_processor = CLIPImageProcessorPil(**image_processor.to_dict())
        if image_processor.size.get("height") is None or image_processor.size.get("width") is None:
            raise ValueError(f"the image processor resizes to {image_processor.size}; expected a height and a width.")
        if image_processor.do_center_crop and dict(image_processor.crop_size) != dict(image_processor.size):
            raise ValueError(
                "the image processor cuts out the middle, while a map shows the whole image; expected one with "
                "do_center_crop=False."
            )
        super().__init__(image_processor, **kwargs)
        if not (_is_real(smoothing_sigma) and 0 <= smoothing_sigma <= MAX_SIGMA):
            raise ValueError(f"smoothing_sigma is {smoothing_sigma!r}; expected 0 to {MAX_SIGMA} pixels.")
        check_thresholds(threshold, pixel_threshold)
        self.smoothing_sigma = float(smoothing_sigma)
        self.threshold = float(threshold)
        self.pixel_threshold = None if pixel_threshold is None else float(pixel_threshold)

    @classmethod
    def from_config(cls, config: AnomalyCLIPConfig, **kwargs: Any) -> "AnomalyCLIPProcessor":
        """Make the processor that fits a model: resized to `config.image_size`, CLIP's mean and deviation.

        Args:
            config ([`AnomalyCLIPConfig`]): Of the model.
            **kwargs: `smoothing_sigma`, `threshold` and `pixel_threshold`.

        Returns:
            [`AnomalyCLIPProcessor`]
        """
        height, width = config.input_size
        return cls(CLIPImageProcessorPil(size={"height": height, "width": width}, do_center_crop=False), **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a processor; a model that was saved without one gets the one that fits its configuration.

        Args:
            pretrained_model_name_or_path (`str`): Hub id or folder.
            **kwargs: As for [`~transformers.ProcessorMixin.from_pretrained`]; `smoothing_sigma`, `threshold` and
                `pixel_threshold` take the place of what is stored.

        Returns:
            [`AnomalyCLIPProcessor`]

        Raises:
            OSError: If there is neither a processor nor the configuration of a model, or it is no JSON.
            ValueError: If a setting has a value that makes no sense; the message names it.
        """
        kwargs = pin_commit(pretrained_model_name_or_path, kwargs)
        if (path := find_file(pretrained_model_name_or_path, AUDIO_TOKENIZER, **kwargs)) is not None:
            raise ValueError(f"{path} is there; expected no audio tokenizer with a model of images. Remove it.")
        names = (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME)
        paths = [find_file(pretrained_model_name_or_path, name, **kwargs) for name in names]
        kwargs.pop("force_download", None)  # done, and checked
        for path in filter(None, paths):
            check_stored_settings(read_json(path), path, needs_image_processor=paths[1] is None)
        kwargs.setdefault("trust_remote_code", False)  # None would ask at the terminal
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except OSError:
            if paths[0] is not None:
                raise  # there is one, and it cannot be read
            config = AnomalyCLIPConfig.from_pretrained(pretrained_model_name_or_path, **hub_arguments(kwargs))
            given = {name: kwargs[name] for name in OWN_SETTINGS if kwargs.get(name) is not None}
            return cls.from_config(config, **given)

    def save_pretrained(
        self, save_directory: str | os.PathLike, include_code: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save the processor.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; made where missing.
            include_code (`bool`, *optional*, defaults to `False`):
                Put its code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: As for [`~transformers.ProcessorMixin.save_pretrained`]; with `push_to_hub=True`, `repo_id` and
                what [`push_to_hub`] takes.

        Returns:
            `list[str]`: paths of the files with settings.
        """
        push_arguments = take_push_arguments(kwargs, save_directory)
        paths = super().save_pretrained(save_directory, **kwargs)
        if include_code:
            add_code(save_directory)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, include_code=include_code)
        return paths

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, to which images are resized."""
        size = self.image_processor.size
        return size["height"], size["width"]

    def __call__(
        self,
        images: ImageSource | Sequence[ImageSource],
        masks: Any = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Read and resize images and, for training, their masks.

        Args:
            images: One image or a list; each a path, URL, bytes, PIL image or array (see `load_image`). An array of
                four axes is a batch.
            masks (*optional*): One mask or a list, `None` for a normal image; anomalous where not 0.
            return_tensors (`str`, *optional*, defaults to `"pt"`): Passed to [`~transformers.BatchFeature`].

        Returns:
            [`~transformers.BatchFeature`]: `pixel_values` of shape `(batch_size, 3, height, width)` and, with masks,
            `masks` of shape `(batch_size, height, width)`.

        Raises:
            FileNotFoundError: If a path does not exist.
            ValueError: If an image cannot be read, or the numbers of images and masks differ.
        """
        sources = _as_list(images)
        if not sources:
            raise ValueError("images is empty; expected at least one image.")
        pictures = [load_image(source) for source in sources]
        features = self.image_processor(pictures, return_tensors=return_tensors)
        if masks is not None:
            mask_list = _list_masks(masks)
            if len(mask_list) != len(pictures):
                raise ValueError(
                    f"got {len(mask_list)} masks for {len(pictures)} images; give None for a normal image."
                )
            features.update(BatchFeature({"masks": masks_to_tensor(mask_list, self.size)}, tensor_type=return_tensors))
        return features

    def post_process_anomaly_detection(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """Smooth the maps at the model's size, bring them to the original size, and cut out what is anomalous.

        Args:
            outputs ([`AnomalyCLIPOutput`] or `dict`): With `image_scores` and `anomaly_maps`.
            target_sizes (`list[tuple[int, int]]` or `torch.Tensor` of shape `(batch_size, 2)`, *optional*):
                Original `(height, width)` of each image, in pixels. If unset, maps stay at the model's size.
            threshold (`float`, *optional*): Overrides the processor's.
            pixel_threshold (`float`, *optional*): Overrides the processor's.

        Returns:
            `list[dict]`: Per image

            - `score` (`float`): probability of abnormal, in [0, 1];
            - `label` (`str`): `"anomalous"` from the threshold on, else `"normal"`;
            - `anomaly_map` (`torch.Tensor` of shape `(height, width)`): float32, 0 to the number of tapped layers;
            - `mask` (`torch.Tensor` of shape `(height, width)` or `None`): bool, with a pixel threshold;
            - `regions` (`list[dict]` or `None`): with a pixel threshold, 8-connected, the highest peak first; each
              `box` (`[left, top, right, bottom]`, pixels, right and bottom exclusive), `area` (pixels) and `score`
              (the map's peak).

        Raises:
            ValueError: If sizes do not match the batch, a threshold makes no sense, or scores are not finite.
        """
        threshold = self.threshold if threshold is None else threshold
        pixel_threshold = self.pixel_threshold if pixel_threshold is None else pixel_threshold
        check_thresholds(threshold, pixel_threshold)
        scores, maps = outputs["image_scores"].detach().float().cpu(), outputs["anomaly_maps"].detach().float().cpu()
        if target_sizes is not None and len(target_sizes) != len(scores):
            raise ValueError(f"got {len(target_sizes)} target_sizes for {len(scores)} images; expected one per image.")
        if not (torch.isfinite(scores).all() and torch.isfinite(maps).all()):
            raise ValueError("the model gave NaN or infinite scores; check the pixels and the weights that went in.")

        smoothed = gaussian_smooth(maps, self.smoothing_sigma)
        results = []
        for index, (score, anomaly_map) in enumerate(zip(scores.tolist(), smoothed, strict=True)):
            if target_sizes is not None:
                height, width = (int(side) for side in target_sizes[index])
                if min(height, width) < 1:
                    raise ValueError(f"target_sizes holds {height}x{width}; expected height and width in pixels.")
                anomaly_map = F.interpolate(anomaly_map[None, None], size=(height, width), mode="bilinear")[0, 0]
            mask = None if pixel_threshold is None else anomaly_map >= pixel_threshold
            results.append(
                {
                    "score": score,
                    "label": LABELS[bool(score >= threshold)],
                    "anomaly_map": anomaly_map,
                    "mask": mask,
                    "regions": None if mask is None else find_regions(anomaly_map, mask),
                }
            )
        return results


def _as_list(items: Any) -> list[Any]:
    return list(items) if is_batch(items) else [items]


def _list_masks(masks: Any) -> list[Any]:
    """A list of masks, one per image; a mask's own channel is no batch."""
    if isinstance(masks, (np.ndarray, Tensor)) and masks.ndim == 3:
        return [masks] if masks.shape[-1] in (1, 3) else list(masks)
    return _as_list(masks)


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth with a Gaussian truncated at four standard deviations, the border mirrored edge pixel included.

    This is `scipy.ndimage.gaussian_filter` with its default border (`reflect`; numpy calls it `symmetric`).

    Args:
        maps (`torch.Tensor` of shape `(batch_size, height, width)`): What to smooth.
        sigma (`float`): Standard deviation in pixels; 0 returns the maps as they are.

    Returns:
        `torch.Tensor` of shape `(batch_size, height, width)`
    """
    radius = int(KERNEL_TRUNCATION * sigma + 0.5)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps)
    for dimension in (1, 2):
        length = maps.shape[dimension]
        # Mirroring repeats with period 2 * length, so that maps smaller than the kernel work too.
        index = torch.arange(-radius, length + radius, device=maps.device) % (2 * length)
        padded = maps.index_select(dimension, torch.minimum(index, 2 * length - 1 - index))
        shape = [1, 1, 1, 1]
        shape[dimension + 1] = -1
        maps = F.conv2d(padded[:, None], kernel.view(shape))[:, 0]
    return maps


def find_regions(anomaly_map: Tensor, mask: Tensor) -> list[dict[str, Any]]:
    """Find the 8-connected regions of a mask, the highest peak first.

    Args:
        anomaly_map (`torch.Tensor` of shape `(height, width)`): Where peaks are read.
        mask (`torch.Tensor` of shape `(height, width)`): bool.

    Returns:
        `list[dict]`: `box` (`[left, top, right, bottom]`, pixels, exclusive), `area` (pixels), `score` (peak).

    Raises:
        ImportError: If scipy is not installed.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("regions need scipy; install it with `pip install scipy`.") from error
    labelled, count = ndimage.label(mask.numpy(), structure=torch.ones(3, 3).numpy())
    numbers = range(1, count + 1)
    areas = ndimage.sum_labels(mask.numpy(), labelled, numbers)
    peaks = ndimage.maximum(anomaly_map.numpy(), labelled, numbers)
    regions = [
        {"box": [columns.start, rows.start, columns.stop, rows.stop], "area": int(area), "score": float(peak)}
        for (rows, columns), area, peak in zip(ndimage.find_objects(labelled), areas, peaks, strict=True)
    ]
    return sorted(regions, key=lambda region: region["score"], reverse=True)


def to_pil(values: Tensor) -> Image.Image:
    """An anomaly map as a PIL image of mode F, a mask as one of mode L with 0 and 255; shape `(height, width)`."""
    return Image.fromarray((values.to(torch.uint8) * 255 if values.dtype == torch.bool else values).numpy())


def draw_overlay(
    image: Image.Image,
    anomaly_map: Image.Image,
    maximum: float | None = None,
    regions: Sequence[dict[str, Any]] | None = None,
    opacity: float = 0.7,
) -> Image.Image:
    """Lay a heat map over its image: blue and faint where little speaks of a defect, red where much does.

    Args:
        image (`PIL.Image.Image`): In mode RGB.
        anomaly_map (`PIL.Image.Image`): In mode F, of the same size.
        maximum (`float`, *optional*): Map value that is drawn in full red. Defaults to the map's own peak, which shows
            where to look first and says nothing about how much is wrong: that is the score.
        regions (`list[dict]`, *optional*): Their boxes are drawn.
        opacity (`float`, *optional*, defaults to 0.7): Of the heat map at the maximum, in [0, 1].

    Returns:
        `PIL.Image.Image`: in mode RGB.
    """
    peak = float(anomaly_map.getextrema()[1]) if maximum is None else maximum  # type: ignore[arg-type]
    scale = 255 / max(peak, 1e-12)
    # Pillow takes a function for float images only in the form of scale and offset.
    level = anomaly_map.point(lambda value: value * scale + 0).convert("L")
    colours = ImageOps.colorize(level, black="blue", mid="yellow", white="red")
    overlay = Image.composite(colours, image, level.point(lambda value: value * opacity))
    draw = ImageDraw.Draw(overlay)
    for region in regions or ():
        left, top, right, bottom = region["box"]
        draw.rectangle((left, top, right - 1, bottom - 1), outline="red")
    return overlay


def check_thresholds(threshold: float, pixel_threshold: float | None) -> None:
    """Refuse thresholds that make no sense.

    Raises:
        ValueError: naming the threshold, its value and what is allowed.
    """
    if not (_is_real(threshold) and 0 <= threshold <= 1):
        raise ValueError(f"threshold is {threshold!r}; expected a score from 0 to 1.")
    if pixel_threshold is not None and not (_is_real(pixel_threshold) and 0 <= pixel_threshold < float("inf")):
        raise ValueError(f"pixel_threshold is {pixel_threshold!r}; expected a map value, 0 or more.")


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0)


__all__ = ["AnomalyCLIPProcessor", "check_thresholds", "draw_overlay", "find_regions", "gaussian_smooth"]
