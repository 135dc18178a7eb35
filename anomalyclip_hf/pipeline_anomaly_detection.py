# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("anomaly-detection")`: from a picture to a score, a heat map and, with a threshold, a mask."""

import base64
import io
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import Pipeline, pipeline

from .image_processing_anomalyclip import MAX_PIXELS, ImageSource, is_batch, load_image
from .modeling_anomalyclip import AnomalyCLIPModel
from .processing_anomalyclip import AnomalyCLIPProcessor, check_thresholds, to_pil
from .sharing_anomalyclip import HubSharing, take_push_arguments


class AnomalyDetectionPipeline(HubSharing, Pipeline):
    """Find what is wrong in images of things the model has never seen.

    Made by `pipeline("anomaly-detection", model=..., device=..., dtype=..., batch_size=...)`; without a model, of the
    small demonstration model that ships with the package. A model in memory goes to this class itself.

    Args:
        model ([`AnomalyCLIPModel`]): What scores.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        **kwargs: As for [`~transformers.Pipeline`] (`device`, `batch_size`, …), and what a call takes.

    Example:
    ```python
    >>> from PIL import Image
    >>> from transformers import pipeline
    >>> import anomalyclip_hf

    >>> pipe = pipeline("anomaly-detection")
    >>> result = pipe(Image.new("RGB", (320, 200), "grey"))
    >>> sorted(result), result["anomaly_map"].size
    (['anomaly_map', 'label', 'mask', 'regions', 'score'], (320, 200))

    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor | None = None, **kwargs: Any):
        if processor is None:
            processor = AnomalyCLIPProcessor.from_config(model.config)
        super().__init__(model=model, processor=processor, **kwargs)

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        """Score one image or many.

        Args:
            images: A path, URL, bytes, PIL image or array; a list of these, an array of four axes, a column of a data
                set, also of one that is streamed, or a generator.
            **kwargs: Any of

                - threshold (`float`): score in [0, 1] from which an image is called anomalous;
                - pixel_threshold (`float`): map value from which a pixel belongs to the mask, from 0 to the number of
                  tapped layers; none gives no mask;
                - output (`str`, defaults to `"pil"`): `"pil"`, map as PIL image of mode F and mask as mode L, or
                  `"json"`, both as base64 PNG;
                - max_pixels (`int`): width times height above which an image is refused before it is decoded;
                - batch_size (`int`, defaults to 1): images per forward pass.

        Returns:
            `dict`, `list[dict]` for a list or column, or an iterator of `dict` for a generator or stream: `score`,
            `label`, `anomaly_map`, `mask` and `regions`; sizes are those of the upright input image. With
            `output="json"` the map is a 16-bit PNG in which 65535 stands for `anomaly_map_maximum`, the number of
            tapped layers.

        Raises:
            FileNotFoundError: If a path does not exist.
            ValueError: If an image cannot be read or an argument makes no sense.
        """
        if is_batch(images):
            images = list(images)  # tuples, columns of `datasets`, arrays of several images
        elif isinstance(images, Iterable) and not isinstance(images, ImageSource | Dataset):
            images = (image for image in images)  # a column that `datasets` streams
        return [] if isinstance(images, list) and not images else super().__call__(images, **kwargs)

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        output: str | None = None,
        max_pixels: int | None = None,
    ) -> tuple[dict, dict, dict]:
        if output not in (None, "pil", "json"):
            raise ValueError(f"output is {output!r}; expected 'pil' or 'json'.")
        check_thresholds(0.5 if threshold is None else threshold, pixel_threshold)
        given = {"threshold": threshold, "pixel_threshold": pixel_threshold, "output": output}
        reading = {} if max_pixels is None else {"max_pixels": max_pixels}
        return reading, {}, {name: value for name, value in given.items() if value is not None}

    def preprocess(self, image: ImageSource, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
        """Read one image; keeps its size beside the tensors."""
        picture = load_image(image, max_pixels=max_pixels)
        inputs = self.processor(images=picture)
        return {**inputs, "target_sizes": torch.tensor([[picture.height, picture.width]])}

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = self.model(pixel_values=inputs["pixel_values"])
        return {
            "image_scores": outputs.image_scores,
            "anomaly_maps": outputs.anomaly_maps,
            "target_sizes": inputs["target_sizes"],
        }

    def postprocess(
        self,
        outputs: dict[str, Any],
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        output: str = "pil",
    ) -> dict[str, Any]:
        """Bring the map of one image to its size and form."""
        result = self.processor.post_process_anomaly_detection(
            outputs, outputs["target_sizes"], threshold=threshold, pixel_threshold=pixel_threshold
        )[0]
        if output == "json":
            return _as_json(result, len(self.model.config.feature_layers))
        mask = result["mask"]
        return {**result, "anomaly_map": to_pil(result["anomaly_map"]), "mask": None if mask is None else to_pil(mask)}

    def save_pretrained(self, save_directory: str | os.PathLike, include_code: bool = False, **kwargs: Any) -> None:
        """Save model and processor, from which `pipeline("anomaly-detection", model=save_directory)` loads.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; made where missing.
            include_code (`bool`, *optional*, defaults to `False`):
                Put the code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: As for [`AnomalyCLIPModel.save_pretrained`], `prompts_only=True` for instance; with
                `push_to_hub=True`, `repo_id` and what [`push_to_hub`] takes.
        """
        push_arguments = take_push_arguments(kwargs, save_directory)
        # The base class would write the absolute path of the default model into config.json.
        self.processor.save_pretrained(save_directory)
        self.model.save_pretrained(save_directory, include_code=include_code, **kwargs)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, include_code=include_code, **kwargs)


def load_pipeline(source: str | os.PathLike, dtype: str = "auto", **settings: Any) -> AnomalyDetectionPipeline:
    """As `pipeline("anomaly-detection", model=source)`, which tells what is wrong in tracebacks; here in one line.

    Args:
        source (`str` or `os.PathLike`): Folder or Hub id.
        dtype (`str`, *optional*, defaults to `"auto"`): Precision of the weights; `"auto"` is the stored one.
        **settings: As for `pipeline`: `device`, `threshold`, ….

    Raises:
        OSError: If there is no such model, or a file of it is damaged.
        ValueError: If the model contradicts itself.
    """
    model = AnomalyCLIPModel.from_pretrained(source, dtype=dtype)
    processor = AnomalyCLIPProcessor.from_pretrained(source)
    return pipeline("anomaly-detection", model=model, processor=processor, **settings)


def _as_json(result: dict[str, Any], num_layers: int) -> dict[str, Any]:
    """Replace tensors by base64 PNG."""
    levels = (result["anomaly_map"] / num_layers * 65535).clamp(0, 65535).numpy().astype(np.uint16)
    mask = result["mask"]
    return {
        **result,
        "anomaly_map": _png(Image.fromarray(levels)),
        "anomaly_map_maximum": num_layers,
        "mask": None if mask is None else _png(to_pil(mask)),
    }


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


__all__ = ["AnomalyDetectionPipeline"]
