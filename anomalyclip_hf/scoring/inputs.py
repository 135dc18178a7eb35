# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Find the images that a user names: files, folders, globs and URLs."""

import glob
import os
from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

from ..data.files import IMAGE_SUFFIXES, is_image_name
from .outputs import is_result


NO_INPUT = ("scores.csv", "scores.jsonl", "Thumbs.db", "desktop.ini")


class InputImage(NamedTuple):
    """An image to score.

    Args:
        source (`str`): URL, or path as the user named it.
        identity (`str`): URL or absolute path: what the table of scores calls the image.
        relative (`PurePath`): Path below the folder that the user named; of a file, its name.
    """

    source: str
    identity: str
    relative: PurePath


def is_url(name: str) -> bool:
    """Return whether a name is the address of an image on the web."""
    return name.startswith(("http://", "https://"))


def find_images(names: list[str]) -> tuple[list[InputImage], dict[str, str]]:
    """Expand files, folders (with all folders below, linked ones too), globs and URLs into images.

    Results of an earlier run and hidden files are passed over.

    Args:
        names (`list[str]`): Files, folders, globs and URLs.

    Returns:
        `tuple[list[InputImage], dict[str, str]]`: the images, each once, in the order given; and for each name without
        an image, and each folder that cannot be opened, what is wrong with it.
    """
    found: dict[str, InputImage] = {}  # by real path, so that two ways to one file count once
    problems: dict[str, str] = {}
    result_folders: list[str] = []
    for name in names:
        if is_url(name):
            found.setdefault(name, InputImage(name, name, PurePath(_url_name(name))))
            continue
        try:
            folder, files = _find_files(name, problems)
            images = [path for path in files if not is_result(path)]
        except OSError as error:  # a name too long for the file system, or a folder without access
            problems[name] = _describe_access_error(name, error)
            continue
        if not files:
            problems.setdefault(name, _describe_missing(name))
        elif not images:
            result_folders.append(name)
        for path in images:
            image = InputImage(str(path), os.path.abspath(path), PurePath(os.path.relpath(path, folder)))
            found.setdefault(os.path.realpath(path), image)
    if result_folders and not found:
        first = result_folders[0]
        problems[first] = f"{first} holds only results of an earlier run; name the folder with the images."
    return list(found.values()), problems


def describe_other_files(names: list[str]) -> list[str]:
    """Describe the files in folders that are no images by their ending, in one line for each folder.

    Args:
        names (`list[str]`): What [`find_images`] was given; only folders matter.

    Returns:
        `list[str]`: such as `"scans: 3 files are passed over, since their ending is not that of an image: 3 .nii"`.
    """
    lines = []
    for name in names:
        endings: Counter[str] = Counter()
        for parent, folders, files in os.walk(name) if name and not is_url(name) else ():
            folders[:] = [folder for folder in folders if not folder.startswith((".", "__MACOSX"))]
            visible = [Path(parent, file) for file in files if not file.startswith(".") and not is_image_name(file)]
            others = [path for path in visible if path.name not in NO_INPUT and not is_result(path)]
            endings.update(path.suffix.lower() or "without ending" for path in others)
        if endings:
            kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
            lines.append(
                f"{name}: {endings.total()} files are passed over, since their ending is not that of an image: "
                f"{kinds}."
            )
    return lines


def _find_files(name: str, problems: dict[str, str]) -> tuple[Path, list[Path]]:
    """Return the folder that a name refers to, and the files that it stands for."""
    path = Path(name)
    if not name:
        return path, []
    if path.is_dir():
        return path, _images_below(path, problems)
    if path.exists():
        return path.parent, [path]
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
    fixed_parts = []
    for part in path.parent.parts:
        if glob.has_magic(part):
            break
        fixed_parts.append(part)
    return Path(*fixed_parts), [match for match in matches if not match.is_dir()]


def _images_below(folder: Path, problems: dict[str, str]) -> list[Path]:
    """List all images in a folder and below it; a folder that cannot be opened is a problem.

    Links are followed last, so that a folder which is also linked keeps its own name, and never upwards.
    """

    def note_access_error(error: OSError) -> None:
        problems[str(error.filename)] = _describe_access_error(str(error.filename), error)

    images: list[Path] = []
    seen: set[Path] = set()
    waiting, top = [folder], folder.resolve()
    for start in waiting:
        for parent, folders, files in os.walk(start, onerror=note_access_error):
            if Path(parent).resolve() in seen:
                folders.clear()
                continue
            seen.add(Path(parent).resolve())
            folders[:] = [child for child in folders if not child.startswith((".", "__MACOSX"))]
            images += [Path(parent, file) for file in files if is_image_name(file)]
            links = [Path(parent, child) for child in folders if Path(parent, child).is_symlink()]
            waiting += [link for link in links if not top.is_relative_to(link.resolve())]
    return sorted(images)


def _url_name(url: str) -> str:
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    return name if name.strip(".") else "image"


def _describe_access_error(name: str, error: OSError) -> str:
    return f"{name} cannot be opened ({error.strerror}); check the name and the permissions."


def _describe_missing(name: str) -> str:
    if not name:
        return "one of the image names is empty; check the variable that it comes from."
    if Path(name).is_dir():
        return f"{name} has no images; expected {', '.join(sorted(IMAGE_SUFFIXES))} files."
    return f"{name} does not exist and matches no file; check the path."
