# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Reading what the user named, and writing files that appear whole or not at all."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


def is_url(name: str) -> bool:
    """Whether the user named an image on the web."""
    return name.startswith(("http://", "https://"))


def find_images(names: list[str]) -> list[str]:
    """Expand files, folders (with all below), globs and URLs into images, each once, in the order given.

    Raises:
        FileNotFoundError: If a name leads to nothing, or a folder holds no image.
    """
    found: dict[str, None] = {}
    for name in names:
        if is_url(name):
            found[name] = None
        elif Path(name).is_dir():
            images = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            if not images:
                raise FileNotFoundError(
                    f"{name} holds no images; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."
                )
            found.update((str(path), None) for path in images)
        elif Path(name).exists():
            found[name] = None
        else:
            matches = sorted(glob.glob(name, recursive=True))
            if not matches:
                raise FileNotFoundError(f"{name} does not exist and matches no file; check the path.")
            found.update((match, None) for match in matches if Path(match).is_file())
    return list(found)


def output_stems(images: list[str]) -> dict[str, str]:
    """Give every image a relative path without ending that no other shares: the tree below their common folder."""
    files = [Path(image).resolve() for image in images if not is_url(image)]
    common = os.path.commonpath([file.parent for file in files]) if files else ""
    relative = {image: _relative_path(image, common) for image in images}
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for image, path in relative.items():
        same_stem = sum(other.with_suffix("") == path.with_suffix("") for other in relative.values())
        stem = (
            str(path.with_suffix(""))
            if same_stem == 1
            else str(path).replace(path.suffix, path.suffix.replace(".", "_"))
        )
        candidate, number = stem, 2
        while candidate in taken:
            candidate, number = f"{stem}_{number}", number + 1
        taken.add(candidate)
        stems[image] = candidate
    return stems


def _relative_path(image: str, common: str) -> Path:
    if is_url(image):
        return Path(image.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
    return Path(image).resolve().relative_to(common)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file moves to `path` when the block ends well and is gone when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, since image formats are chosen by it.
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write to; it moves to `path` when the block ends well and is gone when it does not.

    Raises:
        FileExistsError: If `path` is a file or a folder that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already and is not an empty folder; choose another output folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            path.rmdir()
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
