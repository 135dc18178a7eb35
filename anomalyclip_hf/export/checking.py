# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compare an exported model with the original."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..modeling_anomalyclip import AnomalyCLIPModel, gaussian_smooth
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.backends import Outputs
from ..scoring.exported import ExportedModel, read_exported
from ..scoring.runtimes import RUNTIMES
from .images import sample_images


CHECKED_IMAGES = 3
# Largest differences of scores, and of maps of one layer. INT8 has no bound that holds for every model.
TOLERANCES = {"float32": (1e-5, 1e-4), "float16": (0.02, 0.02), "bfloat16": (0.02, 0.02)}


@dataclass(frozen=True)
class Differences:
    """Hold the differences between an exported file and its model, on a few images.

    Args:
        scores (`float`): Largest difference of an image score.
        maps (`float`): Largest difference of a value of an anomaly map.
        maps_mean (`float`): Mean difference of the maps.
        batch_sizes (`tuple[int, ...]`): Batch sizes that were compared.
        file_bytes (`int`): Size of the files of the graph.
    """

    scores: float
    maps: float
    maps_mean: float
    batch_sizes: tuple[int, ...]
    file_bytes: int

    def __str__(self) -> str:
        sizes = " and ".join(str(size) for size in self.batch_sizes)
        return (
            f"{self.file_bytes / 1e6:.1f} MB; differs from the model by at most {self.scores:.1e} in scores and "
            f"{self.maps:.1e} in maps ({self.maps_mean:.1e} on average), at batch size {sizes}"
        )


def check_export(
    model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, folder: Path, images: Sequence[Image.Image] = ()
) -> Differences:
    """Run an exported model and the original on the same images, and compare the results.

    Args:
        model ([`AnomalyCLIPModel`]): The model that was exported.
        processor ([`AnomalyCLIPProcessor`]): Its processor.
        folder (`Path`): Folder of the export.
        images (`Sequence[PIL.Image.Image]`, *optional*): Images to compare; by default samples of the demo.

    Returns:
        [`Differences`]: at batch size 1 and, where the graph takes any, 2.

    Raises:
        RuntimeError: If they differ by more than the tolerance of the precision.
    """
    exported = read_exported(folder)
    backend = RUNTIMES[exported.format](folder, exported)
    pictures = [*images, *sample_images(CHECKED_IMAGES)][:CHECKED_IMAGES]
    pixel_values = processor(images=pictures)["pixel_values"]
    expected = _run_model(model, pixel_values, processor.smoothing_sigma)
    if exported.input == "image":
        found = [backend.run_image(np.asarray(picture)) for picture in pictures]
    elif exported.dynamic_batch:
        found = [backend.run(pixel_values[:1].numpy()), backend.run(pixel_values[1:].numpy())]
    else:
        found = [backend.run(pixel_values.numpy())]
    scores = np.abs(np.concatenate([outputs.image_scores for outputs in found]) - expected.image_scores)
    maps = np.abs(np.concatenate([outputs.anomaly_maps for outputs in found]) - expected.anomaly_maps)
    batch_sizes = (
        tuple(dict.fromkeys(len(outputs.image_scores) for outputs in found)) if exported.dynamic_batch else (1,)
    )
    size = sum(exported.files.values())
    differences = Differences(float(scores.max()), float(maps.max()), float(maps.mean()), batch_sizes, size)
    _judge(exported, differences, is_exact=model.dtype == torch.float32 and exported.input == "pixel_values")
    return differences


@torch.inference_mode()
def _run_model(model: AnomalyCLIPModel, pixel_values: torch.Tensor, smoothing_sigma: float) -> Outputs:
    was_training = model.training
    outputs = model.eval()(pixel_values=pixel_values.to(model.device))
    model.train(was_training)
    maps = gaussian_smooth(outputs.anomaly_maps.float(), smoothing_sigma)
    return Outputs(outputs.image_scores.float().cpu().numpy(), maps.cpu().numpy())


def _judge(exported: ExportedModel, differences: Differences, is_exact: bool) -> None:
    """Refuse an export whose results differ too much; 16 bits and resizing in the graph have wider tolerances."""
    if exported.precision not in TOLERANCES:
        return
    scores, maps = TOLERANCES[exported.precision if is_exact else "float16"]
    maps *= exported.map_maximum
    if not (differences.scores <= scores and differences.maps <= maps):  # also refuses NaN
        raise RuntimeError(
            f"the exported file differs from the model by {differences.scores:.2g} in scores and "
            f"{differences.maps:.2g} in maps; expected at most {scores:g} and {maps:g}. Another version of the "
            "exporting packages may be at fault."
        )
