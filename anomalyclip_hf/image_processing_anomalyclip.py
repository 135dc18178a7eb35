# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Load images as upright 8-bit RGB, and ground truth as masks of 0 and 1."""

import functools
import io
import logging
import os
import re
import sys
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError


if TYPE_CHECKING:  # images are read without PyTorch, which takes seconds to import
    from torch import Tensor

logger = logging.getLogger(__name__)

MAX_PIXELS = 178_956_970  # above this Pillow refuses a file as a decompression bomb
MAX_FILE_BYTES = 1_000_000_000
MAX_DOWNLOAD_BYTES = 100_000_000
DOWNLOAD_TIMEOUT = 60.0  # seconds, for the whole file
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # other formats of Pillow start programs
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".gif")
MASK_RULES = ("auto", "classes", "nonzero")
MAX_OVERSHOOT = 1.5  # floats up to here are taken to be in [0, 1], since resampling leaves values a little above 1

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
NOT_AN_IMAGE = 1 | 4  # kinds of TIFF pages: a smaller copy, a transparency mask
PNM_HEADER = re.compile(rb"P([2356])(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)(?:\s|#.*\n)+(\d+)\s")
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, MAX_SAMPLE = 258, 259, 262, 277, 281  # tags of TIFF
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
JPEG = 7  # a compression of TIFF
ALPHA = (1, 2)  # kinds of extra samples in a TIFF: premultiplied and plain alpha
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # samples of each photometric interpretation of a TIFF

FEW_VALUES = (
    "an image with more than 8 bits uses less than an eighth of its range, so it looks flat or black. Give the values"
    " of black and white, as for 12 bits: value_range=(0, 4095), on the command line --value-range 0 4095."
)
LOOKUP_TABLE = (
    "a DICOM file has a lookup table (VOI LUT) and no window; the table is not applied. Give the values of black and"
    " white: value_range=(low, high), on the command line --value-range LOW HIGH."
)

ImageSource = Any  # a path, URL, bytes, dict of a datasets column, PIL image, array or tensor


class Raster(NamedTuple):
    """Hold pixels that have not been reduced to 8 bits.

    Args:
        values (`numpy.ndarray`): `(height, width)` or `(height, width, 3)`, of any number type.
        alpha (`numpy.ndarray`, *optional*): `(height, width)` uint8.
        limits (`tuple[float, float]`, *optional*): Lowest and highest value that the source declares.
        is_inverted (`bool`): Whether low values are white.
        shown (`numpy.ndarray`, *optional*): Values on a curve that the source declares; the limits are of these.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    limits: tuple[float, float] | None = None
    is_inverted: bool = False
    shown: np.ndarray | None = None


def load_image(
    source: ImageSource,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    value_range: tuple[float, float] | str | None = None,
) -> Image.Image:
    """Load an image as upright 8-bit RGB.

    The first frame or full page is read, EXIF rotation is applied, and transparent pixels are laid over white, unless
    all are transparent. More than 8 bits are scaled by the range that the file declares. Of more than three bands, the
    first three are taken as red, green and blue.

    Args:
        source: A path, `http(s)://` URL, file object, the bytes of a file, a PIL image, an array or tensor
            (`(height, width)`, or with 1, 3 or 4 channels first or last), or a dict with `bytes` or `path` as
            `datasets` stores images.
        name (`str`, *optional*): Name of the image in errors; defaults to the path.
        max_pixels (`int`, *optional*, defaults to 178,956,970): Width times height above which an image is refused.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits, in place of what the file declares; `"auto"`
            takes the lowest and highest value of each image. Images with 8 bits are not changed. Without it,
            undeclared uint16 are scaled from [0, 65535], floats from [0, 1] or [0, 255], and other integers must be in
            [0, 255].

    Returns:
        `PIL.Image.Image`: in mode RGB.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is not an image, is damaged or too large, has an unknown range of values, or needs a package
            that is not installed. The message names the image.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.image_processing_anomalyclip import load_image

    >>> camera = np.full((4, 6), 2048, dtype=np.uint16)  # 12 bits
    >>> load_image(camera, value_range=(0, 4095)).getpixel((0, 0))
    (128, 128, 128)

    ```
    """
    value_range = check_value_range(value_range)
    name = name or _name_of(source, "the image")
    opened = _open(source, name, max_pixels)
    return _to_rgb(opened if isinstance(opened, Image.Image) else _to_8_bit(opened, name, value_range))


def check_value_range(value_range: Any) -> tuple[float, float] | str | None:
    """Check a range, and return it as two numbers, or `"auto"` or `None` unchanged.

    Raises:
        ValueError: If they are not finite, or the first is not below the second.
    """
    if value_range is None or (isinstance(value_range, str) and value_range == "auto"):
        return value_range
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f'value_range is {value_range!r}; expected the values of black and white, or "auto".')
    return low, high


def load_mask(source: Any, mask_rule: str = "auto", name: str | None = None) -> np.ndarray:
    """Load a ground-truth mask by its colours, not by palette indices; transparent pixels are normal.

    Args:
        source: As for [`load_image`], or a folder with several masks of one image. Arrays and tensors are anomalous
            where not 0.
        mask_rule (`str`, *optional*, defaults to `"auto"`):
            Which pixels are anomalous. `"auto"`: pixels above half of the range in lossy masks, such as JPEG, and in
            grey masks that have such pixels; all pixels that are not black in other masks. `"classes"`: pixels above
            half of the range in lossy masks; all that are not black in lossless ones, which hold class numbers.
            `"nonzero"`: all pixels that are not black.
        name (`str`, *optional*): Name of the mask in errors; defaults to the path.

    Returns:
        `numpy.ndarray` of shape `(height, width)`: bool, True where anomalous.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is not an image, is damaged or too large, or holds NaN. The message names the mask.
    """
    if mask_rule not in MASK_RULES:
        raise ValueError(f"mask_rule is {mask_rule!r}; expected one of {', '.join(MASK_RULES)}.")
    name = name or _name_of(source, "the mask")
    path = source.get("path") if isinstance(source, dict) and source.get("bytes") is None else source
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        names = [name for name in sorted(os.listdir(path)) if name.lower().endswith(MASK_SUFFIXES)]
        files = [Path(path, name) for name in names if not name.startswith(".")]
        if not files:
            raise ValueError(f"{path} has no masks; expected {', '.join(MASK_SUFFIXES)} files.")
        return np.logical_or.reduce([load_mask(file, mask_rule) for file in files])
    if is_array(source):
        values = to_array(source)
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.squeeze(0 if values.shape[0] == 1 else 2)
        if values.ndim != 2 or not values.size:
            raise ValueError(f"{name} has shape {values.shape}; expected (height, width).")
        raster, mask_rule, is_lossy = Raster(values), "nonzero", False
    else:
        opened = _open(source, name)
        is_lossy = isinstance(opened, Image.Image) and bool(opened.info.get("lossy"))
        raster = _to_raster(opened) if isinstance(opened, Image.Image) else opened
    if raster.values.dtype.kind == "f" and np.isnan(raster.values).any():
        raise ValueError(f"{name} holds NaN; expected 0 where normal and anything above where anomalous.")
    marked = _mark(raster, is_lossy, mask_rule)
    if raster.alpha is None or raster.alpha.min() == 255:
        return marked
    opaque = _mark(Raster(raster.alpha), is_lossy, mask_rule)
    # Black strokes on a transparent background are marked by their opacity alone.
    return marked & opaque if (marked & opaque).any() else opaque


def _mark(raster: Raster, is_lossy: bool, mask_rule: str) -> np.ndarray:
    """Apply a mask rule to pixels; return bool of shape (height, width)."""
    values, grey = raster.values, raster.values.ndim == 2
    if not grey:
        red, green, blue = (values[..., channel] for channel in range(3))
        grey = np.array_equal(red, green) and np.array_equal(green, blue)
        values = np.maximum(np.maximum(red, green), blue)  # ten times as fast as `max` over the last axis
    top = raster.limits[1] if raster.limits else _type_limit(values)
    values = top - values if raster.is_inverted else values
    by_half = (is_lossy and mask_rule != "nonzero") or (grey and mask_rule == "auto" and values.max() > top / 2)
    return values > (top / 2 if by_half else 0)


def masks_to_tensor(masks: list[Any], size: tuple[int, int]) -> "Tensor":
    """Resize ground truth to the model's size: bilinear with antialias, then above 0.5.

    Args:
        masks (`list`): For each image a mask as [`load_mask`] accepts it, or `None` for a normal image.
        size (`tuple[int, int]`): Height and width, in pixels.

    Returns:
        `torch.Tensor` of shape `(len(masks), height, width)`: float32, 0 or 1.

    Raises:
        ValueError: If a mask has more than one channel, holds NaN, or cannot be read.
    """
    import torch

    return torch.stack([torch.zeros(size) if mask is None else _resize(load_mask(mask), size) for mask in masks])


def _resize(mask: np.ndarray, size: tuple[int, int]) -> "Tensor":
    import torch
    import torch.nn.functional as F

    # A copy, since a rotated mask has negative strides.
    anomalous = torch.from_numpy(mask.copy())[None, None].float()
    return (F.interpolate(anomalous, size=size, mode="bilinear", antialias=True)[0, 0] > 0.5).float()


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or _is_tensor(value)


def to_array(value: Any) -> np.ndarray:
    """Return a tensor of any dtype and device, an array, a PIL image or nested lists as an array."""
    if not _is_tensor(value):
        return np.asarray(value)
    value = value.detach().cpu()
    is_half = value.is_floating_point() and value.element_size() < 4  # NumPy has no bfloat16
    return (value.float() if is_half else value).numpy()


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a tensor exists only where torch is imported
    return torch is not None and isinstance(value, torch.Tensor)


def is_image(value: Any) -> bool:
    """Return whether a value is one image, of any kind that [`load_image`] reads, rather than several."""
    single = (str, os.PathLike, bytes, bytearray, memoryview, dict, Image.Image)
    return isinstance(value, single) or (is_array(value) and not is_batch(value))


def is_batch(images: Any) -> bool:
    """Return whether these are several images: a sequence or column of them, or an array with a batch axis."""
    if is_array(images):
        return images.ndim > 3
    return isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray, memoryview))


# ------------------------------------------------------------------------------------------------ sources


def _name_of(source: Any, default: str) -> str:
    """Return the path of an image, if it has one, for errors."""
    source = source.get("path") if isinstance(source, dict) else getattr(source, "filename", source)
    return str(source)[:1000] if isinstance(source, (str, os.PathLike)) and str(source) else default


def _open(source: Any, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image | Raster:
    """Open any source, upright: a PIL image of 8 bits, or a `Raster` of more."""
    if isinstance(source, dict):
        columns, source = sorted(source), source.get("bytes") or source.get("path")
        if source is None:
            raise ValueError(f"an image is a dict with {columns}; expected 'bytes' or 'path'. Pass the image column.")
    if is_array(source):
        source = to_array(source)
        return _split_channels(source, name)
    if isinstance(source, Image.Image):
        _check_size(source.size, name, max_pixels)
        return _read_opened(source, name)
    source = source.read() if hasattr(source, "read") else source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), name, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        is_url = str(source).startswith(("http://", "https://"))
        return _decode(_download(str(source)) if is_url else _read(Path(source), name), name, max_pixels)
    expected = "a path, URL, bytes, PIL image or array"
    raise ValueError(f"an image cannot be made of {type(source).__name__}; expected {expected}.")


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise FileNotFoundError(f"{name} does not exist; expected an image file.")
        if not path.is_file():
            raise ValueError(f"{path} is a folder or device; expected an image file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes; make it smaller.")
        return path.read_bytes()
    except OSError as error:
        if error.errno is None:
            raise  # ours
        raise ValueError(f"{name} cannot be opened ({error.strerror}); check its name and permissions.") from error


def _download(url: str) -> bytes:
    """Download a file, at most 100 MB in 60 seconds."""
    content, deadline = bytearray(), time.monotonic() + DOWNLOAD_TIMEOUT
    try:
        from huggingface_hub import get_session

        with get_session().stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_TIMEOUT) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MAX_DOWNLOAD_BYTES or time.monotonic() > deadline:
                    raise ValueError(f"more than {MAX_DOWNLOAD_BYTES} bytes or {DOWNLOAD_TIMEOUT:.0f} seconds")
    except Exception as error:  # the client behind `get_session` differs between versions of huggingface_hub
        raise ValueError(f"{url} cannot be downloaded ({_one_line(error)}); download the file yourself.") from error
    return bytes(content)


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"{name} is too large: {width}x{height} px, the limit is {max_pixels}; reduce or divide it.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _damaged(name: str, error: Exception) -> Exception:
    """Return the error to raise for an error of a decoder: with the name of the file and a remedy."""
    if "imagecodecs" in str(error) or isinstance(error, ImportError):
        return ValueError(f"{name} needs imagecodecs ({_one_line(error)}); `pip install imagecodecs`.")
    if str(error).startswith(name):
        return error  # ours
    if isinstance(error, RuntimeError):  # no decoder for this kind
        return ValueError(f"{name} cannot be read ({_one_line(error)}); save it as PNG.")
    return ValueError(f"{name} is damaged or cut short ({_one_line(error)}); copy or download the file again.")


# ------------------------------------------------------------------------------------------------ formats


def _decode(content: bytes, name: str, max_pixels: int) -> Image.Image | Raster:
    """Decode the bytes of a file, in Pillow unless it cannot read the format or would drop bits."""
    if not content:
        raise ValueError(f"{name} is empty (0 bytes); copy or download the file again.")
    if content[128:132] == b"DICM":
        return _decode_dicom(content, name, max_pixels)
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        return _decode_heif(content, name, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # max_pixels decides, and errors say what is wrong
            image: Any = Image.open(io.BytesIO(content), formats=FORMATS)
            while getattr(image, "tag_v2", {}).get(ExifTags.Base.NewSubfileType, 0) & NOT_AN_IMAGE:
                image.seek(image.tell() + 1)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large ({_one_line(error)}); make it smaller or cut it into tiles.") from error
    except (UnidentifiedImageError, EOFError, SyntaxError) as error:  # the latter two from the pages of a TIFF
        if content.startswith(TIFF_STARTS):
            return _decode_tiff(content, name, max_pixels)
        raise ValueError(f"{name} is not an image that can be read; expected {', '.join(FORMATS)}.") from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise _damaged(name, error) from error
    _check_size(image.size, name, max_pixels)
    if image.format == "TIFF" and not _is_plain_tiff(image):
        return _decode_tiff(content, name, max_pixels, image)
    try:
        if image.format == "PNG" and ";16" in str(image.tile[0][3]):
            return _decode_deep_png(content, image)
        if (header := PNM_HEADER.match(content)) and int(header[4]) > 255:
            return _decode_deep_pnm(content, header)
    except Exception as error:
        raise _damaged(name, error) from error
    return _read_opened(image, name, content)


def _turn_upright(image: Image.Image) -> Image.Image:
    """Load an image that was opened lazily, and apply EXIF rotation; an upright image is not copied."""
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    upright = ImageOps.exif_transpose(image)
    upright.format = image.format  # a copy forgets it
    return upright


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8, to an array."""
    values = values.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else values
    values = values[:, ::-1] if orientation in (2, 3, 6, 7) else values
    return values[::-1] if orientation in (3, 4, 7, 8) else values


def _decode_deep_png(content: bytes, image: Any) -> Raster:
    """Decode a PNG of 16 bits, with its transparent colour (tRNS) and its number of used bits (sBIT)."""
    rawmode, top = image.tile[0][3], 65535.0
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.uint16)
    elif rawmode == "LA;16B":
        values = _decode_as(content, 0, "RGBA").view(">u2").astype(np.uint16)
    else:
        values = _decode_twice(content, 0, rawmode, rawmode.replace("16B", "16L"))
    if (clear := image.info.get("transparency")) is not None:
        is_clear = (values.reshape(*values.shape[:2], -1) == clear).all(axis=2)
        values = np.dstack([values, np.where(is_clear, 0, 65535).astype(np.uint16)])
    if declared := re.search(rb"\0\0\0([\1-\4])sBIT", content[: content.find(b"IDAT")]):
        bits = content[declared.end() :][: declared[1][0]]
        top = _declared_top(values, 2 ** max(bits) - 1, 65535)
    return _split_alpha(_turn(values, image.getexif().get(ExifTags.Base.Orientation, 1)), (0, top))


def _decode_twice(content: bytes, page: int, high: str, low: str) -> np.ndarray:
    """Read colours of 16 bits in two passes, since Pillow returns only one byte of each sample."""
    return _decode_as(content, page, high).astype(np.uint16) << 8 | _decode_as(content, page, low)


def _decode_as(content: bytes, page: int, rawmode: str) -> np.ndarray:
    """Decode in Pillow with another raw mode, such as `RGB;16L` for the low bytes."""
    image: Any = Image.open(io.BytesIO(content), formats=FORMATS)
    image.seek(page)
    *tile, arguments = image.tile[0]
    image.tile = [(*tile, (rawmode, *arguments[1:]) if isinstance(arguments, tuple) else rawmode)]
    return np.array(image)


def _decode_deep_pnm(content: bytes, header: re.Match) -> Raster:
    """Decode a binary or plain PNM of more than 8 bits."""
    kind, width, height, top = (int(number) for number in header.groups())
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    count = int(np.prod(shape))
    if kind in (5, 6):
        values = np.frombuffer(content, ">u2", count, header.end()).astype(np.uint16)
    else:
        values = np.array(content[header.end() :].split()[:count], np.uint16)
    return Raster(values.reshape(shape), limits=(0, top))


def _is_plain_tiff(image: Any, max_bits: int = 8) -> bool:
    """Return whether Pillow reads a TIFF correctly; it misreads planes of 16 bits and bands that are not alpha."""
    tags = image.tag_v2
    bits, samples = tags.get(BITS, (1,)), tags.get(SAMPLES, 1)
    photometric, extra = tags.get(PHOTOMETRIC, 0), tags.get(EXTRA_SAMPLES, ())
    is_chunky = tags.get(PLANAR, 1) == 1
    is_alpha = photometric in (1, 2) and len(extra) == 1 and extra[0] in ALPHA
    return (
        max(bits) <= max_bits
        and (is_chunky or (max(bits) <= 8 and not is_alpha))
        and set(tags.get(SAMPLE_FORMAT, (1,))) == {1}
        and samples == COLOURS.get(photometric, 0) + is_alpha
        and (photometric != 6 or tags.get(COMPRESSION) == JPEG)
    )


def _decode_tiff(content: bytes, name: str, max_pixels: int, image: Any = None) -> Image.Image | Raster:
    """Read a TIFF that Pillow refuses or misreads."""
    try:
        import tifffile
    except ImportError as error:
        raise ValueError(f"{name} needs tifffile; `pip install tifffile`.") from error
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors say what is wrong
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            pages: Any = file.pages
            page = next((page for page in pages if not page.subfiletype & NOT_AN_IMAGE), pages[0])
            size = (page.imagewidth, page.imagelength * page.samplesperpixel)
            if size[0] * size[1] <= 3 * max_pixels:
                values = _unpack(page, content) if page.bitspersample in range(9, 16) else page.asarray()
    except Exception as error:  # damaged files make tifffile raise almost anything
        if image is not None and "imagecodecs" in str(error) and _is_plain_tiff(image, max_bits=16):
            return _decode_deep_tiff(content, image, name)
        raise _damaged(name, error) from error
    _check_size(size, name, 3 * max_pixels)
    values = np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values
    if page.axes not in ("YX", "YXS", "SYX") or not isinstance(page.bitspersample, int):
        raise ValueError(f"{name} has an uncommon structure ({page.axes}, {page.bitspersample} bits); save it as PNG.")
    values = _turn(values, page.tags.valueof("Orientation", 1))
    return _interpret(values, page, name)


def _decode_deep_tiff(content: bytes, image: Any, name: str) -> Image.Image | Raster:
    """Read 16 bits a sample with Pillow, whose libtiff supports more compressions than tifffile alone."""
    orders = ("B", "L") if sys.byteorder == "big" else ("L", "B")
    if image.mode not in ("RGB", "RGBA"):
        return _read_opened(image, name)
    try:
        values = _decode_twice(content, image.tell(), *(f"{image.mode};16{order}" for order in orders))
    except Exception as error:
        raise _damaged(name, error) from error
    values = _turn(values, image.tag_v2.get(ExifTags.Base.Orientation, 1))
    return _split_alpha(values, (0, _declared_top(values, image.tag_v2.get(MAX_SAMPLE, (65535,))[0], 65535)))


def _unpack(page: Any, content: bytes) -> np.ndarray:
    """Read 9 to 15 bits a sample, which tifffile alone cannot unpack."""
    if page.compression not in (1, 8) or page.is_tiled or page.fillorder != 1:
        return page.asarray()
    bits, shape = page.bitspersample, page.shape
    row_samples = shape[1] * shape[2] if page.axes == "YXS" else shape[-1]
    rows, row_bytes = int(np.prod(shape)) // row_samples, -(-row_samples * bits // 8)
    strips = [content[at : at + size] for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if page.compression == 8:
        strips = [zlib.decompressobj().decompress(strip, rows * row_bytes) for strip in strips]
    packed = np.frombuffer(b"".join(strips), np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    single = np.unpackbits(packed, axis=1)[:, : row_samples * bits].reshape(-1, bits)
    padded = np.pad(single, ((0, 0), (16 - bits, 0)))
    return np.packbits(padded, axis=1).view(">u2").astype(np.uint16).reshape(shape)


def _interpret(values: np.ndarray, page: Any, name: str) -> Image.Image | Raster:
    """Apply the photometric interpretation of a TIFF's page."""
    kind, bits, extra = int(page.photometric), page.bitspersample, [int(sample) for sample in page.extrasamples]
    if kind not in (0, 1, 2, 3, 5, 6) or (kind == 6 and bits != 8):
        raise ValueError(f"{name} has the photometric interpretation {page.photometric!r}; save it as RGB.")
    limits = None
    if values.dtype.kind in "bu" and bits <= 16:
        top = 2**bits - 1
        declared = page.tags.valueof("MaxSampleValue", top) if bits > 8 else top
        limits = (0, _declared_top(values, np.max(declared), top))
    bands = values.reshape(*values.shape[:2], -1)
    alpha_at = next((place - len(extra) for place, code in enumerate(extra) if code in ALPHA), None)
    before_alpha = bands if alpha_at is None else bands[..., :alpha_at]
    is_single = kind == 3 or before_alpha.shape[2] < 3  # grey, or indices of a palette
    colours = before_alpha[..., :4] if kind == 5 else before_alpha[..., : 1 if is_single else 3]
    if kind == 3:
        colours, limits = np.moveaxis(page.colormap[:, colours[..., 0]], 0, -1), (0, 65535)
    elif kind in (5, 6):
        eight_bits = _scale(colours, limits or (0, _type_limit(values)))
        colours = np.asarray(Image.fromarray(eight_bits, "CMYK" if kind == 5 else "YCbCr").convert("RGB"))
        limits = (0, 255)
    if alpha_at is None:
        return Raster(colours.squeeze(2) if colours.shape[2] == 1 else colours, None, limits, kind == 0)
    alpha = bands[..., alpha_at]
    if extra[alpha_at] == 1:  # colours are premultiplied
        colours = colours / np.maximum(alpha, 1)[..., None] * (limits[1] if limits else _type_limit(values))
    return _split_alpha(np.dstack([colours, alpha]), limits)._replace(is_inverted=kind == 0)


def _decode_dicom(content: bytes, name: str, max_pixels: int) -> Image.Image | Raster:
    """Read the first frame of a DICOM file, rescaled; its first window gives the limits."""
    try:
        from pydicom import dcmread
        from pydicom.pixels import pixel_array
    except ImportError as error:
        raise ValueError(f"{name} needs pydicom; `pip install anomalyclip-hf[dicom]`.") from error
    try:
        file = dcmread(io.BytesIO(content))
        _check_size((file.Columns, file.Rows), name, max_pixels)
        pixels, kind = pixel_array(file, index=0), file.PhotometricInterpretation
        if file.SamplesPerPixel > 1:
            return _split_alpha(pixels, (0, 2**file.BitsStored - 1))
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise ValueError(f"{name} has the photometric interpretation {kind}; expected grey or RGB.")
        if file.get("ModalityLUTSequence"):
            raise ValueError(f"{name} has a modality lookup table, which is not supported; save it as PNG.")
        return _rescale(pixels, file)._replace(is_inverted=kind == "MONOCHROME1")
    except Exception as error:  # a missing decoder and a damaged file alike
        raise _damaged(name, error) from error


def _rescale(pixels: np.ndarray, file: Any) -> Raster:
    """Rescale the pixels of a DICOM file, and apply its first window as DICOM PS3.3, C.11.2.1, defines."""
    slope = float(_dicom_value(file, "RescaleSlope", 1))
    intercept = float(_dicom_value(file, "RescaleIntercept", 0))
    values = (pixels * slope + intercept).astype(np.float32)
    centre, width = (_dicom_value(file, f"Window{part}") for part in ("Center", "Width"))
    if not slope:
        raise ValueError("its RescaleSlope is 0")
    if centre is not None and width is not None:
        function = _dicom_value(file, "VOILUTFunction", "LINEAR")
        centre, width = float(centre), max(float(width), 1e-3)
        if function == "SIGMOID":
            return Raster(values, None, (-1, 1), shown=np.tanh((values - centre) * (2 / width)))
        if function != "LINEAR_EXACT":
            centre, width = centre - 0.5, max(width - 1, 1.0)
        return Raster(values, None, (centre - width / 2, centre + width / 2))
    if file.get("VOILUTSequence"):
        _warn_once(LOOKUP_TABLE)
    if file.get("PixelRepresentation", 1):  # signed, or floats
        return Raster(values)
    low, high = sorted((intercept, (2**file.BitsStored - 1) * slope + intercept))
    return Raster(values, None, (low, high))


def _dicom_value(file: Any, tag: str, default: Any = None) -> Any:
    """Return the first value that a DICOM file declares for its first frame; elements without one count as absent."""
    places = [file]
    for kind in ("PerFrame", "Shared"):
        for group in (file.get(f"{kind}FunctionalGroupsSequence") or [])[:1]:
            for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                places += (group.get(macro) or [])[:1]
    for place in places:
        if tag in place and place[tag].VM:
            return place[tag].value if place[tag].VM == 1 else place[tag].value[0]
    return default


def _decode_heif(content: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        from pillow_heif import open_heif
    except ImportError as error:
        raise ValueError(f"{name} needs pillow-heif; `pip install anomalyclip-hf[heif]`.") from error
    try:
        file = open_heif(content, convert_hdr_to_8bit=True)
        _check_size(file.size, name, max_pixels)
        image = file.to_pillow()
    except Exception as error:
        raise _damaged(name, error) from error
    image.info["lossy"] = True
    return image


# ------------------------------------------------------------------------------------------------ pixels


def _read_opened(image: Image.Image, name: str, content: bytes = b"") -> Image.Image | Raster:
    """Read an image that is open in Pillow, and note in `info` whether it was compressed with loss."""
    tags: Any = getattr(image, "tag_v2", {})
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if tags and not _is_plain_tiff(image, max_bits=16) and not (is_deep and tags.get(PHOTOMETRIC) == 1):
        raise ValueError(f"{name} is a TIFF that Pillow misreads; pass its path or its bytes.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upright = _turn_upright(image)
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise _damaged(name, error) from error
    if not is_deep:
        if upright.format == "BMP" and upright.mode == "RGBA" and upright.getchannel("A").getbbox() is None:
            upright = upright.convert("RGB")  # the fourth byte is only padding
        is_lossy_webp = image.format == "WEBP" and b"VP8L" not in content[:4096]
        is_jpeg = image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"
        upright.info["lossy"] = is_jpeg or is_lossy_webp
        return upright
    values, limits = np.asarray(upright), None
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values, top = values.astype(np.uint16), 2 ** max(tags.get(BITS, (16,))) - 1
        limits = (0, _declared_top(values, max(tags.get(MAX_SAMPLE, (top,))), top))
    return Raster(values, None, limits, tags.get(PHOTOMETRIC) == 0)


def _split_channels(pixels: np.ndarray, name: str) -> Raster:
    """Read an array of one, three or four channels, first or last."""
    shape, channels = pixels.shape, (1, 3, 4)
    if pixels.ndim == 3 and shape[2] not in channels and shape[0] in channels:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in channels) or 0 in shape:
        raise ValueError(f"{name} has shape {shape}; expected (height, width) or (height, width, 3).")
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"{name} has pixels of type {pixels.dtype}; expected integers or floats.")
    return _split_alpha(pixels, None)


def _split_alpha(values: np.ndarray, limits: tuple[float, float] | None) -> Raster:
    """Separate colours and alpha; the last of two or four channels is alpha."""
    channels = values.shape[2] if values.ndim == 3 else 1
    alpha = values[..., -1] if channels in (2, 4) else None
    colours = values if alpha is None else values[..., :-1]
    colours = colours[..., 0] if colours.ndim == 3 and colours.shape[2] == 1 else colours
    return Raster(colours, None if alpha is None else _scale(alpha, limits or (0, _type_limit(alpha))), limits)


def _declared_top(values: np.ndarray, declared: float, fallback: float) -> float:
    """Return the highest value that a file declares, or the fallback if a pixel is higher."""
    return float(declared if declared > 0 and values.max() <= declared else fallback)


def _type_limit(values: np.ndarray) -> float:
    """Return the value of white for a number type: 1, 255 or 65535."""
    is_float = values.dtype.kind == "f"
    if values.dtype == bool or (is_float and values.max() <= MAX_OVERSHOOT):
        return 1
    return 65535 if values.dtype == np.uint16 or (not is_float and values.max() > 255) else 255


def _scale(values: Any, limits: tuple[float, float]) -> np.ndarray:
    """Scale values to uint8, black and white at the limits."""
    if values.dtype == np.uint8 and limits == (0, 255):
        return values
    low, high = limits
    if values.dtype in (np.uint8, np.uint16):  # a table is faster
        return np.take(_scale(np.arange(65536, dtype=np.float32), limits), values)
    kind = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    return ((values.astype(kind) - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning(text)


def _to_8_bit(raster: Raster, name: str, value_range: tuple[float, float] | str | None) -> Image.Image:
    """Scale pixels to 8 bits, by the given range, the declared one or that of the number type."""
    values, alpha, limits, is_inverted, shown = raster
    values = shown if shown is not None and value_range is None else values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite pixels; replace them before scoring.")
    if values.dtype not in (bool, np.uint8):
        low, high = float(values.min()), float(values.max())
        if isinstance(value_range, tuple):
            limits = value_range
        elif value_range == "auto":
            limits = (low, max(high, float(np.nextafter(low, np.inf))))
        elif limits is None and values.dtype != np.uint16 and not 0 <= low <= high <= 255:
            raise ValueError(
                f"{name} has pixels of type {values.dtype} from {low:g} to {high:g}; expected 0 to 255, or 0 to 1 of "
                "floats. Say which are black and white: value_range=(low, high), in a command --value-range LOW HIGH."
            )
        limits = limits or (0, _type_limit(values))
        if high - low < (limits[1] - limits[0]) / 8:
            _warn_once(FEW_VALUES)
    pixels = _scale(values, limits or (0, _type_limit(values)))
    pixels = 255 - pixels if is_inverted else pixels
    return Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha]))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparent pixels over white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        to_rgb: Any = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        return to_rgb.apply(image)
    image = image.convert("LA") if image.mode == "La" else image
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if image.getchannel("A").getbbox() is None:  # an alpha of 0 everywhere is a mistake of the writer
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_raster(image: Image.Image) -> Raster:
    """Convert a mask that Pillow has read to colours, or to class numbers if its palette is empty."""
    image = image.convert("LA") if image.mode == "La" else image
    if image.mode == "LAB":
        image = _to_rgb(image)
    if image.mode == "P" and not any(image.getpalette() or ()):
        return Raster(np.asarray(image))  # class numbers without colours
    if image.has_transparency_data:
        return _split_alpha(np.asarray(image.convert("RGBA")), (0, 255))
    return Raster(np.asarray(image if image.mode in ("1", "L") else image.convert("RGB")))


__all__ = ["MASK_RULES", "check_value_range", "load_image", "load_mask", "masks_to_tensor"]
