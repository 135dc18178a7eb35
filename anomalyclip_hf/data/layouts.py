# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Recognise layouts of folders, and list their images.

No image is opened. Masks are opened only in layouts where an empty mask means that an image is normal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .files import folder_name, list_folders, list_images, list_masks, pair_masks, split_mask_folders, split_masks
from .words import ANOMALOUS, GOOD, NORMAL, label_of


Words = frozenset[str]  # further words that mean normal
IMAGE_FOLDERS = ("images", "image", "imgs", "img")


@dataclass(frozen=True)
class Row:
    """Hold one image of a dataset.

    Args:
        image (`Path`): File of the image.
        label (`int`, *optional*): 0 normal, 1 anomalous, `None` unknown.
        category (`str`): Such as `bottle`.
        defect_type (`str`, *optional*): Such as `scratch`; `good` for normal images.
        split (`str`): `"test"`, `"train"`, …
        mask (`Path` or `bytes`, *optional*): File of the mask, folder with several of them, or a mask in memory.
        empty_mask (`Path`, *optional*): File of the empty mask of a normal image.
    """

    image: Path
    label: int | None
    category: str
    defect_type: str | None
    split: str = "test"
    mask: Path | bytes | None = None
    empty_mask: Path | None = None


class Reader(Protocol):
    """Read a layout; `name` is its usual name, and `expects` describes it in errors."""

    @property
    def name(self) -> str: ...

    @property
    def expects(self) -> str: ...

    def fits(self, root: Path, normal_words: Words) -> bool:
        """Return whether the folder looks like this layout."""

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        """List all images in the folder, in a fixed order."""


@dataclass(frozen=True)
class CategoryTree:
    """Read `<category>/{train,test}/<type>/x.png` with `<category>/ground_truth/<type>/x_mask.png`, as in MVTec AD.

    A folder that holds `test` itself is read as one category.
    """

    categories: tuple[str, ...] = ()  # if given, other folders do not count
    name: str = "category tree"
    expects: str = "<category>/test/<type>/, and masks in <category>/ground_truth/<type>/"
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "test": "test"})  # ours to folders
    images: str = ""  # folder of the images in each type

    def fits(self, root: Path, normal_words: Words) -> bool:
        return bool(self._category_folders(root))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        for folder in self._category_folders(root):
            for split, words in self.splits.items():
                yield from self._split_rows(folder, split, words, normal_words)

    def _split_rows(self, folder: Path, split: str, words: str, normal_words: Words) -> Iterator[Row]:
        kinds, beside = split_mask_folders(list_folders(folder / words))
        holders = beside + split_mask_folders(list_folders(folder))[1]
        if split == "test":
            _check_words(folder / words, kinds, holders, normal_words)
        for kind in kinds:
            yield from _rows_of_type(kind, self.images, holders, _category(folder), split, normal_words)

    def empty_folders(self, root: Path) -> list[Path]:
        """List folders of types without images, as a partly unpacked archive leaves them."""
        splits = [folder / word for folder in self._category_folders(root) for word in self.splits.values()]
        kinds = [kind for split in splits for kind in split_mask_folders(list_folders(split))[0]]
        return [kind for kind in kinds if not list_images(kind / self.images)]

    def _category_folders(self, root: Path) -> list[Path]:
        test = self.splits["test"]
        folders = [root] if list_folders(root / test) else list_folders(root)
        known = self.categories
        return [
            folder
            for folder in folders
            if (not known or _category(folder) in known) and any(map(self._has_images, list_folders(folder / test)))
        ]

    def _has_images(self, kind: Path) -> bool:
        return not self.images or (kind / self.images).is_dir()


def _category(folder: Path) -> str:
    return folder_name(folder).replace(" ", "_")


def _check_words(folder: Path, kinds: list[Path], holders: list[Path], normal_words: Words) -> None:
    """Refuse a test folder in which no word is known, instead of calling all its images anomalous."""
    if any(label_of(kind.name, normal_words) is not None or list_masks(kind, holders) for kind in kinds):
        return
    if kinds:
        names = ", ".join(kind.name for kind in kinds)
        raise ValueError(
            f"{folder} holds {names}, and none of these words is known to mean normal or anomalous; name the folder "
            "of the normal images with normal_labels=[WORD] (in a command --normal-label WORD)."
        )


def _rows_of_type(
    kind: Path, images: str, holders: list[Path], category: str, split: str, normal_words: Words
) -> Iterator[Row]:
    files, beside = split_masks(list_images(kind / images))
    if label_of(kind.name, normal_words) == NORMAL:
        yield from (Row(image, NORMAL, category, GOOD, split) for image in files)
        return
    mask_of = pair_masks(files, beside + list_masks(kind, holders))
    yield from (Row(image, ANOMALOUS, category, kind.name, split, mask_of.get(image)) for image in files)


@dataclass(frozen=True)
class TypeFolders:
    """Read one folder per type directly below the root: `good` and others, with masks in `ground_truth/<type>`."""

    name: str = "type folders"
    expects: str = "good/ and one folder for each type of defect"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return any(
            label_of(folder.name, normal_words) == NORMAL and list_images(folder) for folder in list_folders(root)
        )

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        kinds, holders = split_mask_folders(list_folders(root))
        for kind in kinds:
            yield from _rows_of_type(kind, "", holders, folder_name(root), "test", normal_words)


@dataclass(frozen=True)
class ClassFolders:
    """Read one folder per class, from a list of names; other folders are ignored."""

    classes: Mapping[str, str]  # folder, case ignored, to defect type
    category: str
    below: str = ""  # the images' own folder in each
    name: str = "class folders"

    @property
    def expects(self) -> str:
        return ", ".join(f"{folder}/{self.below}" for folder in self.classes)

    def fits(self, root: Path, normal_words: Words) -> bool:
        return len(self._folders(root)) == len(self.classes)

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        for folder, kind in self._folders(root):
            label = NORMAL if kind == GOOD else ANOMALOUS
            yield from (Row(image, label, self.category, kind) for image in list_images(folder))

    def _folders(self, root: Path) -> list[tuple[Path, str]]:
        kinds = {name.casefold(): kind for name, kind in self.classes.items()}
        found = [folder for folder in list_folders(root) if folder.name.casefold() in kinds]
        folders = [(folder / self.below, kinds[folder.name.casefold()]) for folder in found]
        return [(folder, kind) for folder, kind in folders if list_images(folder)]


@dataclass(frozen=True)
class ImagesAndMasks:
    """Read a folder of images, or a glob of folders, and a folder of masks, for each split."""

    category: str
    defect_type: str
    folders: Mapping[str, tuple[str, str]] = field(default_factory=lambda: {"test": ("images", "masks")})
    mask_ending: str = ""
    name: str = "images and masks"

    @property
    def expects(self) -> str:
        return " and ".join(f"{folder}/" for folder in self.folders["test"])

    def fits(self, root: Path, normal_words: Words) -> bool:
        images, masks = self.folders["test"]
        return bool(_images_of(root, images)) and (root / masks).is_dir()

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        for split, (image_folder, mask_folder) in self.folders.items():
            images = _images_of(root, image_folder)
            mask_of = pair_masks(images, list_images(root / mask_folder), self.mask_ending or None)
            for image in images:
                yield Row(image, ANOMALOUS, self.category, self.defect_type, split, mask_of.get(image))


def _images_of(root: Path, pattern: str) -> list[Path]:
    return [image for folder in sorted(root.glob(pattern)) for image in list_images(folder)]


@dataclass(frozen=True)
class OwnImagesAndMasks:
    """Read images and masks of your own: an image is normal if its mask is empty or missing."""

    name: str = "images and masks"
    expects: str = "images/ and masks/"

    def fits(self, root: Path, normal_words: Words) -> bool:
        images, masks = self._files(root)
        return bool(images and masks)

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        images, masks = self._files(root)
        yield from _rows_by_mask(images, pair_masks(images, masks), folder_name(root), "anomaly", "test")

    def _files(self, root: Path) -> tuple[list[Path], list[Path]]:
        folders = list_folders(root)
        holders = split_mask_folders(folders)[1]
        image_folders = [folder for folder in folders if folder.name.casefold() in IMAGE_FOLDERS]
        if not image_folders:
            return split_masks(list_images(root))  # masks beside images
        images, beside = split_masks(list_images(image_folders[0]))
        return images, beside + [mask for folder in holders for mask in [*list_images(folder), *list_folders(folder)]]


def _rows_by_mask(
    images: list[Path], mask_of: Mapping[Path, Path], category: str, defect_type: str, split: str
) -> Iterator[Row]:
    for image in images:
        mask = mask_of.get(image)
        if mask is None or is_empty_mask(mask):
            yield Row(image, NORMAL, category, GOOD, split, empty_mask=mask)
        else:
            yield Row(image, ANOMALOUS, category, defect_type, split, mask)


@dataclass(frozen=True)
class MaskBeside:
    """Read masks near their images, with an ending in their names: `Class1/Train/Label/0576_label.PNG`."""

    pattern: str  # glob of the folders that hold images, with {split}
    splits: Mapping[str, str]  # our splits to the words in the folders' names
    masks: str  # folder of the masks, relative to the images
    name: str
    category: str = ""  # default: the folder directly below the root
    ending: str = "_label"
    mask_decides: bool = False  # an empty mask means normal; otherwise any mask means anomalous

    @property
    def expects(self) -> str:
        example = self.pattern.format(split=self.splits["test"])
        return f"{example}/ with masks called *{self.ending} in {example}/{self.masks}"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return any(list_images(folder) for folder in root.glob(self.pattern.format(split=self.splits["test"])))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        for split, word in self.splits.items():
            for folder in sorted(root.glob(self.pattern.format(split=word)), key=_natural):
                category = self.category or folder.relative_to(root).parts[0]
                files = list_images(folder)
                images = [file for file in files if not file.stem.endswith(self.ending)]
                mask_of = pair_masks(images, list_images(folder / self.masks), self.ending)
                if self.mask_decides:
                    yield from _rows_by_mask(images, mask_of, category, "defect", split)
                    continue
                for image in images:
                    mask = mask_of.get(image)
                    label, kind = (NORMAL, GOOD) if mask is None else (ANOMALOUS, "defect")
                    yield Row(image, label, category, kind, split, mask)


def _natural(path: Path) -> tuple[int, str]:
    """Order Class2 before Class10."""
    return len(str(path)), str(path)


def is_empty_mask(mask: Path) -> bool:
    """Return whether no pixel of a mask is anomalous."""
    from ..image_processing_anomalyclip import load_mask

    return not load_mask(mask).any()


@dataclass(frozen=True)
class FlatFolder:
    """Read images in one folder, with unknown labels and without masks."""

    name: str = "flat folder"
    expects: str = "images directly in the folder"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return bool(list_images(root))

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        yield from (Row(image, None, folder_name(root), None) for image in list_images(root))
