# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Finding the images that the user named, and names for what is written about them."""

import glob
import os
from collections import Counter
from pathlib import Path

from ..data.files import IMAGE_SUFFIXES, is_image_name


def is_url(name: str) -> bool:
    """Whether the user named an image on the web."""
    return name.startswith(("http://", "https://"))


def find_images(names: list[str], output_dir: Path) -> list[str]:
    """Expand files, folders (with all below), globs and URLs into images, each once, in the order given.

    Args:
        names (`list[str]`): What the user named.
        output_dir (`Path`): Results of an earlier run in it are no inputs.

    Raises:
        FileNotFoundError: If a name leads to nothing, or a folder holds no image.
    """
    found: dict[str, str] = {}  # by what it really is, so that two ways to one file count once
    for name in names:
        if is_url(name):
            found.setdefault(name, name)
            continue
        for path in _find_files(name, output_dir.resolve()):
            found.setdefault(str(path.resolve()), str(path))
    return list(found.values())


def _find_files(name: str, output_dir: Path) -> list[Path]:
    if Path(name).is_dir():
        images = [path for path in sorted(Path(name).rglob("*")) if _is_image(path, output_dir)]
        if not images:
            raise FileNotFoundError(f"{name} holds no images; expected {', '.join(sorted(IMAGE_SUFFIXES))} files.")
        return images
    files = [Path(name)] if Path(name).exists() else [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    files = [path for path in files if not path.is_dir()]
    if not files:
        raise FileNotFoundError(f"{name} does not exist and matches no file; check the path.")
    return files


def _is_image(path: Path, output_dir: Path) -> bool:
    is_result = output_dir in path.resolve().parents
    return is_image_name(path.name) and path.is_file() and not is_result


def output_stems(images: list[str]) -> dict[str, str]:
    """Give every image a relative path without ending that no other shares: the tree below their common folder."""
    files = [Path(image).resolve() for image in images if not is_url(image)]
    common = os.path.commonpath([file.parent for file in files]) if files else ""
    relative = {image: _relative_path(image, common) for image in images}
    endings = Counter(path.with_suffix("") for path in relative.values())
    stems: dict[str, str] = {}
    for image, path in relative.items():
        is_alone = endings[path.with_suffix("")] == 1
        stem = path.with_suffix("") if is_alone else path.with_name(f"{path.stem}_{path.suffix[1:]}")
        candidate, number = stem, 2
        while str(candidate) in stems.values():
            candidate, number = stem.with_name(f"{stem.name}_{number}"), number + 1
        stems[image] = str(candidate)
    return stems


def _relative_path(image: str, common: str) -> Path:
    if is_url(image):
        return Path(image.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
    return Path(image).resolve().relative_to(common)
