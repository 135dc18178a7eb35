# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Find images that end the process which reads them, so that a part with one is not begun for ever."""

import json
import os
import subprocess
import sys
from contextlib import suppress

from ..image_processing_anomalyclip import load_image
from .inputs import Item
from .reading import PartImages
from .stores import Folder


MARK = "image "


class Attempts:
    """Count how often a part has been begun without coming to its end, by whatever process.

    Args:
        folder (`Folder`): Of the run.
        part (`str`): Name of the part.
    """

    def __init__(self, folder: Folder, part: str):
        self._folder, self._name = folder / "attempts", part

    def begin(self) -> int:
        """Count another attempt and return its number, from 1."""
        try:
            number = int(self._folder.read(self._name)) + 1
        except (FileNotFoundError, ValueError):
            number = 1
        self._folder.write(self._name, str(number).encode())
        return number

    def end(self) -> None:
        """Forget the attempts: the part is done."""
        self._folder.delete(self._name)


def find_harmful(images: PartImages) -> set[int]:
    """Read images in a process of their own and return the places of those that end it.

    Args:
        images ([`PartImages`]): The images of a part.

    Raises:
        RuntimeError: If that process does not even start.
    """
    harmful: set[int] = set()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    items, start = json.dumps(images.items), 0
    while start < len(images):
        command = [sys.executable, "-m", __name__, str(start)]
        done = subprocess.run(
            command, input=items, capture_output=True, encoding="utf-8", env=environment, check=False
        )
        begun = [int(line.removeprefix(MARK)) for line in done.stdout.splitlines() if line.startswith(MARK)]
        if not begun:
            raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode} before it read an image.")
        if begun[-1] < len(images):
            harmful.add(begun[-1])
        start = begun[-1] + 1
    return harmful


def _read_all(images: PartImages, start: int) -> None:
    """Read images from a place on, and print the place of each before, so that the last one printed is known."""
    for index in range(start, len(images)):
        print(f"{MARK}{index}", flush=True)
        row = images[index]
        with suppress(Exception):  # an image that cannot be read gets its error later
            load_image(row["image"], row["path"])
    print(f"{MARK}{len(images)}", flush=True)


if __name__ == "__main__":
    _read_all(PartImages([Item(*values) for values in json.load(sys.stdin)]), int(sys.argv[1]))
