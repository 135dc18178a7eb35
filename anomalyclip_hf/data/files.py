# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Find image files, pair images with masks by name, and keep paths inside a folder."""

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath


IMAGE_SUFFIXES = frozenset({".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"})
IMAGE_SUFFIXES |= {".pnm", ".ppm", ".tif", ".tiff", ".webp", ".dcm", ".dicom", ".heic", ".heif"}
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".xz", ".7z", ".rar", ".bz2"})
MASK_WORDS = "masks?|gt|ground[_ -]?truths?|labels?|seg|segmentations?|annotations?"
MASK_FOLDER = re.compile(r"masks?|gt|ground[_ -]?truths?|labels|segmentations?|annotations?", re.IGNORECASE)
MASK_ENDING = re.compile(rf"[_ .-](?:{MASK_WORDS})$", re.IGNORECASE)


def list_images(folder: Path) -> list[Path]:
    """List the image files directly in a folder, sorted by name, without hidden ones."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if is_image_name(entry.name) and not entry.is_dir())
    return [folder / name for name in names]


def list_folders(folder: Path) -> list[Path]:
    """List the folders directly in a folder, sorted by name, without hidden ones and `__MACOSX`."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name for entry in entries if not entry.name.startswith((".", "__MACOSX")) and entry.is_dir()
        )
    return [folder / name for name in names]


def is_image_name(name: str) -> bool:
    """Return whether a file name has the ending of an image and is not hidden, as `._000.png` is."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def folder_name(folder: Path) -> str:
    """Return the name of a folder; a link has its own name, not that of its target."""
    return Path(os.path.abspath(folder)).name


def split_mask_folders(folders: list[Path]) -> tuple[list[Path], list[Path]]:
    """Separate folders of images from folders of masks, such as `masks`, or `NG_masks` beside `NG`."""
    names = {folder.name.casefold() for folder in folders}
    is_mask = [
        bool(MASK_FOLDER.fullmatch(folder.name)) or (_without_ending(folder.name) or "").casefold() in names
        for folder in folders
    ]
    images = [folder for folder, mask in zip(folders, is_mask, strict=True) if not mask]
    return images, [folder for folder, mask in zip(folders, is_mask, strict=True) if mask]


def list_masks(kind: Path, holders: list[Path]) -> list[Path]:
    """List the possible masks of a folder of images: those in `masks/NG`, `NG_masks` or `NG/masks`.

    Args:
        kind (`Path`): Folder of images.
        holders (`list[Path]`): Folders of masks near it.

    Returns:
        `list[Path]`: files, and folders that hold several masks of one image.
    """
    name, found = kind.name.casefold(), []
    for holder in holders:
        if (_without_ending(holder.name) or "").casefold() == name:
            found.append(holder)
        else:
            found += [folder for folder in list_folders(holder) if folder.name.casefold() == name]
    found += split_mask_folders(list_folders(kind))[1]
    return [item for folder in found for item in [*list_images(folder), *list_folders(folder)]]


def split_masks(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Separate the images of a folder from the masks beside them: `x_mask.png` is a mask if there is an `x.*`."""
    stems = {file.stem.casefold() for file in files}
    masks = [file for file in files if (stem := _without_ending(file.stem)) and stem.casefold() in stems]
    return ([file for file in files if file not in set(masks)], masks) if masks else (files, [])


def pair_masks(images: list[Path], masks: list[Path], ending: str | None = None) -> dict[Path, Path]:
    """Find the mask of each image by name. By position, one extra file would shift all masks after it.

    Args:
        images (`list[Path]`): Images of one folder.
        masks (`list[Path]`): Files that may be their masks, or folders with several masks of one image.
        ending (`str`, *optional*):
            Ending of a mask's stem after that of its image, such as `_mask`. By default none or any usual ending.

    Returns:
        `dict[Path, Path]`: masks by image; images without a mask are left out.

    Raises:
        ValueError: If an image has two masks, or a mask fits two images.
    """
    if not masks:
        return {}
    image_of_stem = _by_stem(images)
    pairs: dict[Path, Path] = {}
    for mask in masks:
        stem = mask.stem if mask.suffix.lower() in IMAGE_SUFFIXES else mask.name
        if ending is None:
            candidates = [_without_ending(stem), stem]
        else:
            candidates = [stem[: -len(ending) or None]] if stem.casefold().endswith(ending.casefold()) else []
        # "1_mask" is the mask of "1" and not a second mask of an image called "1_mask".
        image = next(
            (image_of_stem[one.casefold()] for one in candidates if one and one.casefold() in image_of_stem), None
        )
        if image is None:
            continue
        if image in pairs:
            raise ValueError(f"{image} has two masks, {pairs[image].name} and {mask.name}; keep one of them.")
        pairs[image] = mask
    return {image: pairs[image] for image in images if image in pairs}


def _without_ending(stem: str) -> str | None:
    match = MASK_ENDING.search(stem)
    return stem[: match.start()] if match else None


def _by_stem(files: list[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for file in files:
        stem = file.stem.casefold()
        if stem in stems:
            raise ValueError(
                f"{file} and {stems[stem].name} differ only in their ending or in case; keep one of them."
            )
        stems[stem] = file
    return stems


def path_inside(folder: Path, name: str, source: Path, allow_outside: bool = False) -> Path:
    """Join a path that a file names to a folder, and check that it stays in the folder.

    Args:
        folder (`Path`): Folder that relative paths start from.
        name (`str`): Path with forward or backward slashes; an absolute one has to be below the folder.
        source (`Path`): The file that names the path, for the error.
        allow_outside (`bool`, *optional*, defaults to `False`): Accept any path.

    Raises:
        ValueError: If the path leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if allow_outside:
        return folder / path
    inside = path.is_absolute() and path.is_relative_to(os.path.abspath(folder))
    if (path.is_absolute() and not inside) or PureWindowsPath(name).drive or ".." in path.parts:
        raise ValueError(
            f"{source} names {name!r}, which leads out of {folder}; expected paths below it. Correct the file, or "
            "allow it with allow_outside=True (in a command --allow-outside)."
        )
    return folder / path
