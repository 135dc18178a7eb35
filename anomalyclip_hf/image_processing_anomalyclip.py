# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Any picture a user has → an upright RGB image; any ground truth → a tensor of 0 and 1."""

import io
import logging
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import get_session
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION
from torch import Tensor

from .limits_anomalyclip import one_line


MAX_PIXELS = 178_956_970  # where Pillow itself takes a file for a decompression bomb
MAX_NAME = 1000  # characters of a path, in errors
# A small file that claims a giant image would take memory and time before it shows that it is cut short.
SMALL_PIXELS = 8_000_000  # may be claimed by any file
MAX_PIXELS_PER_BYTE = 16_384  # twice what PNG reaches on an empty image of one bit
MAX_FILE_BYTES = 1_000_000_000
MAX_DOWNLOAD_BYTES = 100_000_000
JPEG_MASK_THRESHOLD = 127  # for loaders; the paper's authors take every value above 0
DOWNLOAD_TIMEOUT = 60.0  # seconds, for the whole file
# Not all that Pillow knows: some formats start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

MAX_OVERSHOOT = 1.5  # resampling leaves pixels of [0, 1] a little above; up to here an image of [0, 255] is black
NOT_AN_IMAGE = 1 | 4  # kinds of a TIFF's page: a smaller copy of another, a transparency mask
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # with these a TIFF or BigTIFF begins

ImageSource = str | os.PathLike | bytes | bytearray | memoryview | dict | Image.Image | np.ndarray | Tensor


def load_image(source: ImageSource, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image and bring it to upright 8-bit RGB.

    Files may be of any format and mode that Pillow reads: the first frame of an animation is taken (of a TIFF
    with thumbnails the first full page), EXIF rotation is applied, 16-bit grey is scaled down to 8 bits (so is 32-bit
    grey of files; in memory it goes from 0 to 255), and transparent pixels are laid over white.

    Args:
        source: A path, `http(s)://` URL, file object, the bytes of a file, a PIL image, an array or tensor
            (`(height, width)`, or with 1, 3 or 4 channels behind or before these; uint8 in [0, 255] or float in
            [0, 1]), or a row of
            `datasets` as `{"bytes", "path"}`.
        name (`str`, *optional*): What errors call it; defaults to the path.
        max_pixels (`int`, *optional*, defaults to 178,956,970):
            Width times height above which an image is refused; for a file, before its pixels are decoded. The default
            is Pillow's own limit; to read larger files, raise `PIL.Image.MAX_IMAGE_PIXELS` too.

    Returns:
        `PIL.Image.Image`: in mode RGB.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is no image, damaged, too large, or holds NaN; one line that names it.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.image_processing_anomalyclip import load_image

    >>> load_image(np.zeros((4, 6), dtype=np.uint8)).size
    (6, 4)

    ```
    """
    if hasattr(source, "read"):
        source = source.read()
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, dict):
        path = source.get("path")
        return load_image(_from_row(source), name or (path[:MAX_NAME] if isinstance(path, str) else None), max_pixels)
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "the array")
    if isinstance(source, Image.Image):
        return _to_rgb(source, name or getattr(source, "filename", "") or "the image", max_pixels)
    if isinstance(source, (str, os.PathLike, bytes)):
        name = name or ("the image" if isinstance(source, bytes) else str(source)[:MAX_NAME])
        return _to_rgb(_open(source, name, max_pixels), name, max_pixels)
    raise ValueError(
        f"an image cannot be made of {type(source).__name__}; expected a path, URL, bytes, PIL image or array."
    )


def is_batch(images: Any) -> bool:
    """Whether these are several images: a sequence or column of them, or an array with an axis more than one has."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim > 3
    return isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview))


def _from_row(row: dict) -> bytes | str:
    """Take what a row of `datasets` holds: the bytes of a file, or else its path."""
    source = row.get("bytes") or row.get("path")
    if source is None:
        raise ValueError(
            f"an image is a dict with {sorted(row)}; expected 'bytes' or 'path'. Of a data set, pass its column of "
            "images."
        )
    return source


def _open(source: str | os.PathLike | bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a file, URL or the bytes of a file in the mode that it has."""
    if isinstance(source, bytes):
        return _decode(source, name, max_pixels)
    is_url = str(source).startswith(("http://", "https://"))
    return _decode(_download(str(source)) if is_url else _read(Path(source), name), name, max_pixels)


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise FileNotFoundError(f"{name} does not exist; expected an image file.")
        if not path.is_file():
            raise ValueError(f"{path} is a folder or device; expected an image file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, above the limit of {MAX_FILE_BYTES}; make it smaller."
            )
        return path.read_bytes()
    except OSError as error:
        if error.errno is None:
            raise  # ours
        raise ValueError(f"{name} cannot be opened ({error.strerror}); check the name and who may read it.") from error


def _download(url: str) -> bytes:
    content, deadline = bytearray(), time.monotonic() + DOWNLOAD_TIMEOUT
    try:
        with get_session().stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_TIMEOUT) as response:
            status = response.status_code
            for chunk in response.iter_bytes() if status == 200 else ():
                content += chunk
                if len(content) > MAX_DOWNLOAD_BYTES or time.monotonic() > deadline:
                    break
    except Exception as error:  # the client behind `get_session` differs between versions of huggingface_hub
        raise ValueError(f"{url} cannot be reached ({error}); check the address, or download the file.") from error
    if status != 200:
        raise ValueError(f"{url} answered {status}; expected an image.")
    if len(content) > MAX_DOWNLOAD_BYTES:
        raise ValueError(f"{url} sends more than {MAX_DOWNLOAD_BYTES} bytes; download it and make it smaller.")
    if time.monotonic() > deadline:
        raise ValueError(f"{url} takes longer than {DOWNLOAD_TIMEOUT:.0f} seconds; download the file first.")
    return bytes(content)


def _decode(content: bytes, name: str, max_pixels: int) -> Image.Image:
    if not content:
        raise ValueError(f"{name} is empty (0 bytes); copy or download the file again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_pixels decides, and what is wrong is said once, by our error
            image = _skip_thumbnails(Image.open(io.BytesIO(content), formats=FORMATS))
            file_bytes = None if _is_packed_without_limit(image) else len(content)
            _check_pixels(image.size, name, max_pixels, file_bytes)
            if not _is_misread(image):
                return _turn_upright(image)
    except ImageTooLargeError:
        raise
    except Image.DecompressionBombError as error:
        pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ImageTooLargeError(
            f"{name} is too large: above the limit of {min(max_pixels, pillows)} px; make it smaller or cut it into "
            "tiles."
        ) from error
    except UnidentifiedImageError as error:
        if content.startswith(TIFF_STARTS):
            return _decode_tiff(content, name, max_pixels)
        raise ValueError(f"{name} is not an image that Pillow can read; expected {', '.join(FORMATS)}.") from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise _damaged(name, error) from error
    return _decode_tiff(content, name, max_pixels)


def _skip_thumbnails(image: Image.Image) -> Image.Image:
    """Go on to the first page of a TIFF that is an image by itself, where there is one."""
    while getattr(image, "tag_v2", {}).get(ExifTags.Base.NewSubfileType, 0) & NOT_AN_IMAGE:
        try:
            image.seek(image.tell() + 1)
        except EOFError:
            image.seek(0)
            break
        except SyntaxError as error:  # what Image.open makes of a first page that it cannot read
            raise UnidentifiedImageError(str(error)) from error
    return image


def _is_packed_without_limit(image: Image.Image) -> bool:
    """Whether an empty page of any size takes no more than some hundred bytes in this format."""
    return image.format == "WEBP" or image.info.get("compression") in ("group3", "group4")


def _is_misread(image: Image.Image) -> bool:
    """Whether this is a TIFF with a plane of 16 bits per colour, of which Pillow takes each byte for a pixel."""
    tags, tiles = getattr(image, "tag_v2", {}), getattr(image, "tile", ())
    has_planes = tags.get(PLANAR_CONFIGURATION) == 2 and max(tags.get(BITSPERSAMPLE, (8,))) > 8
    return has_planes and image.mode in ("RGB", "RGBA") and any(tile[0] == "raw" for tile in tiles)


def _damaged(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is damaged or cut short ({one_line(error)}); copy or download the file again.")


def _turn_upright(image: Image.Image) -> Image.Image:
    """Apply EXIF rotation, and load what was opened lazily; what is upright already is not copied."""
    image.load()
    upright = image
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        upright = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0:
        upright = Image.fromarray(
            65535 - np.asarray(upright, np.uint16)
        )  # white is 0, which Pillow forgets at 16 bits
    upright.format = image.format  # a copy forgets it
    return upright


def _load(image: Image.Image, name: str) -> Image.Image:
    """An image that the caller has opened: upright, and in a mode from which Pillow can convert."""
    if _is_misread(image):
        raise ValueError(f"{name} is a TIFF of 16 bits in planes, which Pillow misreads; pass its path or its bytes.")
    try:
        upright = _turn_upright(image)
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise _damaged(name, error) from error
    return upright.convert("LA") if upright.mode == "La" else upright


def _decode_tiff(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """Read a TIFF that Pillow refuses, as one of three channels that calls itself grey (CVC-ClinicDB)."""
    try:
        import tifffile

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said once, by our error
    except ImportError as error:
        raise ImportError(f"{name} needs tifffile; install it with `pip install tifffile`.") from error
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            pages: Any = file.pages
            page = next((page for page in pages if not page.subfiletype & NOT_AN_IMAGE), pages[0])
            _check_pixels((page.imagewidth, page.imagelength), name, max_pixels)
            _check_pixels(
                (page.imagewidth, page.imagelength * page.samplesperpixel), name, 3 * max_pixels, len(content)
            )
            pixels, orientation = page.asarray(), page.tags.valueof("Orientation", 1)
    except ImageTooLargeError:
        raise
    except Exception as error:  # damaged files make tifffile raise almost anything
        raise _damaged(name, error) from error
    if page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    image = _from_array(pixels[..., :4] if pixels.ndim == 3 else pixels, name)
    image.getexif()[ExifTags.Base.Orientation] = int(orientation)
    return _turn_upright(image)


class ImageTooLargeError(ValueError):
    """An image has more pixels than allowed, or than its file can hold."""


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int, file_bytes: int | None = None) -> None:
    pixels = size[0] * size[1]
    if pixels > max_pixels:
        raise ImageTooLargeError(
            f"{name} is too large: {size[0]}x{size[1]} px, the limit is {max_pixels}; make it smaller or cut it into "
            "tiles."
        )
    if file_bytes is not None and pixels > max(SMALL_PIXELS, MAX_PIXELS_PER_BYTE * file_bytes):
        raise ImageTooLargeError(
            f"{name} claims {size[0]}x{size[1]} px and has {file_bytes} bytes, too few for them; copy or download the "
            "file again."
        )


def _to_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_pixels(image.size, name, max_pixels)
    image = _load(image, name)
    if image.mode.startswith("I"):
        # Converting directly would clip everything above 255 to white. Pillow gives some files of 16 bits as 32.
        pixels = np.asarray(image)
        is_16_bit = image.mode != "I" or (image.format and pixels.min() >= 0 and pixels.max() <= 65535)
        return _from_array(pixels.astype(np.uint16) if is_16_bit else pixels, name)
    if image.mode == "F":
        return _from_array(np.asarray(image), name)
    return _over_white(image.convert("RGBA")) if image.has_transparency_data else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _from_array(pixels: np.ndarray, name: str) -> Image.Image:
    shape, channels = pixels.shape, (1, 3, 4)
    if pixels.ndim == 3 and shape[2] not in channels and shape[0] in channels:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in channels) or 0 in shape:
        raise ValueError(f"{name} has shape {shape}; expected (height, width) or (height, width, 3).")
    if np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all():
            raise ValueError(f"{name} holds NaN or infinite pixels; replace them before scoring.")
        if pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(
                f"{name} has float pixels from {pixels.min():g} to {pixels.max():g}; expected [0, 1] or [0, 255]."
            )
        pixels = (pixels * 255).clip(0, 255) if pixels.max() <= MAX_OVERSHOOT else pixels
        pixels = pixels.round()
    elif pixels.dtype == bool:
        pixels = pixels * 255
    elif pixels.dtype == np.uint16:
        pixels = pixels // 257
    elif not np.issubdtype(pixels.dtype, np.integer) or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(
            f"{name} has pixels of type {pixels.dtype}; expected uint8, uint16, or numbers from 0 to 255."
        )
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    image = Image.fromarray(pixels.squeeze(2) if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    return _over_white(image) if image.mode == "RGBA" else image.convert("RGB")


def masks_to_tensor(masks: list[Any], size: tuple[int, int]) -> Tensor:
    """Bring ground truth to the size of the model: > 0, resized bilinearly with antialias, > 0.5.

    Args:
        masks (`list`): Per image a path, PIL image, array or tensor `(height, width)` (one channel more is fine),
            anomalous where not 0; `None` for a normal image.
        size (`tuple[int, int]`): Height and width, in pixels.

    Returns:
        `torch.Tensor` of shape `(len(masks), height, width)`: float32, 0 or 1.

    Raises:
        ValueError: If a mask has more than one channel, holds NaN, or cannot be read.
    """
    return torch.stack([torch.zeros(size) if mask is None else _mask_to_tensor(mask, size) for mask in masks])


def _mask_to_tensor(mask: Any, size: tuple[int, int]) -> Tensor:
    if isinstance(mask, (np.ndarray, Tensor)):
        mask = np.asarray(mask.detach().cpu().float() if isinstance(mask, Tensor) else mask)
        if np.isnan(mask).any():
            raise ValueError("a mask holds NaN; expected 0 where normal and anything above where anomalous.")
        anomalous = mask > 0
        if anomalous.ndim == 3 and 1 in (anomalous.shape[0], anomalous.shape[2]):
            anomalous = anomalous.squeeze(0 if anomalous.shape[0] == 1 else 2)
    else:
        anomalous = load_mask(mask)
    if anomalous.ndim != 2 or not anomalous.size:
        raise ValueError(f"a mask has shape {anomalous.shape}; expected (height, width).")
    resized = F.interpolate(torch.as_tensor(anomalous)[None, None].float(), size=size, mode="bilinear", antialias=True)
    return (resized[0, 0] > 0.5).float()


def load_mask(source: Any, jpeg_threshold: int = 0) -> np.ndarray:
    """Open ground truth of any format and mode that Pillow reads; any colour but black counts as anomalous.

    Args:
        source: A path, the bytes of a file, a PIL image, or a row of `datasets` as `{"bytes", "path"}`.
        jpeg_threshold (`int`, *optional*, defaults to 0):
            Value from 0 to 254 above which a pixel of a JPEG counts, since its coding leaves grey around every edge.

    Returns:
        `numpy.ndarray` of shape `(height, width)`: bool, True where anomalous.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is no image, damaged or too large; one line that names it.
    """
    source = _from_row(source) if isinstance(source, dict) else source
    name = str(source)[:MAX_NAME] if isinstance(source, (str, os.PathLike)) else "the mask"
    if isinstance(source, (str, os.PathLike, bytes)):
        source = _open(source, name)
    if not isinstance(source, Image.Image):
        raise ValueError(f"a mask cannot be made of {type(source).__name__}; expected a path, bytes or PIL image.")
    source = _load(source, name)
    # Palettes hold class numbers, not colours.
    is_plain = source.mode in ("1", "L", "P", "F") or source.mode.startswith("I")
    pixels = np.asarray(source if is_plain else source.convert("RGB"))
    # Channel by channel, ten times as fast as `max` over the last axis.
    if np.isnan(pixels).any():
        raise ValueError(f"{name} holds NaN; expected 0 where normal and anything above where anomalous.")
    strongest = np.maximum.reduce([pixels[..., channel] for channel in range(3)]) if pixels.ndim == 3 else pixels
    return strongest > (jpeg_threshold if source.format in ("JPEG", "MPO") else 0)


__all__ = ["JPEG_MASK_THRESHOLD", "load_image", "load_mask", "masks_to_tensor"]
