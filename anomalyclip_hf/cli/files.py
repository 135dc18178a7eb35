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


def find_images(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Expand files, folders (with all below, linked ones too), globs and URLs into images.

    Results of an earlier run are passed over, wherever they are, and so is what a folder hides.

    Args:
        names (`list[str]`): What the user named.

    Returns:
        `tuple`: the images (`list[str]`), each once, in the order given; and of each name that leads to none, and each
        folder that cannot be opened, what is wrong with it (`dict[str, str]`).
    """
    found: dict[str, str] = {}  # by what it really is, so that two ways to one file count once
    problems: dict[str, str] = {}
    of_results: list[str] = []
    for name in names:
        if is_url(name):
            found.setdefault(name, name)
            continue
        try:
            files = _find_files(name, problems)
            images = [path for path in files if not is_result(path)]
        except OSError as error:  # no file system takes such a name, or nobody may look there
            problems[name] = _cannot_open(name, error)
            continue
        if not files:
            problems.setdefault(name, _what_is_wrong(name))
        elif not images:
            of_results.append(name)
        for path in images:
            found.setdefault(os.path.realpath(path), str(path))
    if of_results and not found:
        problems[of_results[0]] = f"{of_results[0]} holds no images but results of an earlier run; name the images."
    return list(found.values()), problems


def _find_files(name: str, problems: dict[str, str]) -> list[Path]:
    if not name:
        return []
    if Path(name).is_dir():
        return _images_below(name, problems)
    if Path(name).exists():
        return [Path(name)]
    return [Path(match) for match in sorted(glob.glob(name, recursive=True)) if not Path(match).is_dir()]


def _images_below(folder: str, problems: dict[str, str]) -> list[Path]:
    """All images of a folder and those below it; a folder that nobody may open is a problem.

    Links are followed last, so that what is both below and linked keeps its own name, and never back up.
    """

    def cannot_open(error: OSError) -> None:
        problems[str(error.filename)] = _cannot_open(str(error.filename), error)

    images: list[Path] = []
    seen: set[Path] = set()
    waiting, top = [Path(folder)], Path(folder).resolve()
    for start in waiting:
        for parent, folders, files in os.walk(start, onerror=cannot_open):
            if Path(parent).resolve() in seen:
                folders.clear()
                continue
            seen.add(Path(parent).resolve())
            folders[:] = [child for child in folders if not child.startswith((".", "__MACOSX"))]
            images += [Path(parent, file) for file in files if is_image_name(file)]
            links = [Path(parent, child) for child in folders if Path(parent, child).is_symlink()]
            waiting += [link for link in links if not top.is_relative_to(link.resolve())]
    return sorted(images)


def is_result(path: Path) -> bool:
    """Whether a file was written by an earlier run: by its name, and by the files that are always written beside it.

    Args:
        path (`Path`): Any file.

    Returns:
        `bool`
    """
    for ending in RESULT_ENDINGS.values():
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            written_always = [path.with_name(stem + RESULT_ENDINGS[name]) for name in ("overlay", "anomaly_map")]
            return all(other.exists() for other in written_always)
    return False


def result_paths(stem: Path) -> dict[str, Path]:
    """Where the results of one image go.

    Args:
        stem (`Path`): In the output folder, without ending.

    Returns:
        `dict[str, Path]`: under the names of [`RESULT_ENDINGS`].

    Raises:
        FileExistsError: If a file of that name is there that no earlier run has written.
    """
    paths = {name: stem.with_name(stem.name + ending) for name, ending in RESULT_ENDINGS.items()}
    for path in paths.values():
        if path.exists() and not is_result(path):
            raise FileExistsError(
                f"{path} is there and no result of an earlier run, so it is not replaced; choose another --output-dir."
            )
    return paths


def _cannot_open(name: str, error: OSError) -> str:
    return f"{name} cannot be opened ({error.strerror}); check the name and who may read it."


def _what_is_wrong(name: str) -> str:
    if not name:
        return "one of the names of images is empty; check the variable that it comes from."
    if Path(name).is_dir():
        return f"{name} holds no images; expected {', '.join(sorted(IMAGE_SUFFIXES))} files."
    return f"{name} does not exist and matches no file; check the path."


def output_stems(images: list[str]) -> dict[str, str]:
    """Give every image a relative path without ending that no other shares: the tree below their common folder.

    The tree is that of the names, wherever links lead.
    """
    files = [Path(os.path.abspath(image)) for image in images if not is_url(image)]
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
        name = image.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
        return Path(name if name.strip(".") else "image")
    return Path(os.path.abspath(image)).relative_to(common)
