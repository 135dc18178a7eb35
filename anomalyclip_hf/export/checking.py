# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Check what is to be exported, and compare what was exported with the model."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..assets import EXAMPLE_IMAGES
from ..image_processing_anomalyclip import load_image
from ..modeling_anomalyclip import AnomalyCLIPModel, gaussian_smooth
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import ExportedModel, read_exported
from ..scoring.inputs import find_images
from ..scoring.runtimes import RUNTIMES


MOST_IMAGES = 64  # for calibration; more hardly change the ranges
CHECKED_IMAGES = 3
# Largest differences of scores, and of maps of one layer. INT8 has no bound that holds for every model.
TOLERANCES = {"float32": (1e-5, 1e-4), "float16": (0.02, 0.02), "bfloat16": (0.02, 0.02)}


@dataclass(frozen=True)
class Differences:
    """Hold the differences between an exported file and its model.

    Args:
        scores (`float`): Largest difference of an image score.
        maps (`float`): Largest difference of a value of an anomaly map.
        maps_mean (`float`): Mean difference of the maps.
        batch_sizes (`tuple[int, ...]`): Numbers of images at once that were compared.
        bytes (`int`): Size of the files of the graph.
    """

    scores: float
    maps: float
    maps_mean: float
    batch_sizes: tuple[int, ...]
    bytes: int


def check_settings(
    model: AnomalyCLIPModel,
    processor: AnomalyCLIPProcessor | None,
    image_size: int | tuple[int, int] | None,
    feature_layers: Sequence[int],
) -> AnomalyCLIPProcessor:
    """Check what is to be exported.

    Args:
        model ([`AnomalyCLIPModel`]): The model.
        processor ([`AnomalyCLIPProcessor`], *optional*): Its processor.
        image_size (`int` or `tuple[int, int]`, *optional*): Height and width that the graph is made for.
        feature_layers (`Sequence[int]`): Layers whose patch features are outputs.

    Returns:
        [`AnomalyCLIPProcessor`]: of this image size.

    Raises:
        ValueError: If the size is no multiple of the patch, the processor has another size, or there is no such layer.
    """
    config = copy.deepcopy(model.config)
    if image_size is not None:
        config.image_size = image_size if isinstance(image_size, int) else list(image_size)
        config.check()
    processor = processor or AnomalyCLIPProcessor.from_config(config)
    processor.check_model(config)
    count = config.vision_config.num_hidden_layers
    if not all(1 <= layer <= count for layer in feature_layers):
        raise ValueError(f"feature_layers is {list(feature_layers)}; expected layers from 1 to {count}.")
    return processor


def load_images(images: Any) -> list[Image.Image]:
    """Load the images that ranges are measured on.

    Args:
        images (`str`, `os.PathLike` or `Sequence`): Folder, or list of what `load_image` takes; of more than
            64 images, 64 are taken at equal distances.

    Returns:
        `list[PIL.Image.Image]`: in mode RGB.

    Raises:
        OSError: If there is no such folder.
        ValueError: If there are no images, or one cannot be read.
    """
    sources = [images] if isinstance(images, str | os.PathLike) else list(images)
    if all(isinstance(source, str | os.PathLike) for source in sources):
        found, problems = find_images([str(source) for source in sources])
        if problems:
            raise ValueError(f"calibration images: {next(iter(problems.values()))}")
        sources = [image.source for image in found]
    if not sources:
        raise ValueError("calibration_images is empty; expected some images like those that will be scored.")
    step = max(1.0, len(sources) / MOST_IMAGES)
    return [load_image(sources[int(index * step)]) for index in range(min(len(sources), MOST_IMAGES))]


def check_export(
    model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, folder: Path, images: Sequence[Image.Image] = ()
) -> Differences:
    """Run an exported file and the model on the same images.

    Args:
        model ([`AnomalyCLIPModel`]): The model that was exported.
        processor ([`AnomalyCLIPProcessor`]): Its processor.
        folder (`Path`): Of the export.
        images (`Sequence[PIL.Image.Image]`, *optional*): Images to compare; by default samples of the demo.

    Returns:
        [`Differences`]: of batches of one and of three images.

    Raises:
        RuntimeError: If they differ by more than the precision explains.
    """
    exported = read_exported(folder)
    backend = RUNTIMES[exported.format](folder, exported)
    pictures = [*images, *_samples()][:CHECKED_IMAGES]
    pixel_values = processor(images=pictures)["pixel_values"]
    expected_scores, expected_maps = _run_model(model, pixel_values, processor.smoothing_sigma)
    parts = [range(0, 1), range(CHECKED_IMAGES)] if exported.dynamic_batch else [range(0, 1), range(1, 2)]
    scores, maps = [], []
    for part in parts:
        if exported.input == "image":
            found = backend.run_image(np.asarray(pictures[part[0]]))
        else:
            found = backend.run(pixel_values[part.start : part.stop].numpy())
        scores.append(np.abs(found.image_scores - expected_scores[part.start : part.stop]))
        maps.append(np.abs(found.anomaly_maps - expected_maps[part.start : part.stop]))
    differences = Differences(
        scores=float(max(values.max() for values in scores)),
        maps=float(max(values.max() for values in maps)),
        maps_mean=float(np.mean([values.mean() for values in maps])),
        batch_sizes=tuple(dict.fromkeys(len(part) for part in parts)),
        bytes=sum(exported.files.values()),
    )
    _judge(exported, differences, exact=model.dtype == torch.float32 and exported.input == "pixel_values")
    return differences


@torch.inference_mode()
def _run_model(
    model: AnomalyCLIPModel, pixel_values: torch.Tensor, smoothing_sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    was_training = model.training
    outputs = model.eval()(pixel_values=pixel_values.to(model.device))
    model.train(was_training)
    maps = gaussian_smooth(outputs.anomaly_maps.float(), smoothing_sigma)
    return outputs.image_scores.float().cpu().numpy(), maps.cpu().numpy()


def _samples() -> list[Image.Image]:
    """Return the sample images of the demo, or noise where the package comes without them."""
    paths = sorted(EXAMPLE_IMAGES.glob("*.png"))[:CHECKED_IMAGES] if EXAMPLE_IMAGES.is_dir() else []
    if len(paths) == CHECKED_IMAGES:
        return [load_image(path) for path in paths]
    noise = np.random.default_rng(0).integers(0, 256, (CHECKED_IMAGES, 24, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((320, 240)) for pixels in noise]


def _judge(exported: ExportedModel, differences: Differences, exact: bool) -> None:
    if exported.precision not in TOLERANCES:
        return
    scores, maps = TOLERANCES[exported.precision if exact else "float16"]
    if not (differences.scores <= scores and differences.maps <= maps * exported.map_maximum):  # also refuses NaN
        raise RuntimeError(
            f"the exported file differs from the model by {differences.scores:.2g} in scores and "
            f"{differences.maps:.2g} in maps; expected at most {scores:g} and {maps * exported.map_maximum:g}. "
            "Another version of the exporting packages may be at fault."
        )
