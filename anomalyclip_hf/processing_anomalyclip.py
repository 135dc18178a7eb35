# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Prepare images for the model, and turn its outputs into scores, labels, smoothed anomaly maps and regions."""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, CLIPImageProcessorPil, ProcessorMixin
from transformers.utils import PROCESSOR_NAME

from .configuration_anomalyclip import MAX_IMAGE_SIDE, AnomalyCLIPConfig
from .image_processing_anomalyclip import ImageSource, check_value_range, is_batch, load_image, masks_to_tensor
from .loading_anomalyclip import HubSharing, add_code, find_file, hub_arguments, take_push_arguments
from .modeling_anomalyclip import gaussian_smooth
from .postprocessing_anomalyclip import (
    IMAGE_SCORES,
    LABELS,
    check_calibration,
    check_thresholds,
    combine_scores,
    finish_map,
    is_real,
    judge,
)


MAX_SIGMA = 256  # pixels; half the paper's image
OWN_SETTINGS = (
    *("smoothing_sigma", "threshold", "pixel_threshold", "map_maximum", "value_range"),
    *("image_score", "calibration"),
)


class AnomalyCLIPProcessor(HubSharing, ProcessorMixin):
    """Prepare images for [`AnomalyCLIPModel`] and post-process its outputs.

    Args:
        image_processor ([`~transformers.CLIPImageProcessorPil`]): Resizes to the model's size without cropping.
        smoothing_sigma (`float`, *optional*, defaults to 4.0):
            Standard deviation of the Gaussian over anomaly maps, in pixels at the model's size; 0 for no smoothing.
        threshold (`float`, *optional*, defaults to 0.5): Score in [0, 1] from which an image is called anomalous.
        pixel_threshold (`float`, *optional*):
            Map value from which a pixel belongs to the mask, from 0 to `map_maximum`; by default there is no mask.
        map_maximum (`float`, *optional*, defaults to 1.0):
            Largest value that a map can have, which is the number of selected layers. Overlays show it in full red.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits, such as `(0, 4095)` for a 12-bit camera whose
            files do not say so; see `load_image`.
        image_score (`str`, *optional*, defaults to `"paper"`): How an image is scored: `"paper"`, the
            probability of abnormal for the whole image; `"fusion"`, the mean of that and the map's maximum; `"top1%"`,
            the mean of the highest 1 % of the map. See `combine_scores`.
        calibration (`dict`, *optional*): Thresholds from labelled images, as [`Calibration.to_dict`] returns them.
            Pipeline and engine use them in place of `threshold` and `pixel_threshold`, if model and settings are those
            of the calibration.

    Raises:
        ValueError: If a number is out of range, or the image processor crops or has no height and width.

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
        map_maximum: float = 1.0,
        value_range: Sequence[float] | str | None = None,
        image_score: str = "paper",
        calibration: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        if not isinstance(image_processor, CLIPImageProcessorPil):
            # Where torchvision is installed, a saved processor comes back with that backend, which rounds differently.
            image_processor = CLIPImageProcessorPil(**image_processor.to_dict())
        size = dict(image_processor.size)
        if not all(0 < (size.get(side) or 0) <= MAX_IMAGE_SIDE for side in ("height", "width")):
            raise ValueError(f"size is {size}; expected a height and a width of 1 to {MAX_IMAGE_SIDE} pixels.")
        if image_processor.do_center_crop and dict(image_processor.crop_size) != dict(image_processor.size):
            raise ValueError(
                "the image processor crops the middle, while a map shows the whole image; expected one with "
                "do_center_crop=False."
            )
        super().__init__(image_processor, **kwargs)
        if not (is_real(smoothing_sigma) and 0 <= smoothing_sigma <= MAX_SIGMA):
            raise ValueError(f"smoothing_sigma is {smoothing_sigma!r}; expected 0 to {MAX_SIGMA} pixels.")
        if not (is_real(map_maximum) and 0 < map_maximum < float("inf")):
            raise ValueError(f"map_maximum is {map_maximum!r}; expected the number of selected layers.")
        self.map_maximum = float(map_maximum)
        self.check_thresholds(threshold, pixel_threshold)
        self.smoothing_sigma = float(smoothing_sigma)
        self.threshold = float(threshold)
        self.pixel_threshold = None if pixel_threshold is None else float(pixel_threshold)
        self.value_range = check_value_range(value_range)
        if image_score not in IMAGE_SCORES:
            raise ValueError(f"image_score is {image_score!r}; expected one of {', '.join(IMAGE_SCORES)}.")
        if calibration is not None:
            check_calibration(calibration)
        self.image_score, self.calibration = image_score, calibration

    @classmethod
    def from_config(cls, config: AnomalyCLIPConfig, **kwargs: Any) -> "AnomalyCLIPProcessor":
        """Make the processor that fits a model: its image size, CLIP's mean and standard deviation.

        Args:
            config ([`AnomalyCLIPConfig`]): Configuration of the model.
            **kwargs: `smoothing_sigma`, `threshold`, `pixel_threshold`, `value_range`, `image_score`, `calibration`.

        Returns:
            [`AnomalyCLIPProcessor`]
        """
        height, width = config.input_size
        kwargs.setdefault("map_maximum", float(len(config.feature_layers or ())))
        return cls(CLIPImageProcessorPil(size={"height": height, "width": width}, do_center_crop=False), **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load a processor; if a model was saved without one, return the one that fits its configuration.

        Args:
            pretrained_model_name_or_path (`str`): Hub id or folder.
            **kwargs: As for [`~transformers.ProcessorMixin.from_pretrained`]; `smoothing_sigma`, `threshold`,
                `pixel_threshold`, `value_range` and `image_size` (int or `(height, width)`) override stored values.

        Returns:
            [`AnomalyCLIPProcessor`]

        Raises:
            OSError: If there is neither a processor nor the configuration of a model, or it is not JSON.
            ValueError: If a setting has an invalid value; the message names it.
        """
        kwargs.setdefault("trust_remote_code", False)  # None would ask at the terminal
        if (image_size := kwargs.pop("image_size", None)) is not None:
            sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
            if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
                raise ValueError(f"image_size is {image_size!r}; expected one side, or height and width, in pixels.")
            processor = cls.from_pretrained(pretrained_model_name_or_path, **kwargs)
            settings = processor.image_processor.to_dict()
            settings["size"] = dict(zip(("height", "width"), sides, strict=True))
            given = {name: getattr(processor, name) for name in OWN_SETTINGS}
            return cls(CLIPImageProcessorPil(**settings | {"crop_size": settings["size"]}), **given)
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except OSError:
            if find_file(pretrained_model_name_or_path, PROCESSOR_NAME, kwargs) is not None:
                raise  # there is one, and it cannot be read
            config = AnomalyCLIPConfig.from_pretrained(pretrained_model_name_or_path, **hub_arguments(kwargs))
            given = {name: kwargs[name] for name in OWN_SETTINGS if kwargs.get(name) is not None}
            return cls.from_config(config, **given)

    def save_pretrained(
        self, save_directory: str | os.PathLike, include_code: bool = False, **kwargs: Any
    ) -> list[str]:
        """Save the processor.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; created if missing.
            include_code (`bool`, *optional*, defaults to `False`):
                Put its code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: As for [`~transformers.ProcessorMixin.save_pretrained`]; with `push_to_hub=True`, `repo_id` and
                the arguments of [`push_to_hub`].

        Returns:
            `list[str]`: paths of the settings files.
        """
        push_arguments = take_push_arguments(kwargs, save_directory)
        paths = super().save_pretrained(save_directory, **kwargs)
        if include_code:
            add_code(save_directory)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, include_code=include_code)
        return paths

    def check_thresholds(self, threshold: float | None = None, pixel_threshold: float | None = None) -> None:
        """Check that thresholds are in the range of scores and map values; see [`check_thresholds`]."""
        check_thresholds(threshold, pixel_threshold, self.map_maximum)

    def check_model(self, config: AnomalyCLIPConfig) -> None:
        """Check that the processor fits a model.

        Args:
            config ([`AnomalyCLIPConfig`]): Configuration of the model.

        Raises:
            ValueError: If the processor resizes to another size than the model's.
        """
        if self.size != config.input_size:
            raise ValueError(
                f"the processor resizes to {self.size}, the model's image_size is {config.input_size}; load both with "
                "the same image_size, or save the processor again with AnomalyCLIPProcessor.from_config(model.config)."
            )

    @property
    def score_settings(self) -> dict[str, Any]:
        """Everything that scores and maps depend on beside the model and its precision."""
        images = self.image_processor
        mean, std = (images.image_mean, images.image_std) if images.do_normalize else ([0.0] * 3, [1.0] * 3)
        return {
            "image_size": list(self.size),
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "scale": float(images.rescale_factor) if images.do_rescale else 1.0,
            "resample": int(images.resample),
            "value_range": self.value_range,
            "smoothing_sigma": self.smoothing_sigma,
            "image_score": self.image_score,
        }

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
        **kwargs: Any,
    ) -> BatchFeature:
        """Read and resize images and, for training, their masks.

        Args:
            images: One image or a list; each a path, URL, bytes, PIL image or array (see `load_image`). An array of
                four axes is a batch.
            masks (*optional*): One mask or a list, `None` for a normal image; anomalous where not 0.
            return_tensors (`str`, *optional*, defaults to `"pt"`): Passed to [`~transformers.BatchFeature`].
            **kwargs: Passed to the image processor, as `do_normalize=False`.

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
        pictures = [load_image(source, value_range=self.value_range) for source in sources]
        if self.image_processor.do_resize and not kwargs.keys() & {"do_resize", "size", "resample"}:
            # The image processor gives the same result, but copies the large images to arrays.
            height, width = self.size
            pictures = [picture.resize((width, height), self.image_processor.resample) for picture in pictures]
            kwargs["do_resize"] = False
        features = self.image_processor(pictures, return_tensors=return_tensors, **kwargs)
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
        calibration: dict[str, Any] | None = None,
        is_smoothed: bool = False,
    ) -> list[dict[str, Any]]:
        """Smooth the anomaly maps at the model's size, resize them to the original size, and apply the thresholds.

        Args:
            outputs ([`AnomalyCLIPOutput`] or `dict`): With `image_scores` and `anomaly_maps`.
            target_sizes (`list[tuple[int, int]]` or `torch.Tensor` of shape `(batch_size, 2)`, *optional*):
                Original `(height, width)` of each image, in pixels. If unset, maps stay at the model's size.
            threshold (`float`, *optional*): Overrides the processor's.
            pixel_threshold (`float`, *optional*): Overrides the processor's.
            calibration (`dict`, *optional*): Thresholds to use. Pass `processor.calibration` only if it belongs to the
                model; the pipeline checks this.
            is_smoothed (`bool`, *optional*, defaults to `False`): Whether the maps are smoothed already.

        Returns:
            `list[dict]`: Per image

            - `score` (`float`): see `image_score`, in [0, 1];
            - `label` (`str`): `"anomalous"` if the score reaches the threshold, else `"normal"`;
            - `anomaly_map` (`torch.Tensor` of shape `(height, width)`): float32, 0 to the number of selected layers;
            - `mask` (`torch.Tensor` of shape `(height, width)` or `None`): bool, with a pixel threshold;
            - `regions` (`list[dict]` or `None`): with a pixel threshold, see [`find_regions`];
            - `p_value` (`float`) and `decision` (`str`): with a calibration, see [`Calibration`].

        Raises:
            ValueError: If sizes do not match the batch, a threshold is out of range, or scores are not finite.
        """
        self.check_thresholds(threshold, pixel_threshold)
        for stored in (calibration or {}, vars(self)):
            threshold = stored.get("threshold") if threshold is None else threshold
            pixel_threshold = stored.get("pixel_threshold") if pixel_threshold is None else pixel_threshold
        pixel_threshold = None if pixel_threshold is None else float(pixel_threshold)
        scores = outputs["image_scores"].detach().float().cpu()
        sigma = 0 if is_smoothed else self.smoothing_sigma
        maps = gaussian_smooth(outputs["anomaly_maps"].detach().float(), sigma).cpu()
        if target_sizes is not None and len(target_sizes) != len(scores):
            raise ValueError(f"got {len(target_sizes)} target_sizes for {len(scores)} images; expected one per image.")
        if not (torch.isfinite(scores).all() and torch.isfinite(maps).all()):
            raise ValueError("the model returned NaN or infinite scores; check the pixels and the weights.")
        image_scores = combine_scores(scores.numpy(), maps.numpy(), self.map_maximum, self.image_score)
        results = []
        for index, (score, anomaly_map) in enumerate(zip(image_scores.tolist(), maps.numpy(), strict=True)):
            size = None
            if target_sizes is not None:
                size = (int(target_sizes[index][0]), int(target_sizes[index][1]))
                if min(size) < 1:
                    raise ValueError(f"target_sizes holds {size[0]}x{size[1]}; expected height and width in pixels.")
            finished = finish_map(anomaly_map, size, pixel_threshold)
            for name in ("anomaly_map", "mask"):
                finished[name] = None if finished[name] is None else torch.from_numpy(finished[name])
            results.append({"score": score, "label": LABELS[bool(score >= threshold)], **finished})
            if calibration is not None:
                results[-1] |= dict(zip(("p_value", "decision"), judge(score, calibration), strict=True))
        return results


def _as_list(items: Any) -> list[Any]:
    return list(items) if is_batch(items) else [items]


def _list_masks(masks: Any) -> list[Any]:
    """Return a list of masks, one per image; an array with a channel axis is one mask."""
    if isinstance(masks, (np.ndarray, Tensor)) and masks.ndim == 3:
        return [masks] if masks.shape[-1] in (1, 3) else list(masks)
    return _as_list(masks)


__all__ = ["AnomalyCLIPProcessor"]
