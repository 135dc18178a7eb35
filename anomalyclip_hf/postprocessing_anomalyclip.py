# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""From patch probabilities to what a user looks at: the smoothed anomaly map, its regions and the overlay."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from torch import Tensor, nn


KERNEL_TRUNCATION = 4.0  # standard deviations on either side
COLOURS = np.array([[0, 0, 255], [255, 255, 0], [255, 0, 0]], dtype=np.float32)  # blue, yellow, red
OUTLINE_PARTS = 400  # an outline is this many times thinner than the image is long
LEGEND_PARTS = 24  # the legend is this many times lower than the image is wide
MIN_LEGEND_WIDTH = 160  # pixels; on narrower images a legend cannot be read


class AnomalyMapHead(nn.Module):
    """Turn the patch probabilities of the selected layers into one smoothed anomaly map, on any device.

    Section 3.3 of the paper: each layer's grid is upsampled bilinearly, the layers are summed, the sum is smoothed
    with a Gaussian. All three steps are linear, so the grids are summed before they are upsampled.

    Args:
        image_size (`tuple[int, int]`): Height and width of the map, in pixels.
        smoothing_sigma (`float`, *optional*, defaults to 4.0): Standard deviation in pixels; 0 for no smoothing.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf import AnomalyMapHead

    >>> head = AnomalyMapHead((40, 64))
    >>> head([torch.full((1, 5, 8), 0.25), torch.full((1, 5, 8), 0.5)]).mean()
    tensor(0.7500)

    ```
    """

    def __init__(self, image_size: tuple[int, int], smoothing_sigma: float = 4.0):
        super().__init__()
        self.image_size, self.smoothing_sigma = tuple(image_size), float(smoothing_sigma)

    def forward(self, patch_probabilities: Sequence[Tensor]) -> Tensor:
        """Compute the anomaly maps of a batch.

        Args:
            patch_probabilities (`Sequence[torch.Tensor]`): Per selected layer, the probability of abnormal of each
                patch, of shape `(batch_size, rows, columns)`, in [0, 1].

        Returns:
            `torch.Tensor` of shape `(batch_size, height, width)`: float32, from 0 to the number of layers.
        """
        summed = torch.stack([grid.float() for grid in patch_probabilities]).sum(0)
        maps = F.interpolate(summed[:, None], size=self.image_size, mode="bilinear", align_corners=False)[:, 0]
        return gaussian_smooth(maps, self.smoothing_sigma)


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Smooth with a Gaussian truncated at four standard deviations; the border is mirrored, edge pixel included.

    Equals `scipy.ndimage.gaussian_filter` with its default border (`reflect`; numpy calls it `symmetric`).

    Args:
        maps (`torch.Tensor` of shape `(batch_size, height, width)`): Maps to smooth, on any device.
        sigma (`float`): Standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        `torch.Tensor` of shape `(batch_size, height, width)`
    """
    radius = int(KERNEL_TRUNCATION * sigma + 0.5)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, device=maps.device)
    kernel = torch.exp(-0.5 * (offsets.double().cpu() / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps)
    rows, columns = (_smoothing_matrix(length, offsets, kernel) for length in maps.shape[1:])
    return rows @ maps @ columns.T


def _smoothing_matrix(length: int, offsets: Tensor, kernel: Tensor) -> Tensor:
    """Write the convolution of one axis, border included, as a matrix: faster than convolving a single channel."""
    # Mirroring repeats with period 2 * length, so maps smaller than the kernel work too.
    index = (torch.arange(length, device=offsets.device)[:, None] + offsets) % (2 * length)
    index = torch.minimum(index, 2 * length - 1 - index)
    return kernel.new_zeros(length, length).scatter_add_(1, index, kernel.expand(length, -1))


def resize_map(anomaly_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize one anomaly map bilinearly.

    Args:
        anomaly_map (`torch.Tensor` of shape `(height, width)`): The map.
        size (`tuple[int, int]`): New height and width, in pixels.

    Returns:
        `torch.Tensor` of shape `size`
    """
    return F.interpolate(anomaly_map[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def find_regions(anomaly_map: Tensor, mask: Tensor) -> list[dict[str, Any]]:
    """Find the 8-connected regions of a mask, the highest peak first.

    Args:
        anomaly_map (`torch.Tensor` of shape `(height, width)`): Map in which peaks are read.
        mask (`torch.Tensor` of shape `(height, width)`): bool, True where anomalous.

    Returns:
        `list[dict]`: Per region `box` (`dict` of `xmin`, `ymin`, `xmax`, `ymax` in pixels, maxima exclusive), `area`
        (`int`, pixels) and `peak` (`float`, highest map value).

    Raises:
        ImportError: If scipy is not installed.

    Example:
    ```python
    >>> import torch
    >>> from anomalyclip_hf.postprocessing_anomalyclip import find_regions

    >>> anomaly_map = torch.zeros(20, 30)
    >>> anomaly_map[4:8, 10:12] = 0.75
    >>> find_regions(anomaly_map, anomaly_map > 0.5)
    [{'box': {'xmin': 10, 'ymin': 4, 'xmax': 12, 'ymax': 8}, 'area': 8, 'peak': 0.75}]

    ```
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError("regions need scipy; install it with `pip install scipy`.") from error
    values = anomaly_map.cpu().numpy()
    labelled, _ = ndimage.label(mask.cpu().numpy(), structure=np.ones((3, 3)))
    regions = []
    # Each region is looked up in its own box: a pass over the whole map per statistic takes seconds on large images.
    for number, (rows, columns) in enumerate(ndimage.find_objects(labelled), start=1):
        inside = labelled[rows, columns] == number
        box = {"xmin": columns.start, "ymin": rows.start, "xmax": columns.stop, "ymax": rows.stop}
        peak = float(values[rows, columns][inside].max())
        regions.append({"box": box, "area": int(inside.sum()), "peak": peak})
    return sorted(regions, key=lambda region: region["peak"], reverse=True)


def to_pil(values: Tensor | np.ndarray) -> Image.Image:
    """Convert an anomaly map to a PIL image of mode F, or a mask to one of mode L with 0 and 255.

    Args:
        values (`torch.Tensor` or `np.ndarray` of shape `(height, width)`): Float map or bool mask.

    Returns:
        `PIL.Image.Image`
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return Image.fromarray(array.astype(np.uint8) * 255 if array.dtype == bool else array.astype(np.float32))


def draw_overlay(
    image: Image.Image,
    anomaly_map: Image.Image | np.ndarray | Tensor,
    maximum: float = 1.0,
    *,
    middle: float | None = None,
    mask: np.ndarray | Tensor | None = None,
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
    values = np.asarray(anomaly_map.detach().cpu() if isinstance(anomaly_map, Tensor) else anomaly_map)
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
        `PIL.Image.Image`: in mode RGB, of the same width and higher; images too narrow for text are returned as they
        are.
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
    if not 0 < middle < maximum:  # a threshold at the end of the scale leaves nothing above or below it
        middle = maximum / 2
    return np.interp(values, [0, middle, maximum], [0, 127.5, 255]).round().astype(np.uint8)


def _colour_table() -> np.ndarray:
    """Compute the colours of all levels, uint8 of shape `(256, 3)`."""
    channels = [np.interp(np.arange(256), [0, 127.5, 255], COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _draw_outline(overlay: Image.Image, mask: Image.Image) -> None:
    """Draw the edge of a mask just inside it: white with a black seam, which shows on any background."""
    width = max(1, round(max(mask.size) / OUTLINE_PARTS))
    for colour in ("white", "black"):
        inner = _erode(mask, width)
        overlay.paste(colour, mask=ImageChops.subtract(mask, inner))
        mask = inner


def _erode(mask: Image.Image, width: int) -> Image.Image:
    """Remove `width` pixels from all edges of a mask of 0 and 255; the image's own border is no edge."""
    only_full = [0] * 255 + [255]
    for radius in ((width, 0), (0, width)):  # a mean of 255 means that all pixels around are set
        mask = mask.filter(ImageFilter.BoxBlur(radius)).point(only_full)
    return mask


__all__ = ["AnomalyMapHead", "add_legend", "draw_overlay", "find_regions", "gaussian_smooth", "resize_map", "to_pil"]
