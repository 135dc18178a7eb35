# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Finding the images that the user named, and names for what is written about them."""

import glob
import hashlib
import os
from collections import Counter
from pathlib import Path

from ..data.files import IMAGE_SUFFIXES, is_image_name


RESULT_ENDINGS = {"overlay": "_overlay.png", "anomaly_map": "_map.tiff", "mask": "_mask.png"}
MAX_STEM_BYTES = 255 - max(len(ending) for ending in RESULT_ENDINGS.values())  # of what file systems take


def is_url(name: str) -> bool:
    """Whether the user named an image on the web."""
    return name.startswith(("http://", "https://"))


def find_images(names: list[str], output_dir: Path) -> tuple[list[str], dict[str, str]]:
    """Expand files, folders (with all below), globs and URLs into images.

    Results of an earlier run are passed over, wherever they are, and so is what a folder hides.

    Args:
        names (`list[str]`): What the user named.
        output_dir (`Path`): Where results go.

    Returns:
        `tuple`: the images (`list[str]`), each once, in the order given; and of each name that leads to none what is
        wrong with it (`dict[str, str]`).
    """
    found: dict[str, str] = {}  # by what it really is, so that two ways to one file count once
    problems: dict[str, str] = {}
    of_results: list[str] = []
    output_dir = output_dir.resolve()
    for name in names:
        if is_url(name):
            found.setdefault(name, name)
            continue
        files = _find_files(name)
        images = [path for path in files if not _is_result(path, output_dir)]
        if not files:
            problems[name] = _what_is_wrong(name)
        elif not images:
            of_results.append(name)
        for path in images:
            found.setdefault(str(path.resolve()), str(path))
    if of_results and not found:
        problems[of_results[0]] = f"{of_results[0]} holds no images but results of an earlier run; name the images."
    return list(found.values()), problems


def _find_files(name: str) -> list[Path]:
    if not name:
        return []
    if Path(name).is_dir():
        return _images_below(name)
    if Path(name).exists():
        return [Path(name)]
    return [Path(match) for match in sorted(glob.glob(name, recursive=True)) if not Path(match).is_dir()]


def _images_below(folder: str) -> list[Path]:
    images: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [child for child in folders if not child.startswith((".", "__MACOSX"))]
        images += [Path(parent, file) for file in files if is_image_name(file)]
    return sorted(images)


def _is_result(path: Path, output_dir: Path) -> bool:
    """Whether a file was written by an earlier run: by its name, and where it lies or what lies beside it."""
    for ending in RESULT_ENDINGS.values():
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            written_always = [path.with_name(stem + RESULT_ENDINGS[name]) for name in ("overlay", "anomaly_map")]
            return output_dir in path.resolve().parents or all(other.exists() for other in written_always)
    return False


def _what_is_wrong(name: str) -> str:
    if not name:
        return "one of the names of images is empty; check the variable that it comes from."
    if Path(name).is_dir():
        return f"{name} holds no images; expected {', '.join(sorted(IMAGE_SUFFIXES))} files."
    return f"{name} does not exist and matches no file; check the path."


def output_stems(images: list[str]) -> dict[str, str]:
    """Give every image a relative path without ending that no other shares: the tree below their common folder."""
    files = [Path(image).resolve() for image in images if not is_url(image)]
    common = os.path.commonpath([file.parent for file in files]) if files else ""
    relative = {image: _relative_path(image, common) for image in images}
    endings = Counter(path.with_suffix("") for path in relative.values())
    stems: dict[str, str] = {}
    taken: set[Path] = set()
    for image, path in relative.items():
        is_alone = endings[path.with_suffix("")] == 1
        stem = path.with_suffix("") if is_alone else path.with_name(f"{path.stem}_{path.suffix[1:]}")
        candidate, number = _shortened(stem), 2
        while candidate in taken:
            candidate, number = _shortened(stem.with_name(f"{stem.name}_{number}")), number + 1
        taken.add(candidate)
        stems[image] = str(candidate)
    return stems


def _shortened(stem: Path) -> Path:
    """Cut a name to which no ending can be added, and tell it from others by a digest of the whole."""
    name = os.fsencode(stem.name)
    if len(name) <= MAX_STEM_BYTES:
        return stem
    digest = f"_{hashlib.sha256(name).hexdigest()[:8]}"
    return stem.with_name(name[: MAX_STEM_BYTES - len(digest)].decode(errors="ignore") + digest)


def _relative_path(image: str, common: str) -> Path:
    if is_url(image):
        return Path(image.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
    return Path(image).resolve().relative_to(common)
