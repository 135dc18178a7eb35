# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What the demo computes: the model runs once for an image, and what is shown of it is drawn as often as wanted."""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .. import register
from ..assets import DEFAULT_MODEL
from ..image_processing_anomalyclip import load_image
from ..pipeline_anomaly_detection import load_pipeline
from ..postprocessing_anomalyclip import draw_overlay, to_pil


DISPLAY_SIDE = 1280  # pixels; larger images are shown smaller, and scored as they are


@dataclass
class ScoredImage:
    """What stays of an image after the model has run: little, for there may be many visitors.

    Args:
        name (`str`): Of the file, without ending.
        picture (`PIL.Image.Image`): At most `DISPLAY_SIDE` pixels wide and high.
        outputs (`dict`): Score and map at the model's size, and the size of the image.
    """

    name: str
    picture: Image.Image
    outputs: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        height, width = self.outputs["target_sizes"][0].tolist()
        return height, width


@dataclass
class Drawing:
    """What is shown of a scored image at one setting of the sliders.

    Args:
        result (`dict`): As `post_process_anomaly_detection` gives it.
        overlay (`PIL.Image.Image`): The heat map over the image, and the outline of what reaches the threshold.
    """

    result: dict[str, Any]
    overlay: Image.Image


class DemoModel:
    """Scores one image after another.

    Args:
        model (`str`, *optional*): Folder or Hub id; defaults to the demonstration model.

    Raises:
        OSError: If there is no such model.
        ValueError: If it cannot be read.
    """

    def __init__(self, model: str | None = None):
        register()
        self.pipe: Any = load_pipeline(model or DEFAULT_MODEL)
        self.processor = self.pipe.processor

    def score(self, path: str | Path, max_pixels: int) -> ScoredImage:
        """Run the model on the image in a file.

        Args:
            path (`str` or `Path`): Of the file.
            max_pixels (`int`): Width times height above which it is refused before it is decoded.

        Returns:
            [`ScoredImage`]

        Raises:
            ValueError: If it is no image, damaged or too large; one line that names it.
        """
        path = Path(path)
        picture = load_image(path, path.name, max_pixels)
        outputs = self.pipe.forward(self.pipe.preprocess(picture))
        picture.thumbnail((DISPLAY_SIDE, DISPLAY_SIDE))
        kept = ("image_scores", "anomaly_maps", "target_sizes")
        return ScoredImage(path.stem, picture, {name: outputs[name] for name in kept})

    def draw(self, scored: ScoredImage, threshold: float, pixel_threshold: float, opacity: float) -> Drawing:
        """Draw a scored image; the model does not run again.

        Args:
            scored ([`ScoredImage`]): From `score`.
            threshold (`float`): Score in [0, 1] from which the image is called anomalous.
            pixel_threshold (`float`): Map value from which a pixel belongs to a region.
            opacity (`float`): Of the heat map at its peak, in [0, 1].

        Returns:
            [`Drawing`]
        """
        (result,) = self.processor.post_process_anomaly_detection(
            scored.outputs, scored.outputs["target_sizes"], threshold=threshold, pixel_threshold=pixel_threshold
        )
        overlay = draw_overlay(
            scored.picture,
            result["anomaly_map"],
            self.processor.map_maximum,
            middle=pixel_threshold,
            mask=result["mask"],
            opacity=opacity,
        )
        return Drawing(result, overlay)

    def map_peak(self, scored: ScoredImage) -> float:
        """The highest value of an image's map."""
        (result,) = self.processor.post_process_anomaly_detection(scored.outputs, scored.outputs["target_sizes"])
        return float(result["anomaly_map"].max())


def slider_range(peak: float, pixel_threshold: float | None) -> tuple[float, float]:
    """Maximum and first value of the slider of the pixel threshold, so that all of it does something for this image.

    Map values differ by orders of magnitude between models and between images.

    Args:
        peak (`float`): Of the image's map.
        pixel_threshold (`float`, *optional*): The model's own, with which the slider starts; else it starts at half.

    Returns:
        `tuple[float, float]`: the maximum has two digits and is above 0.

    Example:
    ```python
    >>> from anomalyclip_hf.serving.demo_scoring import slider_range

    >>> slider_range(0.9213, None), slider_range(0.002417, None), slider_range(0.2, 0.5)
    ((0.93, 0.465), (0.0025, 0.00125), (0.5, 0.5))

    ```
    """
    highest = max(peak, pixel_threshold or 0.0, 1e-9)
    unit = 10.0 ** (math.floor(math.log10(highest)) - 1)
    maximum = float(f"{math.ceil(round(highest / unit, 6)) * unit:.2g}")
    return maximum, float(f"{maximum / 2:.4g}") if pixel_threshold is None else pixel_threshold


def map_file(scored: ScoredImage, drawing: Drawing) -> tuple[str, bytes]:
    """Name and content of the file of a map: TIFF, float32, one value per pixel, as `anomalyclip predict` does."""
    content = io.BytesIO()
    to_pil(drawing.result["anomaly_map"]).save(content, "TIFF")
    return f"{scored.name}_map.tiff", content.getvalue()


def result_file(scored: ScoredImage, drawing: Drawing, threshold: float, pixel_threshold: float) -> tuple[str, bytes]:
    """Name and content of the JSON file that says what was found and with which thresholds."""
    height, width = scored.size
    found = {name: drawing.result[name] for name in ("score", "label", "regions")}
    settings = {"threshold": threshold, "pixel_threshold": pixel_threshold, "height": height, "width": width}
    return f"{scored.name}_result.json", json.dumps({**found, **settings}, indent=2).encode()
