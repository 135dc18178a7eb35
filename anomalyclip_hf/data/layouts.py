# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Readers of layouts: each says whether a folder looks like its layout, and what is in it. None opens an image,
except where only the mask says whether an image is anomalous.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from .files import list_folders, list_images, pair_masks, path_inside


NORMAL, ANOMALOUS = 0, 1
GOOD = "good"  # the defect type of a normal image
NORMAL_FOLDERS = frozenset({"good", "ok", "normal"})
NORMAL_WORDS = frozenset({"0", "0.0", "false", "no", "normal", "good", "ok", "negative"})
ANOMALOUS_WORDS = frozenset(
    {"1", "1.0", "true", "yes", "anomalous", "anomaly", "abnormal", "defect", "defective", "bad", "ng", "positive"}
)
MASK_FOLDERS = frozenset({"ground_truth", "groundtruth", "gt", "masks", "mask"})


@dataclass(frozen=True)
class Row:
    """One image of a data set; `label` is None where nobody knows it."""

    image: Path
    label: int | None
    category: str
    defect_type: str | None
    split: str = "test"
    mask: Path | None = None


class Reader(Protocol):
    """A layout: `name` is what people call it, `expects` describes it in an error."""

    @property
    def name(self) -> str: ...

    @property
    def expects(self) -> str: ...

    def fits(self, root: Path) -> bool:
        """Whether the folder looks like this layout."""

    def rows(self, root: Path) -> Iterator[Row]:
        """Everything in it, in a fixed order."""


@dataclass(frozen=True)
class CategoryTree:
    """`<category>/{train,test}/<type>/x.png` with `<category>/ground_truth/<type>/x_mask.png`, as MVTec AD has it.

    A folder that holds `test` itself is read as one category.
    """

    categories: tuple[str, ...] = ()  # with these, other folders do not count
    name: str = "category tree"
    expects: str = "<category>/test/<type>/, and masks in <category>/ground_truth/<type>/"

    def fits(self, root: Path) -> bool:
        return bool(self._category_folders(root))

    def rows(self, root: Path) -> Iterator[Row]:
        for folder in self._category_folders(root):
            category = folder.resolve().name.replace(" ", "_")
            for split in ("train", "test"):
                for kind in list_folders(folder / split):
                    yield from _rows_of_type(kind, folder / "ground_truth" / kind.name, category, split)

    def empty_folders(self, root: Path) -> list[Path]:
        """Folders of types without a single image, as a half-unpacked archive leaves them."""
        splits = [folder / split for folder in self._category_folders(root) for split in ("train", "test")]
        return [kind for split in splits for kind in list_folders(split) if not list_images(kind)]

    def _category_folders(self, root: Path) -> list[Path]:
        folders = [root] if list_folders(root / "test") else list_folders(root)
        folders = [folder for folder in folders if list_folders(folder / "test")]
        known = self.categories
        return [folder for folder in folders if not known or folder.resolve().name.replace(" ", "_") in known]


@dataclass(frozen=True)
class TypeFolders:
    """One folder a type, right below the root: `good` and others, with masks in `ground_truth/<type>` if at all."""

    name: str = "type folders"
    expects: str = "good/ and one folder for each type of defect"

    def fits(self, root: Path) -> bool:
        return any(folder.name.casefold() in NORMAL_FOLDERS and list_images(folder) for folder in list_folders(root))

    def rows(self, root: Path) -> Iterator[Row]:
        folders = list_folders(root)
        masks = next((folder for folder in folders if folder.name.casefold() in MASK_FOLDERS), root / "ground_truth")
        for kind in folders:
            if kind != masks:
                yield from _rows_of_type(kind, masks / kind.name, root.resolve().name, "test")


def _rows_of_type(folder: Path, masks: Path, category: str, split: str) -> Iterator[Row]:
    images = list_images(folder)
    if folder.name.casefold() in NORMAL_FOLDERS:
        yield from (Row(image, NORMAL, category, GOOD, split) for image in images)
        return
    mask_of = pair_masks(images, list_images(masks), ("", "_mask"))
    yield from (Row(image, ANOMALOUS, category, folder.name, split, mask_of.get(image)) for image in images)


@dataclass(frozen=True)
class ClassFolders:
    """One folder a class, named in a list; any other folder is neither class."""

    classes: Mapping[str, str]  # folder, case ignored, to defect type
    category: str
    below: str = ""  # the images' own folder in each
    name: str = "class folders"

    @property
    def expects(self) -> str:
        return ", ".join(f"{folder}/{self.below}" for folder in self.classes)

    def fits(self, root: Path) -> bool:
        return len(self._folders(root)) == len(self.classes)

    def rows(self, root: Path) -> Iterator[Row]:
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
    """A folder of images (or a glob of some) and one of masks, for each split; paired by stem."""

    category: str
    defect_type: str
    folders: Mapping[str, tuple[str, str]] = field(default_factory=lambda: {"test": ("images", "masks")})
    mask_ending: str = ""
    mask_decides: bool = False  # an image is normal when its mask is empty or missing; otherwise all are anomalous
    name: str = "images and masks"

    @property
    def expects(self) -> str:
        return " and ".join(f"{folder}/" for folder in self.folders["test"])

    def fits(self, root: Path) -> bool:
        images, masks = self.folders["test"]
        return bool(_images_of(root, images)) and (root / masks).is_dir()

    def rows(self, root: Path) -> Iterator[Row]:
        for split, (image_folder, mask_folder) in self.folders.items():
            images = _images_of(root, image_folder)
            mask_of = pair_masks(images, list_images(root / mask_folder), (self.mask_ending,))
            for image in images:
                mask = mask_of.get(image)
                if self.mask_decides and (mask is None or is_empty_mask(mask)):
                    yield Row(image, NORMAL, self.category or root.resolve().name, GOOD, split)
                else:
                    yield Row(image, ANOMALOUS, self.category or root.resolve().name, self.defect_type, split, mask)


def _images_of(root: Path, pattern: str) -> list[Path]:
    return [image for folder in sorted(root.glob(pattern)) for image in list_images(folder)]


@dataclass(frozen=True)
class MaskBeside:
    """Masks near their images, called like them with an ending: `Class1/Train/Label/0576_label.PNG`."""

    pattern: str  # glob of the folders that hold images, with {split}
    splits: Mapping[str, str]  # split to how the folders call it
    masks: str  # the masks' folder, seen from the images
    name: str
    category: str = ""  # default: the folder right below the root
    ending: str = "_label"
    mask_decides: bool = False  # otherwise an image is anomalous when it has a mask at all

    @property
    def expects(self) -> str:
        example = self.pattern.format(split=self.splits["test"])
        return f"{example}/ with masks called *{self.ending} in {example}/{self.masks}"

    def fits(self, root: Path) -> bool:
        return any(list_images(folder) for folder in root.glob(self.pattern.format(split=self.splits["test"])))

    def rows(self, root: Path) -> Iterator[Row]:
        for split, word in self.splits.items():
            for folder in sorted(root.glob(self.pattern.format(split=word)), key=_natural):
                category = self.category or folder.relative_to(root).parts[0]
                files = list_images(folder)
                images = [file for file in files if not file.stem.endswith(self.ending)]
                mask_of = pair_masks(images, list_images(folder / self.masks), (self.ending,))
                for image in images:
                    mask = mask_of.get(image)
                    is_normal = mask is None or (self.mask_decides and is_empty_mask(mask))
                    if is_normal:
                        yield Row(image, NORMAL, category, GOOD, split)
                    else:
                        yield Row(image, ANOMALOUS, category, "defect", split, mask)


def _natural(path: Path) -> tuple[int, str]:
    """Class2 before Class10."""
    return len(str(path)), str(path)


def is_empty_mask(mask: Path) -> bool:
    """Whether no pixel of a mask is anomalous."""
    from ..image_processing_anomalyclip import load_mask

    return not load_mask(mask).any()


@dataclass(frozen=True)
class Table:
    """A csv, jsonl or the like that names images, labels and masks; paths are relative to its root."""

    file: str
    columns: Mapping[str, str] = field(default_factory=dict)  # ours to the file's, where they differ
    image_path: str = "{image}"  # how the image column becomes a path
    category: str = ""
    name: str = "table"

    @property
    def expects(self) -> str:
        return f"{self.file} with the columns {', '.join(self._column(ours) for ours in ('image', 'label'))}"

    def fits(self, root: Path) -> bool:
        return (root / self.file).is_file()

    def rows(self, root: Path) -> Iterator[Row]:
        file = root / self.file
        seen: set[str] = set()
        if unknown := [ours for ours in self.columns if ours not in Row.__annotations__]:
            raise ValueError(f"columns= names {unknown[0]!r}; expected some of {', '.join(Row.__annotations__)}.")
        for line, record in enumerate(read_records(file), start=1):
            seen |= record.keys()
            value = {ours: record.get(self._column(ours)) for ours in Row.__annotations__}
            if self._column("image") not in record or self._column("label") not in record:
                found = ", ".join(map(repr, record))
                raise ValueError(f"{file} has the columns {found}; expected {self.expects}. Map them with columns=.")
            if value["image"] is None:
                raise ValueError(f"{file}, record {line}, names no image.")
            label = parse_label(value["label"], f"{file}, record {line}")
            kind = GOOD if label == NORMAL else value["defect_type"] or (None if label is None else "anomaly")
            yield Row(
                image=path_inside(root, self.image_path.format(image=value["image"]), file),
                label=label,
                category=value["category"] or self.category or root.resolve().name,
                defect_type=kind,
                split=value["split"] or "test",
                mask=path_inside(root, value["mask"], file) if value["mask"] and label != NORMAL else None,
            )
        if lacking := [theirs for theirs in self.columns.values() if seen and theirs not in seen]:
            raise ValueError(f"{file} has no column {lacking[0]!r}; it has {', '.join(map(repr, sorted(seen)))}.")

    def _column(self, ours: str) -> str:
        return self.columns.get(ours, ours)


def read_records(file: Path) -> Iterator[dict[str, str | None]]:
    """Records of a csv (comma, semicolon or tab) or jsonl file, without blanks around names and values."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            for record in _read_jsonl(stream) if file.suffix.lower() == ".jsonl" else _read_csv(stream):
                if not isinstance(record, dict) or None in record:
                    raise ValueError(f"{file} has a record that does not fit its columns: {record}.")
                yield {name.strip(): clean(value) for name, value in record.items()}
        except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} cannot be read as {file.suffix[1:]} ({error}).") from error


def _read_jsonl(stream: TextIO) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in stream if line.strip())


def _read_csv(stream: TextIO) -> Iterator[dict[str, Any]]:
    header = stream.readline()
    stream.seek(0)
    return csv.DictReader(stream, delimiter=max(",;\t", key=header.count), skipinitialspace=True)


def clean(value: Any) -> str | None:
    """Text without blanks around it; None for nothing and for the words that mean it."""
    text = "" if value is None else str(value).strip()
    return None if text.casefold() in ("", "nan", "none") else text


def parse_label(value: str | None, where: str) -> int | None:
    """0 for words that mean normal, 1 for words that mean anomalous, None for nothing.

    Raises:
        ValueError: If the word means neither.
    """
    if value is None:
        return None
    if value.casefold() in NORMAL_WORDS:
        return NORMAL
    if value.casefold() in ANOMALOUS_WORDS:
        return ANOMALOUS
    accepted = ", ".join(sorted(NORMAL_WORDS | ANOMALOUS_WORDS))
    raise ValueError(f"{where}: label {value!r} is unknown; expected one of {accepted}.")


@dataclass(frozen=True)
class MetaJson:
    """The index that the AnomalyCLIP authors' scripts write beside their re-arranged copies.

    Some of those scripts write absolute paths of their own machine, and splits called "Train" and "Test".
    """

    name: str = "authors' copy with meta.json"
    expects: str = "meta.json beside the images that it lists"

    def fits(self, root: Path) -> bool:
        return (root / "meta.json").is_file()

    def rows(self, root: Path) -> Iterator[Row]:
        file = root / "meta.json"
        try:
            index = json.loads(file.read_text(encoding="utf-8"))
            splits = {split.casefold(): categories for split, categories in index.items()}
            entries = [
                (split, category, entry)
                for split in ("train", "test")
                for category, listed in splits.get(split, {}).items()
                for entry in listed
            ]
            for split, category, entry in entries:
                label = parse_label(str(entry["anomaly"]), str(file))
                mask = path_inside(root, entry["mask_path"], file) if label and entry.get("mask_path") else None
                kind = entry.get("specie_name") or "anomaly"
                image = path_inside(root, entry["img_path"], file)
                yield Row(image, label, category.replace(" ", "_"), kind if label else GOOD, split, mask)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is not the authors' index ({type(error).__name__}: {error}).") from error


@dataclass(frozen=True)
class FlatFolder:
    """Images in one folder, of which nobody has said what they are: label and mask are None."""

    name: str = "flat folder"
    expects: str = "images right in the folder"

    def fits(self, root: Path) -> bool:
        return bool(list_images(root))

    def rows(self, root: Path) -> Iterator[Row]:
        yield from (Row(image, None, root.resolve().name, None) for image in list_images(root))
