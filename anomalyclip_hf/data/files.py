# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Finding image files, pairing them by stem, and staying inside a folder."""

from pathlib import Path, PurePosixPath, PureWindowsPath


IMAGE_SUFFIXES = frozenset({".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"})
IMAGE_SUFFIXES |= {".pnm", ".ppm", ".tif", ".tiff", ".webp"}
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".xz", ".7z", ".rar", ".bz2"})


def list_images(folder: Path) -> list[Path]:
    """Image files right in a folder, sorted by name; endings count without case, hidden files do not count."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_image_name(path.name) and not path.is_dir())


def list_folders(folder: Path) -> list[Path]:
    """Folders right in a folder, sorted by name, without hidden ones and what macOS adds to archives."""
    if not folder.is_dir():
        return []
    names = (path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    return sorted(path for path in names if path.is_dir())


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its ending, and not one of those that file managers leave (`._000.png`)."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def pair_masks(images: list[Path], masks: list[Path], endings: tuple[str, ...] = ("",)) -> dict[Path, Path]:
    """Find the mask of each image by stem, never by position: one stray file would shift all that follow.

    Args:
        images (`list[Path]`): Images of one folder.
        masks (`list[Path]`): What may be their masks.
        endings (`tuple[str, ...]`): What the mask's stem may have behind the image's, as `_mask`.

    Returns:
        `dict[Path, Path]`: image to mask; images without a mask are not in it.

    Raises:
        ValueError: If two files have one stem, so that nobody can say which belongs to which.
    """
    if not masks:
        return {}
    image_of_stem, mask_of_stem = _by_stem(images), _by_stem(masks)
    pairs: dict[Path, Path] = {}
    for stem, image in image_of_stem.items():
        found = [mask_of_stem[stem + ending] for ending in endings if stem + ending in mask_of_stem]
        # "1_mask" is the mask of "1" and not a second mask of an image called "1_mask".
        if len(found) > 1:
            raise ValueError(f"{image} has two masks, {found[0].name} and {found[1].name}; keep one of them.")
        if found:
            pairs[image] = found[0]
    return pairs


def _by_stem(files: list[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise ValueError(f"{file} and {stems[file.stem].name} differ only in their ending; keep one of them.")
        stems[file.stem] = file
    return stems


def path_inside(folder: Path, name: str, source: Path) -> Path:
    """Join a path that a file names to its folder, and refuse what leads out of it.

    Args:
        folder (`Path`): What the path is relative to.
        name (`str`): With forward or backward slashes.
        source (`Path`): The file that names it, for the error.

    Raises:
        ValueError: If the path is absolute or goes up with `..`.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        raise ValueError(
            f"{source} names {name!r}, which leads out of {folder}; expected paths below it. Correct or "
            "remove the file."
        )
    return folder / path
