# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read images with their ground truth, for training, evaluation, prediction and the feature cache."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..image_processing_anomalyclip import (
    MASK_RULES,
    check_value_range,
    is_array,
    load_image,
    load_mask,
    masks_to_tensor,
    to_array,
)
from ..io.fingerprints import file_state, fingerprint
from .words import ANOMALOUS, NORMAL, clean, parse_label


if TYPE_CHECKING:  # a list of paths is read without the `datasets` library, which takes seconds to import
    import datasets


@dataclass
class Sample:
    """Hold one opened image with its ground truth.

    Args:
        index (`int`): Index in the dataset.
        source (`str`): Name of the image in results and errors: its path below the dataset's root, or `"image 3"`.
        image (`PIL.Image.Image`): Upright RGB.
        label (`int`, *optional*): 0 normal, 1 anomalous, `None` unknown.
        mask (`np.ndarray`, *optional*):
            `(height, width)` uint8 of 0 and 1, at the image's size. `None` if there is no ground truth for pixels.
        category (`str`, *optional*): Such as `bottle`.
        defect_type (`str`, *optional*): Such as `scratch`; `good` for normal images.
        note (`str`, *optional*): A problem of the ground truth, such as an empty mask, in one line.
    """

    index: int
    source: str
    image: Image.Image
    label: int | None = None
    mask: np.ndarray | None = None
    category: str | None = None
    defect_type: str | None = None
    note: str | None = None

    def mask_at(self, size: tuple[int, int]) -> np.ndarray | None:
        """Resize the mask by the rule of [`masks_to_tensor`], and set `note` if nothing of it is left.

        Args:
            size (`tuple[int, int]`): Height and width, in pixels.

        Returns:
            `np.ndarray` of shape `(height, width)`, uint8 of 0 and 1; `None` without ground truth for pixels.
        """
        if self.mask is None:
            return None
        resized = _resize_mask(self.mask, size)
        if self.mask.any() and not resized.any():
            self.note = (
                f"the mask of {self.source} vanishes when resized from {_text(self.mask.shape)} to {_text(size)} "
                "px; `anomalyclip evaluate --resolution original` compares at its own size."
            )
        return resized


class SampleReader:
    """Read images with their ground truth from a dataset, one by one, whatever types its columns have.

    A normal image has a mask of zeros. An anomalous image without a mask, or with an empty one, has no ground truth
    for pixels. A mask of another size is resized to its image where the aspect ratio agrees to within a pixel.

    Args:
        dataset:
            A [`~datasets.Dataset`] (or any sequence of dicts) with the column `image` and possibly `mask`, `label`,
            `category`, `defect_type` and `path`; or a list of images as [`load_image`] accepts them, without labels.
        mask_rule (`str`, *optional*):
            `"auto"`, `"classes"` or `"nonzero"`, see [`load_mask`]. Defaults to the rule of the dataset's `mask`
            column, else `"auto"`.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits, see [`load_image`].
        start (`int`, *optional*, defaults to 0): Number of the first image, in names and errors.

    Raises:
        ValueError: If the dataset is streamed, has several splits or has no `image` column, or the rule or range is
            unknown.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.data.samples import SampleReader

    >>> image, mask = np.zeros((4, 6), np.uint8), np.eye(4, 6)
    >>> reader = SampleReader([{"image": image, "label": "good"}, {"image": image, "label": 1, "mask": mask}])
    >>> [(sample.source, sample.label, int(sample.mask.sum())) for sample in map(reader.read, range(len(reader)))]
    [('image 0', 0, 0), ('image 1', 1, 4)]

    ```
    """

    def __init__(self, dataset: Any, *, mask_rule: str | None = None, value_range: Any = None, start: int = 0):
        is_one = isinstance(dataset, (str, os.PathLike, bytes, dict))
        if is_one or _is_a(dataset, "IterableDataset") or not hasattr(dataset, "__len__"):
            raise ValueError(
                f"got {type(dataset).__name__}; expected a list of images, or one split of a dataset that was "
                "loaded without streaming=True."
            )
        self._features: dict[str, Any] = {}
        rule = None
        if _is_a(dataset, "Dataset"):
            if "image" not in dataset.column_names:
                raise ValueError(
                    f"the dataset has the columns {', '.join(dataset.column_names)}; expected one called image. Use "
                    "dataset.rename_column."
                )
            rule = getattr(dataset.features.get("mask"), "mask_rule", None)
            dataset, self._features = _undecoded(dataset), dict(dataset.features)
        self.mask_rule = mask_rule or rule or "auto"
        if self.mask_rule not in MASK_RULES:
            raise ValueError(f"mask_rule is {self.mask_rule!r}; expected one of {', '.join(MASK_RULES)}.")
        self.value_range = check_value_range(value_range)
        self._dataset, self._start = dataset, start

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, index: int) -> Sample:
        """Open an image and its mask.

        Args:
            index (`int`): Index in the dataset.

        Returns:
            [`Sample`]

        Raises:
            FileNotFoundError: If one of the files does not exist.
            ValueError: If one cannot be read, the label is unknown, or the mask does not fit the image.
        """
        row, name = self._row(index), self.name(index)
        source = _source(row["image"])
        image = load_image(source, None if _path_of(row["image"]) else name, value_range=self.value_range)
        label = self._label(row, index)
        mask, note = self._read_mask(row.get("mask"), label, image, name)
        return Sample(
            index, name, image, label, mask, self._word(row, "category"), self._word(row, "defect_type"), note
        )

    def name(self, index: int) -> str:
        """Return the name of an image in results and errors, without opening it."""
        row = self._row(index)
        return str(row.get("path") or _path_of(row["image"]) or f"image {self._start + index}")

    def digest(self, index: int) -> str:
        """Return the SHA-256 of everything that a sample depends on: both files, the label and the settings."""
        row = self._row(index)
        contents = (_content(row["image"]), _content(row.get("mask"), may_be_folder=True))
        return fingerprint((self._label(row, index), self.mask_rule, self.value_range), *contents)

    def state(self, index: int) -> tuple[Any, ...]:
        """Return name, label, category, and size and time of the files of a sample, without reading them."""
        row = self._row(index)
        files = [_file_state(row["image"]), _file_state(row.get("mask"))]
        return self.name(index), self._label(row, index), self._word(row, "category"), *files

    @property
    def labels(self) -> list[int | None]:
        """The label of each image, without opening any."""
        return [self._label(row, index) for index, row in enumerate(self._rows())]

    @property
    def categories(self) -> list[str | None]:
        """The category of each image, without opening any."""
        return [self._word(row, "category") for row in self._rows()]

    @property
    def has_masks(self) -> bool:
        """Return whether any image has a mask."""
        return any(row.get("mask") is not None for row in self._rows("mask"))

    def _rows(self, *more: str) -> Any:
        """Return all rows; those of a `datasets.Dataset` without the images."""
        if not _is_a(self._dataset, "Dataset"):
            return (self._row(index) for index in range(len(self)))
        names = [name for name in ("label", "category", *more) if name in self._features]
        return self._dataset.select_columns(names) if names else ({} for _ in range(len(self)))

    def _row(self, index: int) -> dict[str, Any]:
        row = self._dataset[index]
        return row if isinstance(row, dict) and "image" in row else {"image": row}

    def _word(self, row: dict[str, Any], column: str) -> str | None:
        return read_text(row.get(column), self._features.get(column))

    def _label(self, row: dict[str, Any], index: int) -> int | None:
        return parse_label(self._word(row, "label"), f"image {self._start + index}")

    def _read_mask(
        self, source: Any, label: int | None, image: Image.Image, name: str
    ) -> tuple[np.ndarray | None, str | None]:
        size = (image.height, image.width)
        if label == NORMAL:
            return np.zeros(size, np.uint8), None
        if source is None:
            return None, f"{name} is anomalous and has no mask." if label == ANOMALOUS else None
        mask = load_mask(_source(source), self.mask_rule).astype(np.uint8)
        if label == ANOMALOUS and not mask.any():
            return None, f"the mask of {name} is empty, though the image is anomalous."
        if tuple(mask.shape) != size:
            if abs(mask.shape[1] * size[0] - mask.shape[0] * size[1]) > max(*size, *mask.shape):
                raise ValueError(
                    f"{name} is {_text(size)} px and its mask {_text(mask.shape)} px; expected one aspect ratio. "
                    "Correct or remove the mask."
                )
            mask = _resize_mask(mask, size)
        return mask, None


def read_text(value: Any, feature: Any) -> str | None:
    """Return the text of a column: the name of a class instead of its number, `None` for the -1 of `datasets`."""
    if feature is not None and _is_a(feature, "ClassLabel") and value is not None:
        value = feature.names[value] if value >= 0 else None
    return clean(value.item() if is_array(value) and value.ndim == 0 else value)


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return masks_to_tensor([mask], size)[0].numpy().astype(np.uint8)


def _is_a(value: Any, name: str) -> Any:
    """Return whether a value is an instance of a class of the `datasets` library, without importing the library."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(value, getattr(library, name))


def _undecoded(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """Leave images and masks undecoded, since this package decodes them, and drop formats and transforms."""
    from datasets import Image as ImageFeature

    dataset = dataset.with_format(None)
    for name in ("image", "mask"):
        if isinstance(dataset.features.get(name), ImageFeature):
            dataset = dataset.cast_column(name, ImageFeature(decode=False))
    return dataset


def _source(value: Any) -> Any:
    """Convert the value of a column to a source that [`load_image`] accepts."""
    if isinstance(value, (list, tuple)):
        return np.asarray(value)
    if isinstance(value, dict) and value.get("bytes") is None and not _is_local(value.get("path") or ""):
        from datasets import Image as ImageFeature

        return ImageFeature().decode_example(value)
    return value


def _is_local(path: Any) -> bool:
    return "://" not in os.fspath(path)


def _path_of(value: Any) -> str | None:
    value = value.get("path") if isinstance(value, dict) else value
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else getattr(value, "filename", None) or None


def _file_state(value: Any) -> Any:
    """Return size and time of a file, the name of a remote file, or a digest of content in memory."""
    held = value.get("bytes") if isinstance(value, dict) else None
    path = None if held is not None or value is None else _path_of(value)
    if path is None:
        return fingerprint(_content(value))
    return file_state(path) if _is_local(path) else path


def _content(value: Any, may_be_folder: bool = False) -> bytes:
    value = _source(value)
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value["path"]
    if may_be_folder and isinstance(value, (str, os.PathLike)) and os.path.isdir(value):  # several masks of one image
        return b"".join(_content(os.path.join(value, name)) for name in sorted(os.listdir(value)))
    if isinstance(value, (str, os.PathLike)) and _is_local(str(value)):
        with open(value, "rb") as file:
            return file.read()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (str, type(None))):
        return repr(value).encode()
    pixels = to_array(value) if is_array(value) else np.asarray(value)
    return f"{getattr(value, 'mode', '')} {pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()


def _text(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"
