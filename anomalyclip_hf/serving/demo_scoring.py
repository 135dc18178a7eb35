# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score an image once for the demo, and draw its result as often as a slider moves."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..image_processing_anomalyclip import load_image
from ..postprocessing_anomalyclip import LABELS, draw_overlay, finish_map, judge, resize_map, to_pil
from ..scoring.engine import AnomalyScorer


DISPLAY_SIDE = 1280  # pixels; larger images are shown smaller, but scored as they are


@dataclass
class ScoredImage:
    """Hold the little that the demo keeps of an image between two moves of a slider.

    Args:
        name (`str`): Name of the file, without ending.
        picture (`PIL.Image.Image`): The image, at most `DISPLAY_SIDE` pixels wide and high.
        size (`tuple[int, int]`): Height and width of the image as uploaded, in pixels.
        score (`float`): Probability of abnormal, in [0, 1].
        anomaly_map (`np.ndarray` of shape `(height, width)`): float32, at the model's size.
    """

    name: str
    picture: Image.Image
    size: tuple[int, int]
    score: float
    anomaly_map: np.ndarray

    def full_map(self) -> np.ndarray:
        """Return the map at the size of the image as uploaded."""
        return resize_map(self.anomaly_map, self.size)

    def map_file(self) -> tuple[str, bytes]:
        """Return name and content of the map's file: TIFF, float32, one value per pixel."""
        content = io.BytesIO()
        to_pil(self.full_map()).save(content, "TIFF")
        return f"{self.name}_map.tiff", content.getvalue()

    def result_file(self, result: dict[str, Any]) -> tuple[str, bytes]:
        """Return name and content of the JSON file with a result of [`DemoModel.draw`]."""
        return f"{self.name}_result.json", json.dumps(result, indent=2).encode()


class DemoModel:
    """Score uploaded images one by one.

    Args:
        model (`str`, *optional*): Folder or Hub id; defaults to the demonstration model.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits; overrides the processor's.
        references ([`ReferenceMemory`], `str` or `os.PathLike`, *optional*): Normal images to compare with.
        tile (`int`, *optional*): Score tiles of so many pixels too, for small defects in large images.

    Raises:
        OSError: If there is no such model.
        ValueError: If it cannot be read.
    """

    def __init__(
        self, model: str | None = None, value_range: Any = None, references: Any = None, tile: int | None = None
    ):
        self.scorer = AnomalyScorer(
            model, batch_size=1, resolution="model", value_range=value_range, references=references, tile=tile
        )

    @property
    def middle(self) -> float:
        """The map value in the middle of the colours: the model's pixel threshold, or half of the scale."""
        own = self.scorer.pixel_threshold
        return self.scorer.map_maximum / 2 if own is None else own

    def score(self, path: str | Path, max_pixels: int) -> ScoredImage:
        """Run the model on the image in a file.

        Args:
            path (`str` or `Path`): The file.
            max_pixels (`int`): Width times height above which the image is refused before it is decoded.

        Returns:
            [`ScoredImage`]

        Raises:
            ValueError: If the file is not an image, damaged or too large.
        """
        path = Path(path)
        picture = load_image(path, path.name, max_pixels, self.scorer.value_range)
        (result,) = self.scorer.score([picture])
        if result.size is None or result.score is None or result.anomaly_map is None:
            raise ValueError(f"{path.name}: {result.error}")
        picture.thumbnail((DISPLAY_SIDE, DISPLAY_SIDE))
        return ScoredImage(path.stem, picture, result.size, result.score, result.anomaly_map)

    def _judge(self, score: float, threshold: float) -> dict[str, Any]:
        """Return p-value and decision at a threshold, if the model has been calibrated."""
        if self.scorer.calibration is None:
            return {}
        judged = judge(score, {**self.scorer.calibration, "threshold": threshold})
        return dict(zip(("p_value", "decision"), judged, strict=True))

    def draw(
        self, scored: ScoredImage, threshold: float, pixel_threshold: float, opacity: float
    ) -> tuple[dict[str, Any], Image.Image]:
        """Apply thresholds to a scored image and draw it; the model does not run again.

        Args:
            scored ([`ScoredImage`]): From `score`.
            threshold (`float`): Score in [0, 1] from which the image is called anomalous.
            pixel_threshold (`float`): Map value from which a pixel belongs to a region.
            opacity (`float`): Opacity of the heat map at the top of its scale, in [0, 1].

        Returns:
            `tuple[dict, PIL.Image.Image]`: The result, ready for JSON (`score`, `label`, `map_peak`, `regions`, both
            thresholds, `height` and `width`; with a calibrated model `p_value` and `decision`), and the overlay. The
            colours have the processor's fixed scale, so overlays of different images can be compared; the outlines are
            those of the regions.
        """
        height, width = scored.size
        finished = finish_map(scored.anomaly_map, scored.size, pixel_threshold)
        result = {
            "score": scored.score,
            "label": LABELS[bool(scored.score >= threshold)],
            "map_peak": float(finished["anomaly_map"].max()),
            "regions": finished["regions"],
            "threshold": threshold,
            "pixel_threshold": pixel_threshold,
            **self._judge(scored.score, threshold),
            "height": height,
            "width": width,
        }
        overlay = draw_overlay(
            scored.picture,
            scored.anomaly_map,
            self.scorer.map_maximum,
            middle=self.middle,
            mask=finished["mask"],
            opacity=opacity,
        )
        return result, overlay
