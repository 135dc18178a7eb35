# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Turn anomaly maps into results: smoothed and resized maps, regions, decisions and overlays.

Everything here works on NumPy arrays, for every runtime.
"""

import functools
import json
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from .image_processing_anomalyclip import is_array, to_array


LABELS = ("normal", "anomalous")
KERNEL_TRUNCATION = 4.0  # standard deviations on either side
COLOURS = np.array([[0, 0, 255], [255, 255, 0], [255, 0, 0]], dtype=np.float32)  # blue, yellow, red
OUTLINE_PARTS = 400  # an outline is this many times thinner than the image is long
LEGEND_PARTS = 24  # the legend is this many times lower than the image is wide
IMAGE_SCORES = ("paper", "fusion", "top1%")
TOP_SHARE = 0.01
MIN_LEGEND_WIDTH = 160  # pixels; on narrower images a legend cannot be read


@functools.lru_cache(maxsize=8)
def smoothing_matrix(length: int, sigma: float) -> np.ndarray:
    """Return the matrix that smooths one axis with a Gaussian, border included.

    The Gaussian is truncated at four standard deviations, and the border is mirrored, edge pixel included, as in
    `scipy.ndimage.gaussian_filter` with its default border (`reflect`; numpy calls it `symmetric`). Two products with
    such matrices smooth a map faster than a convolution of a single channel.

    Args:
        length (`int`): Number of pixels along the axis.
        sigma (`float`): Standard deviation in pixels; 0 gives the identity.

    Returns:
        `np.ndarray` of shape `(length, length)`: float32; `rows @ map @ columns.T` is the smoothed map.
    """
    radius = int(KERNEL_TRUNCATION * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / max(sigma, 1e-12)) ** 2)
    # Mirroring repeats with period 2 * length, so maps smaller than the kernel work too.
    index = (np.arange(length)[:, None] + offsets) % (2 * length)
    index = np.minimum(index, 2 * length - 1 - index)
    matrix = np.zeros((length, length))
    np.add.at(matrix, (np.arange(length)[:, None], index), kernel / kernel.sum())
    return matrix.astype(np.float32)


def resize_map(anomaly_map: Any, size: tuple[int, int]) -> np.ndarray:
    """Resize one anomaly map bilinearly, as `torch.nn.functional.interpolate` does without `align_corners`.

    Args:
        anomaly_map (`np.ndarray` or `torch.Tensor` of shape `(height, width)`): The map.
        size (`tuple[int, int]`): New height and width, in pixels.

    Returns:
        `np.ndarray` of shape `size`: float32.
    """
    values = to_array(anomaly_map).astype(np.float32, copy=False)
    for axis, length in enumerate(size):
        if length < values.shape[axis]:  # where Pillow would average over more than two neighbours
            values = _shrink(values, axis, length)
    return np.array(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def _shrink(values: np.ndarray, axis: int, length: int) -> np.ndarray:
    position = (np.arange(length) + 0.5) * (values.shape[axis] / length) - 0.5  # not below 0 when shrinking
    lower = position.astype(int)
    weight = (position - lower).astype(np.float32)
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    weight = weight[:, None] if axis == 0 else weight
    return values.take(lower, axis) * (1 - weight) + values.take(upper, axis) * weight


def finish_map(
    anomaly_map: np.ndarray, size: tuple[int, int] | None = None, pixel_threshold: float | None = None
) -> dict[str, Any]:
    """Resize a smoothed anomaly map and, with a pixel threshold, find its regions.

    Args:
        anomaly_map (`np.ndarray` of shape `(height, width)`): float32.
        size (`tuple[int, int]`, *optional*): Height and width to resize to, in pixels.
        pixel_threshold (`float`, *optional*): Map value from which a pixel belongs to the mask.

    Returns:
        `dict`: `anomaly_map`; `mask` (bool) and `regions` (see [`find_regions`]), both `None` without a threshold.
    """
    if size is not None and tuple(size) != anomaly_map.shape:
        anomaly_map = resize_map(anomaly_map, size)
    if pixel_threshold is None:
        return {"anomaly_map": anomaly_map, "mask": None, "regions": None}
    mask = anomaly_map >= pixel_threshold
    return {"anomaly_map": anomaly_map, "mask": mask, "regions": find_regions(anomaly_map, mask)}


def check_thresholds(threshold: Any = None, pixel_threshold: Any = None, map_maximum: float = 1.0) -> None:
    """Check that thresholds are in the range of scores and map values.

    Args:
        threshold (`float`, *optional*): Score in [0, 1].
        pixel_threshold (`float`, *optional*): Map value, from 0 to `map_maximum`.
        map_maximum (`float`, *optional*, defaults to 1.0): Largest value that a map can have.

    Raises:
        ValueError: If a threshold is out of range. The message names it, its value and the range.
    """
    for name, value, maximum in (
        ("threshold", threshold, 1.0),
        ("pixel_threshold", pixel_threshold, map_maximum),
    ):
        if value is not None and not (is_real(value) and 0 <= value <= maximum):
            raise ValueError(f"{name} is {value!r}; expected a number from 0 to {maximum:g}.")


def is_real(value: Any) -> bool:
    """Return whether a value is a single real number, of Python, NumPy or PyTorch."""
    return isinstance(value, Real) or (is_array(value) and value.ndim == 0)


def combine_scores(
    image_scores: np.ndarray, anomaly_maps: np.ndarray, map_maximum: float = 1.0, kind: str = "paper"
) -> np.ndarray:
    """Compute the score of each image from its whole-image score and its anomaly map.

    `"paper"` is the probability of abnormal for the whole image, as in the paper. A small defect changes it little.
    `"fusion"` is the mean of that and the map's maximum; `"top1%"` is the mean of the highest 1 % of the map. Map
    values are divided by `map_maximum`.

    Args:
        image_scores (`np.ndarray` of shape `(batch_size,)`): Scores of the whole images, in [0, 1].
        anomaly_maps (`np.ndarray` of shape `(batch_size, height, width)`): Smoothed maps.
        map_maximum (`float`, *optional*, defaults to 1.0): Largest value that a map can have.
        kind (`str`, *optional*, defaults to `"paper"`): `"paper"`, `"fusion"` or `"top1%"`.

    Returns:
        `np.ndarray` of shape `(batch_size,)`: in [0, 1].

    Raises:
        ValueError: If the kind is unknown.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.postprocessing_anomalyclip import combine_scores

    >>> scores, maps = np.float32([0.25]), np.zeros((1, 10, 20), np.float32)
    >>> maps[0, 3, 4] = 0.75
    >>> [float(combine_scores(scores, maps, kind=kind)[0]) for kind in ("paper", "fusion", "top1%")]
    [0.25, 0.5, 0.375]

    ```
    """
    if kind not in IMAGE_SCORES:
        raise ValueError(f"image_score is {kind!r}; expected one of {', '.join(IMAGE_SCORES)}.")
    if kind == "paper":
        return image_scores
    values = anomaly_maps.reshape(len(anomaly_maps), -1)
    if kind == "fusion":
        scores = (image_scores + values.max(axis=1) / map_maximum) / 2
    else:
        highest = math.ceil(TOP_SHARE * values.shape[1])
        scores = np.partition(values, -highest, axis=1)[:, -highest:].mean(axis=1) / map_maximum
    return np.clip(scores, 0, 1).astype(np.float32)  # rounding may go beyond


def judge(score: float, calibration: Mapping[str, Any], category: str | None = None) -> tuple[float, str]:
    """Return the p-value and decision of an image, from a stored calibration.

    Args:
        score (`float`): Score of the image.
        calibration (`Mapping`): `processor.calibration`.
        category (`str`, *optional*): Category of the image; one without its own thresholds gets those of all images.

    Returns:
        `tuple[float, str]`: the share of normal images, this one included, that score as high or higher, in (0, 1];
        and `"reject"` from the threshold on, `"look"` from the review threshold on, else `"accept"`.
    """
    part = thresholds_for(calibration, category)
    counts, review = np.array(part["normal_counts"]), part["review_threshold"]
    as_high = counts[np.array(part["normal_scores"]) >= score].sum()
    p_value = float((1 + as_high) / (1 + counts.sum()))
    if score >= part["threshold"]:
        return p_value, "reject"
    return p_value, "look" if review is not None and score >= review else "accept"


def thresholds_for(calibration: Mapping[str, Any], category: str | None = None) -> Mapping[str, Any]:
    """Return the thresholds of a category in a stored calibration, or those of all images."""
    return calibration["categories"].get(category, calibration)


def precision_settings(precision: str, runtime: str) -> dict[str, str]:
    """Return the settings of a calibration for a precision; below float32 they include the runtime.

    In float32 all runtimes give the same scores.

    Args:
        precision (`str`): `"float32"`, `"bfloat16"`, `"int8"`, ...
        runtime (`str`): `"torch"`, `"compile"`, `"onnxruntime"` or `"openvino"`.
    """
    return {"precision": precision} if precision == "float32" else {"precision": precision, "runtime": runtime}


def describe_stale(calibration: Mapping[str, Any], fingerprint: str, settings: Mapping[str, Any]) -> str | None:
    """Describe in one line why a stored calibration does not fit the scores of a model.

    Args:
        calibration (`Mapping`): `processor.calibration`.
        fingerprint (`str`): Digest of the model.
        settings (`Mapping`): Everything that scores depend on beside the model.

    Returns:
        `str` or `None`: what has changed; `None` for a calibration that is still valid.
    """
    stored, current = (json.loads(json.dumps(dict(values))) for values in (calibration["settings"], settings))
    changed = [name for name in {**current, **stored} if stored.get(name) != current.get(name)]
    if calibration["fingerprint"] != fingerprint:
        changed.insert(0, "model")
    if not changed:
        return None
    return (
        f"the calibration of {calibration['date']} is stale, since these differ now: {', '.join(changed)}; "
        "its thresholds are not used. Run `anomalyclip calibrate` again."
    )


def check_calibration(calibration: Any) -> None:
    """Check that a stored calibration is complete and valid.

    Args:
        calibration (`Mapping`): From `processor_config.json`.

    Raises:
        ValueError: If a value is missing or has another type. The message names it.
    """
    expected = {"categories": Mapping, "settings": Mapping, "fingerprint": str | None, "date": str}
    for name, kind in expected.items():
        if not isinstance(calibration, Mapping) or not isinstance(calibration.get(name, ()), kind):
            raise ValueError(f"calibration has no valid {name}; expected what Calibration.to_dict returns.")
    for category, part in {"all images": calibration, **calibration["categories"]}.items():
        part = part if isinstance(part, Mapping) else {}
        for name in ("threshold", "review_threshold", "pixel_threshold"):
            value = part.get(name, "missing")
            if not (_is_number(value) or (value is None and name != "threshold")):
                raise ValueError(f"calibration, {category}: {name} is {str(value)[:40]!r}; expected a number.")
        scores, counts = part.get("normal_scores"), part.get("normal_counts")
        if not (
            isinstance(scores, list)
            and isinstance(counts, list)
            and len(scores) == len(counts) > 0
            and all(map(_is_number, scores))
            and all(type(count) is int and count >= 0 for count in counts)
        ):
            raise ValueError(f"calibration, {category}: normal_scores or normal_counts are not lists of numbers.")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def find_regions(anomaly_map: Any, mask: Any) -> list[dict[str, Any]]:
    """Return the 8-connected regions of a mask, the highest peak first.

    Args:
        anomaly_map (`np.ndarray` or `torch.Tensor` of shape `(height, width)`): Map in which peaks are read.
        mask (`np.ndarray` or `torch.Tensor` of shape `(height, width)`): bool, True where anomalous.

    Returns:
        `list[dict]`: Per region `box` (`dict` of `xmin`, `ymin`, `xmax`, `ymax` in pixels, maxima exclusive), `area`
        (`int`, pixels) and `peak` (`float`, highest map value).

    Raises:
        ImportError: If scipy is not installed.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.postprocessing_anomalyclip import find_regions

    >>> anomaly_map = np.zeros((20, 30))
    >>> anomaly_map[4:8, 10:12] = 0.75
    >>> find_regions(anomaly_map, anomaly_map > 0.5)
    [{'box': {'xmin': 10, 'ymin': 4, 'xmax': 12, 'ymax': 8}, 'area': 8, 'peak': 0.75}]

    ```
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("regions need scipy; install it with `pip install scipy`.") from error
    values = to_array(anomaly_map)
    labelled, _ = ndimage.label(to_array(mask), structure=np.ones((3, 3)))
    regions = []
    # Statistics are computed in the box of each region: on the whole map they would take seconds for large images.
    for number, (rows, columns) in enumerate(ndimage.find_objects(labelled), start=1):
        inside = labelled[rows, columns] == number
        box = {"xmin": columns.start, "ymin": rows.start, "xmax": columns.stop, "ymax": rows.stop}
        peak = float(values[rows, columns][inside].max())
        regions.append({"box": box, "area": int(inside.sum()), "peak": peak})
    return sorted(regions, key=lambda region: region["peak"], reverse=True)


def to_pil(values: Any) -> Image.Image:
    """Convert an anomaly map to a PIL image of mode F, or a mask to one of mode L with 0 and 255.

    Args:
        values (`torch.Tensor` or `np.ndarray` of shape `(height, width)`): Float map or bool mask.

    Returns:
        `PIL.Image.Image`
    """
    array = to_array(values)
    return Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array.astype(np.float32))


def draw_overlay(
    image: Image.Image,
    anomaly_map: Any,
    maximum: float = 1.0,
    *,
    middle: float | None = None,
    mask: Any = None,
    opacity: float = 0.7,
) -> Image.Image:
    """Draw a heat map over its image, from blue and transparent (0) over yellow to red (`maximum`).

    The scale is fixed, so overlays of different images can be compared.

    Args:
        image (`PIL.Image.Image`): In mode RGB.
        anomaly_map (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor` of shape `(height, width)`):
            Map of the same size as the image, or of any other, which is resized.
        maximum (`float`, *optional*, defaults to 1.0): Map value in full red; higher values are red too.
        middle (`float`, *optional*): Map value in yellow, such as the pixel threshold; defaults to half of `maximum`.
        mask (`np.ndarray` or `torch.Tensor` of shape `(height, width)`, *optional*):
            Regions to outline, bool, of the same size as the image or of any other.
        opacity (`float`, *optional*, defaults to 0.7): Opacity of the heat map at the maximum, in [0, 1].

    Returns:
        `PIL.Image.Image`: in mode RGB, of the size of the image.

    Example:
    ```python
    >>> import numpy as np
    >>> from PIL import Image
    >>> from anomalyclip_hf.postprocessing_anomalyclip import draw_overlay

    >>> overlay = draw_overlay(Image.new("RGB", (32, 24), "grey"), np.eye(24, 32, dtype=np.float32))
    >>> overlay.size
    (32, 24)

    ```
    """
    values = to_array(anomaly_map)
    level = Image.fromarray(_colour_level(values, maximum, middle))
    if level.size != image.size:
        level = level.resize(image.size, Image.Resampling.BILINEAR)
    transparency = level.point([round(value * opacity) for value in range(256)])
    level.putpalette(_colour_table().tobytes())
    overlay = Image.composite(level.convert("RGB"), image, transparency)
    if mask is not None:
        _draw_outline(overlay, to_pil(mask).resize(image.size, Image.Resampling.NEAREST))
    return overlay


def add_legend(overlay: Image.Image, text: str, maximum: float = 1.0, middle: float | None = None) -> Image.Image:
    """Add a strip below an overlay with the colour bar and a line of text, such as score and label.

    Args:
        overlay (`PIL.Image.Image`): From [`draw_overlay`].
        text (`str`): One short line.
        maximum (`float`, *optional*, defaults to 1.0): Map value in full red.
        middle (`float`, *optional*): Map value in yellow; defaults to half of `maximum`.

    Returns:
        `PIL.Image.Image`: in mode RGB, of the same width and higher. Images too narrow for text are returned
        unchanged.
    """
    if overlay.width < MIN_LEGEND_WIDTH:
        return overlay
    height = max(14, overlay.width // LEGEND_PARTS)
    font = ImageFont.load_default(size=0.62 * height)
    strip = Image.new("RGB", (overlay.width, height), "white")
    draw = ImageDraw.Draw(strip)
    bar = Image.fromarray(np.broadcast_to(_colour_table(), (height // 2, 256, 3)).copy())
    left, width = round(0.56 * strip.width), round(0.3 * strip.width)
    strip.paste(bar.resize((width, height // 2)), (left, height // 4))
    draw.text(
        (left + width // 2, height / 2), f"{maximum / 2 if middle is None else middle:.3g}", "black", font, anchor="mm"
    )
    draw.text((height // 3, height / 2), text, "black", font, anchor="lm")
    draw.text((left - height // 4, height / 2), "0", "black", font, anchor="rm")
    draw.text((left + width + height // 4, height / 2), f"{maximum:.3g}", "black", font, anchor="lm")
    combined = Image.new("RGB", (overlay.width, overlay.height + height))
    combined.paste(overlay)
    combined.paste(strip, (0, overlay.height))
    return combined


def _colour_level(values: np.ndarray, maximum: float, middle: float | None) -> np.ndarray:
    """Map values to 0 (transparent), 128 (middle) and 255 (maximum), uint8."""
    middle = maximum / 2 if middle is None else middle
    if not 0 < middle < maximum:  # a threshold at the end of the scale
        middle = maximum / 2
    return np.interp(values, [0, middle, maximum], [0, 127.5, 255]).round().astype(np.uint8)


def _colour_table() -> np.ndarray:
    """Compute the colours of all levels, uint8 of shape `(256, 3)`."""
    channels = [np.interp(np.arange(256), [0, 127.5, 255], COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _draw_outline(overlay: Image.Image, mask: Image.Image) -> None:
    """Draw a white and black line along the inner edge of a mask, which shows on any background."""
    width = max(1, round(max(mask.size) / OUTLINE_PARTS))
    for colour in ("white", "black"):
        inner = _erode(mask, width)
        overlay.paste(colour, mask=ImageChops.subtract(mask, inner))
        mask = inner


def _erode(mask: Image.Image, width: int) -> Image.Image:
    """Remove `width` pixels from all edges of a mask of 0 and 255, except at the border of the image."""
    only_full = [0] * 255 + [255]
    for radius in ((width, 0), (0, width)):  # a mean of 255 means that all pixels around are set
        mask = mask.filter(ImageFilter.BoxBlur(radius)).point(only_full)
    return mask


__all__ = ["add_legend", "draw_overlay", "find_regions", "resize_map", "smoothing_matrix", "to_pil"]
