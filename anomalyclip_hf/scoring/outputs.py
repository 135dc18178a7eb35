# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the results of images into a folder: overlay, anomaly map and mask of each, and one table of scores."""

import csv
import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..io.atomic import atomic_write, remove_leftovers


if TYPE_CHECKING:
    from PIL import Image

    from ..processing_anomalyclip import AnomalyCLIPProcessor
    from .engine import AnomalyResult


TABLE_NAME = "scores.csv"
COLUMNS = ("image", "score", "label", "threshold", "pixel_threshold", "height", "width", "regions", "output", "error")
ENDINGS = {"overlay": "_overlay.png", "anomaly_map": "_map.tiff", "mask": "_mask.png"}
MAX_STEM_BYTES = 255 - max(len(ending) for ending in ENDINGS.values())  # file systems take names of 255 bytes
OVERLAY_SIDE = 2048  # pixels
SCALES = ("fixed", "image")


def is_result(path: Path) -> bool:
    """Return whether a file was written by an earlier run, by its name and the files always written beside it."""
    for ending in ENDINGS.values():
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            return all(path.with_name(stem + ENDINGS[name]).exists() for name in ("overlay", "anomaly_map"))
    return False


class ResultFolder:
    """A folder of results. Later runs add to it and never replace results of other images.

    Args:
        folder (`str` or `os.PathLike`): Created where missing.

    Raises:
        OSError: If the folder cannot be written to.
        FileExistsError: If it has a `scores.csv` that is no table of this package.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()  # fail before a model is loaded
        except OSError as error:
            raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another folder.") from error
        remove_leftovers(self.folder)
        self.rows = {row["image"]: row for row in self._read_table()}
        self.stems = {image: row["output"] for image, row in self.rows.items() if row["output"]}

    @property
    def table(self) -> Path:
        """Path of the table of scores."""
        return self.folder / TABLE_NAME

    def assign(self, image: str, relative: PurePath) -> str:
        """Choose where the results of an image go: as before, or a name that no other image has.

        Args:
            image (`str`): Absolute path or URL.
            relative (`PurePath`): Preferred path below this folder, with the ending of the image.

        Returns:
            `str`: path below this folder, without ending.
        """
        image = printable(image)
        if image not in self.stems:
            parts = [part for part in relative.parts if part not in ("..", os.sep)]  # stay inside this folder
            stem, taken = PurePath(*parts).with_suffix(""), set(self.stems.values())
            candidate, number = _shorten(stem), 2
            while str(candidate) in taken:
                candidate, number = _shorten(stem.with_name(f"{stem.name}_{number}")), number + 1
            self.stems[image] = str(candidate)
        return self.stems[image]

    def paths(self, stem: str) -> dict[str, Path]:
        """Return the files of one image by kind.

        Args:
            stem (`str`): From `assign`.

        Raises:
            FileExistsError: If one of the files exists and no earlier run has written it.
        """
        base = self.folder / stem
        paths = {kind: base.with_name(base.name + ending) for kind, ending in ENDINGS.items()}
        for path in paths.values():
            if path.exists() and not is_result(path):
                raise FileExistsError(
                    f"{path} exists and is no result of an earlier run, so it is not replaced; choose another output "
                    "folder."
                )
        return paths

    def save(
        self,
        result: "AnomalyResult",
        stem: str,
        processor: "AnomalyCLIPProcessor",
        pixel_threshold: float | None = None,
        scale: str = "fixed",
        overlay_side: int = OVERLAY_SIDE,
    ) -> None:
        """Write overlay, map and mask of one image, all or none.

        Args:
            result ([`AnomalyResult`]): With its image.
            stem (`str`): From `assign`.
            processor ([`AnomalyCLIPProcessor`]): Stores the scale of the overlays.
            pixel_threshold (`float`, *optional*): Map value in the middle of the colour bar.
            scale (`str`, *optional*, defaults to `"fixed"`): See [`draw_result`].
            overlay_side (`int`, *optional*, defaults to 2048): Longest side of an overlay, in pixels.
        """
        from ..postprocessing_anomalyclip import to_pil

        paths = self.paths(stem)
        pictures = {
            "overlay": draw_result(result, processor, pixel_threshold, scale, overlay_side),
            "anomaly_map": to_pil(result.anomaly_map),  # type: ignore[arg-type]
        }
        if result.mask is not None:
            pictures["mask"] = to_pil(result.mask)
        with ExitStack() as together:  # an overlay without its map would be taken for an image of the user
            for kind, picture in pictures.items():
                picture.save(together.enter_context(atomic_write(paths[kind])))

    def write_table(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write the table: new rows take the place of earlier rows of the same images, all others stay.

        Args:
            rows (`Iterable[dict]`): With the keys of [`COLUMNS`]; `regions` may be a list, which is counted.
        """
        for row in rows:
            regions = row["regions"]
            counted = {**row, "image": printable(row["image"]), "regions": None if regions is None else len(regions)}
            self.rows[counted["image"]] = counted
        with (
            atomic_write(self.table) as partial,
            partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows.values())

    def _read_table(self) -> list[dict[str, Any]]:
        if not self.table.exists():
            return []
        with suppress(csv.Error), self.table.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) == COLUMNS:
                return list(reader)
        raise FileExistsError(f"{self.table} exists and is no table of an earlier run; choose another output folder.")


def draw_result(
    result: "AnomalyResult",
    processor: "AnomalyCLIPProcessor",
    pixel_threshold: float | None = None,
    scale: str = "fixed",
    overlay_side: int = OVERLAY_SIDE,
) -> "Image.Image":
    """Draw the overlay of one image: heat map, outlines of the regions, colour bar, score and label.

    Args:
        result ([`AnomalyResult`]): With its image.
        processor ([`AnomalyCLIPProcessor`]): Stores the scale, `map_maximum`.
        pixel_threshold (`float`, *optional*): Map value in the middle of the colour bar.
        scale (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`: one scale for all images, from 0 to the processor's `map_maximum`. `"image"`: each image's own
            peak in full red, which shows where to look first but not how much is wrong.
        overlay_side (`int`, *optional*, defaults to 2048): Longest side of the drawing, in pixels; larger images are
            drawn smaller.

    Returns:
        `PIL.Image.Image`: in mode RGB; images wide enough for it have a legend below.
    """
    from ..postprocessing_anomalyclip import add_legend, draw_overlay

    image, anomaly_map = result.image, result.anomaly_map
    if image is None or anomaly_map is None:
        raise ValueError(f"the result of {result.source} has no image or map; score with keep_images=True.")
    if max(image.size) > overlay_side:
        image = image.copy()
        image.thumbnail((overlay_side, overlay_side))
    maximum, middle = processor.map_maximum, pixel_threshold
    if scale == "image":
        maximum, middle = max(float(anomaly_map.max()), 1e-12), None
    overlay = draw_overlay(image, anomaly_map, maximum, middle=middle, mask=result.mask)
    return add_legend(overlay, f"{result.score:.3f} {result.label}", maximum)


def printable(name: str) -> str:
    """Return a name in UTF-8 whatever the locale; bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _shorten(stem: PurePath) -> PurePath:
    """Cut a name to which no ending can be added, and make it distinct by a digest of the whole."""
    name = os.fsencode(stem.name)
    if len(name) <= MAX_STEM_BYTES:
        return stem
    digest = f"_{hashlib.sha256(name).hexdigest()[:8]}"
    return stem.with_name(name[: MAX_STEM_BYTES - len(digest)].decode(errors="ignore") + digest)
