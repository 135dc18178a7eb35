# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Define `pipeline("anomaly-detection")`: scores, heat maps and, with a pixel threshold, masks and regions."""

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset
from transformers import Pipeline
from transformers.utils import logging

from .image_processing_anomalyclip import MAX_PIXELS, ImageSource, is_batch, is_image, load_image
from .loading_anomalyclip import HubSharing, model_fingerprint, take_push_arguments
from .modeling_anomalyclip import AnomalyCLIPModel, AnomalyMapHead
from .postprocessing_anomalyclip import describe_stale, precision_settings, to_pil
from .processing_anomalyclip import AnomalyCLIPProcessor


DEMONSTRATION_MODEL = Path(__file__).parent / "assets" / "default_model"
DEMONSTRATION_NOTE = (
    "This is the small demonstration model: image AUROC 0.67 and 0.87 on the two real sets in "
    "its card. Expect chance on subtle defects; for real work use a real CLIP."
)

logger = logging.get_logger(__name__)


class AnomalyDetectionPipeline(HubSharing, Pipeline):
    """Detect anomalies in images of objects that the model was not trained on.

    Create it with `pipeline("anomaly-detection", model=..., device=..., dtype=..., batch_size=...)`. Without a model,
    the small demonstration model in the package is used, with a warning. Pass a model in memory to this class
    directly.

    Args:
        model ([`AnomalyCLIPModel`]): Model that computes the scores.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        **kwargs: Arguments of [`~transformers.Pipeline`] (`device`, `batch_size`, …) and of a call.

    Raises:
        ValueError: If the processor resizes to another size than the model's.

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
        processor.check_model(model.config)
        if Path(model.name_or_path) == DEMONSTRATION_MODEL:
            logger.warning_once(DEMONSTRATION_NOTE)
        super().__init__(model=model, processor=processor, **kwargs)
        self.calibration = self._valid_calibration()
        self._map_head = AnomalyMapHead(model.config.input_size, self.processor.smoothing_sigma)

    def __call__(self, images: Any, **kwargs: Any) -> Any:
        """Score one image or several.

        Args:
            images: A path, URL, file object, bytes, PIL image or array; a list of these; an array of four axes; a
                dataset with a column `image`, or such a column, also streamed; or a generator.
            **kwargs: Any of

                - threshold (`float`): score in [0, 1] from which an image is called anomalous;
                - pixel_threshold (`float`): map value from which a pixel belongs to the mask, from 0 to the number of
                  selected layers; by default there is no mask;
                - output (`str`, defaults to `"pil"`): `"pil"`, the map as PIL image of mode F and the mask of mode L;
                  `"json"`, both as base64 PNG;
                - on_error (`str`, defaults to `"raise"`): what to do if an image cannot be read: `"raise"`, or
                  `"skip"`, where the result of that image has only the entry `error`;
                - references ([`ReferenceMemory`]): memory of normal images to compare with;
                - max_pixels (`int`): width times height above which an image is refused before it is decoded;
                - batch_size (`int`, defaults to 1): images per forward pass;
                - num_workers (`int`, defaults to 0): processes that read images, of a generator or stream at most one.
                  If the system kills one, as when memory is short, a list, dataset or column goes on without them,
                  with a warning.

        Returns:
            `dict`, `list[dict]` for a list or column, or an iterator of `dict` for a generator or stream: `score`,
            `label`, `anomaly_map`, `mask` and `regions`; sizes are those of the upright input image. A calibrated
            model gives `p_value` and `decision` too, see [`Calibration`]. With
            `output="json"` the map is a 16-bit PNG in which 65535 stands for `anomaly_map_maximum`, the number of
            selected layers.

        Raises:
            FileNotFoundError: If a path does not exist.
            ValueError: If an image cannot be read, an argument is out of range, or `references` is not a memory.
        """
        if hasattr(images, "read"):
            images = images.read()  # a file object is one image, though it can be iterated over
        elif is_batch(images):
            images = list(images)  # tuples, columns of datasets, arrays of several images
        elif isinstance(images, Iterable) and not (is_image(images) or isinstance(images, Dataset)):
            rows = _rows(images)  # a dataset, also streamed
            if not isinstance(images, Sized):
                return super().__call__((row for row in rows), **kwargs)
            return self._score_all(rows if hasattr(rows, "column_names") else list(rows), **kwargs)
        return self._score_all(images, **kwargs) if isinstance(images, list) else super().__call__(images, **kwargs)

    def _score_all(self, images: Sequence[Any], **kwargs: Any) -> list[dict[str, Any]]:
        """Score a list or dataset; if a worker is killed, go on without workers from where it stopped."""
        results: list[dict[str, Any]] = []
        if kwargs.get("num_workers") is None:
            kwargs["num_workers"] = self._num_workers or 0
        while True:
            workers = kwargs["num_workers"]
            rest: Dataset = Subset(images, range(len(results), len(images)))  # type: ignore[arg-type]
            try:
                for result in super().__call__(rest, **kwargs):
                    results.append(result)
                return results
            except (RuntimeError, ConnectionError, EOFError) as error:
                if not _tells_of_killed_worker(error, workers):
                    raise
                kwargs["num_workers"] = 0
            if workers:  # the system's signal may come after the error that a broken connection gives
                logger.warning(f"A worker was killed, perhaps for memory; going on without from image {len(results)}.")

    def get_iterator(
        self, inputs: Any, num_workers: int, batch_size: int, reading: dict, scoring: dict, writing: dict
    ) -> Any:
        """Embed the prompts once for all batches of a call; see [`~transformers.Pipeline`]."""
        with torch.no_grad():
            scoring = {**scoring, "text_embeds": self.model.get_text_embeds()}
        return super().get_iterator(inputs, num_workers, batch_size, reading, scoring, writing)

    def _valid_calibration(self, references: Any = None) -> dict[str, Any] | None:
        """Return the processor's calibration if it fits model, settings and references; otherwise warn."""
        calibration = self.processor.calibration
        if calibration is None:
            return None
        precision = str(self.model.dtype).removeprefix("torch.")
        settings = {**precision_settings(precision, "torch"), **self.processor.score_settings}
        if references is not None:
            settings["references"] = references.digest
        problem = describe_stale(calibration, model_fingerprint(self.model), settings)
        if problem is None:
            return calibration
        logger.warning(problem)
        return None

    def _sanitize_parameters(
        self,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        output: str | None = None,
        on_error: str | None = None,
        max_pixels: int | None = None,
        references: Any = None,
    ) -> tuple[dict, dict, dict]:
        for name, value, allowed in (("output", output, ("pil", "json")), ("on_error", on_error, ("raise", "skip"))):
            if value not in (None, *allowed):
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
        self.processor.check_thresholds(threshold, pixel_threshold)
        reading = {"on_error": on_error, "max_pixels": max_pixels}
        writing: dict[str, Any] = {"threshold": threshold, "pixel_threshold": pixel_threshold, "output": output}
        if references is not None:
            if not hasattr(references, "check_model"):
                raise ValueError(
                    f"references is a {type(references).__name__}; expected a ReferenceMemory, as "
                    "ReferenceMemory.from_images or ReferenceMemory.from_pretrained gives."
                )
            references.check_model(self.model)
            writing["calibration"] = self._valid_calibration(references) or {}
        return _without_none(reading), _without_none({"references": references}), _without_none(writing)

    def preprocess(self, image: Any, on_error: str = "raise", max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
        """Read and resize one image; return its pixels, original size and reading error."""
        error, height, width = "", 1, 1
        try:
            picture = load_image(_image_of(image), max_pixels=max_pixels, value_range=self.processor.value_range)
            height, width = picture.height, picture.width
            pixel_values = self.processor(images=picture)["pixel_values"]
        except (OSError, ValueError) as problem:
            if on_error == "raise":
                raise
            error = " ".join(str(problem).split())
            pixel_values = torch.zeros(1, 3, *self.processor.size)  # keeps the place in the batch
        return {"pixel_values": pixel_values, "target_sizes": torch.tensor([[height, width]]), "error": error}

    def _forward(
        self, inputs: dict[str, Any], references: Any = None, text_embeds: torch.Tensor | None = None
    ) -> dict[str, Any]:
        layers = () if references is None else references.settings.layers
        outputs = self.model(pixel_values=inputs["pixel_values"], text_embeds=text_embeds, patch_feature_layers=layers)
        scores, maps = outputs.image_scores.float(), self._smooth(outputs.anomaly_maps)
        if references is not None:
            combined = references.combine(
                scores.cpu().numpy(), maps.cpu().numpy(), outputs.patch_features, len(self.model.config.feature_layers)
            )
            scores, maps = (torch.from_numpy(values) for values in combined)
        sizes = {"target_sizes": inputs["target_sizes"], "error": inputs["error"]}
        return {"image_scores": scores, "anomaly_maps": maps, **sizes}

    def _smooth(self, maps: torch.Tensor) -> torch.Tensor:
        """Smooth with matrices that are kept while size and sigma stay."""
        size, sigma = (maps.shape[1], maps.shape[2]), self.processor.smoothing_sigma
        if (self._map_head.image_size, self._map_head.smoothing_sigma) != (size, sigma):
            self._map_head = AnomalyMapHead(size, sigma)
        return self._map_head.to(maps.device).smooth(maps)

    def postprocess(
        self,
        outputs: dict[str, Any],
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        output: str = "pil",
        calibration: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Resize the map of one image to its original size, and apply the thresholds."""
        if outputs["error"]:
            return {"error": outputs["error"]}
        calibration = self.calibration if calibration is None else calibration or None
        result = self.processor.post_process_anomaly_detection(
            outputs, outputs["target_sizes"], threshold, pixel_threshold, calibration, is_smoothed=True
        )[0]
        if output == "json":
            return _as_json(result, len(self.model.config.feature_layers))
        mask = result["mask"]
        return {**result, "anomaly_map": to_pil(result["anomaly_map"]), "mask": None if mask is None else to_pil(mask)}

    def save_pretrained(self, save_directory: str | os.PathLike, include_code: bool = False, **kwargs: Any) -> None:
        """Save model and processor; `pipeline("anomaly-detection", model=save_directory)` loads them again.

        Args:
            save_directory (`str` or `os.PathLike`): Folder; created if missing.
            include_code (`bool`, *optional*, defaults to `False`):
                Put the code beside it, for `trust_remote_code=True` where this package is not installed.
            **kwargs: As for [`AnomalyCLIPModel.save_pretrained`], such as `prompts_only=True`; with
                `push_to_hub=True`, `repo_id` and the arguments of [`push_to_hub`].
        """
        push_arguments = take_push_arguments(kwargs, save_directory)
        # The base class would write the absolute path of the default model into config.json.
        self.processor.save_pretrained(save_directory)
        self.model.save_pretrained(save_directory, include_code=include_code, **kwargs)
        if push_arguments is not None:
            self.push_to_hub(**push_arguments, include_code=include_code, **kwargs)


def _tells_of_killed_worker(error: Exception, workers: int) -> bool:
    """Return whether an error is the DataLoader's for a killed worker, for which PyTorch has no class of its own."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker")
    return workers > 0 and not str(error).startswith("Caught")  # errors of images in workers start so


def _rows(images: Any) -> Any:
    """Leave the images of a dataset undecoded, so that an unreadable image does not stop the others."""
    columns = getattr(images, "column_names", None)
    if columns is None:
        return images
    if "image" not in columns:
        raise ValueError(f"the dataset has the columns {', '.join(columns)}; expected one called image.")
    feature: Any = (images.features or {}).get("image")
    return images.cast_column("image", replace(feature, decode=False)) if hasattr(feature, "decode") else images


def _image_of(row: Any) -> ImageSource:
    """Take the image out of a row of a dataset; anything else is an image already."""
    return row["image"] if isinstance(row, Mapping) and "image" in row else row


def _without_none(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _as_json(result: dict[str, Any], num_layers: int) -> dict[str, Any]:
    """Encode map and mask as base64 PNG."""
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
