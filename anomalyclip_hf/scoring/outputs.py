# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the results of images into a folder: overlay, anomaly map and mask of each, and the tables of scores."""

import csv
import hashlib
import io
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from ..io.atomic import atomic_write, remove_leftovers


if TYPE_CHECKING:  # NumPy and Pillow are imported where a file is written, so that --help does not wait for them
    import numpy as np
    from PIL import Image

    from .engine import AnomalyResult


KINDS = ("overlay", "map", "mask")
ENDINGS = {"overlay": ("_overlay.jpg", "_overlay.png"), "map": ("_map.npz",), "mask": ("_mask.png",)}
ALL_ENDINGS = tuple(ending for endings in ENDINGS.values() for ending in endings)
MAX_STEM_BYTES = 255 - max(map(len, ALL_ENDINGS))  # of a file's name
RESULT_FORMAT = 1  # raise it when scores, maps or drawings change, so that a later run makes earlier results anew
SIGNATURE = "anomalyclip_hf"  # in the EXIF data of overlays and masks
ROWS_NAME, TABLE_NAME = "scores.jsonl", "scores.csv"
ROW_START = '{"image": '  # of each line of scores.jsonl, which a kill may have cut off anywhere
CALIBRATED = ("p_value", "decision")  # columns that are empty without a calibration
COLUMNS = (
    *("image", "score", "label", "threshold", "pixel_threshold", "height", "width", "regions", "output", "error"),
    *CALIBRATED,
)
JPEG_QUALITY = 90
OVERLAY_SIDE = 2048  # pixels
SCALES = ("fixed", "image")


class ResultFolder:
    """A folder of results. Later runs add to it and never replace results of other images.

    `scores.jsonl` has one JSON object per image, with its regions; `scores.csv` is the same as a table. Rows are added
    as soon as an image is done, so that a run which is killed at any moment goes on where it was.

    Args:
        folder (`str` or `os.PathLike`): Created if missing.
        kinds (`Sequence[str]`, *optional*): What to write for each image: `"overlay"`, `"map"`, `"mask"`, or nothing.
        overlay_format (`str`, *optional*, defaults to `"jpg"`): `"jpg"` (quality 90) or `"png"`.
        overlay_side (`int`, *optional*, defaults to 2048): Longest side of an overlay, in pixels.
        scale (`str`, *optional*, defaults to `"fixed"`): See [`draw_result`].

    Raises:
        OSError: If the folder cannot be written to.
        FileExistsError: If it has a `scores.csv` or `scores.jsonl` that no earlier run has written.
        ValueError: If a kind or format is unknown.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        kinds: Sequence[str] = KINDS,
        overlay_format: str = "jpg",
        overlay_side: int = OVERLAY_SIDE,
        scale: str = "fixed",
    ):
        for name, values, allowed in (
            ("outputs", kinds, KINDS),
            ("overlay_format", [overlay_format], ("jpg", "png")),
            ("scale", [scale], SCALES),
        ):
            if unknown := set(values) - set(allowed):
                raise ValueError(f"{name} is {min(unknown)!r}; expected {', '.join(allowed)}.")
        self.folder, self.kinds, self.overlay_format = Path(folder), tuple(kinds), overlay_format
        self.overlay_side, self.scale = overlay_side, scale
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()  # fail before a model is loaded
        except OSError as error:
            raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another folder.") from error
        remove_leftovers(self.folder)
        if (self.folder / TABLE_NAME).exists() and not (self.folder / ROWS_NAME).exists():
            raise FileExistsError(f"{self.folder / TABLE_NAME} is not of an earlier run; choose another folder.")
        self.rows = _read_rows(self.folder / ROWS_NAME)
        self._lock = threading.Lock()  # rows are added by several writers
        self._earlier = list(self.rows)
        self.stems = {image: row["output"] for image, row in self.rows.items() if row["output"]}
        self._taken = set(self.stems.values())
        self.skipped = 0  # images of this run that were done already

    @property
    def settings(self) -> dict[str, Any]:
        """All that a file depends on beside scores and maps, ready for JSON."""
        drawing = {"overlay_format": self.overlay_format, "overlay_side": self.overlay_side, "scale": self.scale}
        return {"format": RESULT_FORMAT, **drawing}

    def assign(self, image: str, relative: PurePath) -> str:
        """Choose where the results of an image go: as before, or a name that no other image has.

        Args:
            image (`str`): Absolute path or URL.
            relative (`PurePath`): Preferred path below this folder, with the ending of the image.

        Returns:
            `str`: path below this folder, without ending.
        """
        if image not in self.stems:
            parts = [part for part in relative.parts if part not in ("..", os.sep)]  # stay inside this folder
            stem = PurePath(*parts).with_suffix("")
            candidate, number = _shorten(stem), 2
            while str(candidate) in self._taken:
                candidate, number = _shorten(stem.with_name(f"{stem.name}_{number}")), number + 1
            self.stems[image] = str(candidate)
            self._taken.add(str(candidate))
        return self.stems[image]

    def paths(self, stem: str) -> dict[str, Path]:
        """Return the files to write for one image, by kind."""
        endings = {kind: ENDINGS[kind][0] for kind in self.kinds}
        if "overlay" in endings:
            endings["overlay"] = f"_overlay.{self.overlay_format}"
        base = self.folder / stem
        return {kind: base.with_name(base.name + ending) for kind, ending in endings.items()}

    def is_current(self, image: str, file: Sequence[int] | None, key: str) -> bool:
        """Return whether what is stored of an image is of the same file and settings.

        Args:
            image (`str`): Absolute path or URL.
            file (`Sequence[int]`, *optional*): From [`file_state`]; `None` for a URL.
            key (`str`): Fingerprint of the model and all settings.
        """
        row = self.rows.get(image)
        if row is None or file is None or row["error"] is not None:
            return False
        return (row["key"], row["file"]) == (key, list(file))

    def is_done(self, image: str, file: Sequence[int] | None, key: str) -> bool:
        """Return whether an image needs no scoring: `is_current` with these arguments, and all files are there."""
        if not self.is_current(image, file, key):
            return False
        row = self.rows[image]
        paths = self.paths(row["output"])
        if row["pixel_threshold"] is None:
            paths.pop("mask", None)
        return all(map(_has_content, paths.values()))

    def check_free(self, stem: str) -> None:
        """Refuse to write where a file is that no earlier run has written.

        Args:
            stem (`str`): From `assign`.

        Raises:
            FileExistsError: Naming the file.
        """
        for path in self.paths(stem).values():
            if _has_content(path) and not is_result(path):
                raise FileExistsError(
                    f"{path} exists and is no result of an earlier run, so it is not replaced; choose another output "
                    "folder."
                )

    def save(
        self, result: "AnomalyResult", stem: str, maximum: float = 1.0, middle: float | None = None
    ) -> list[Path]:
        """Write the files of one image, all or none.

        Args:
            result ([`AnomalyResult`]): Must contain its image if an overlay is to be written.
            stem (`str`): From `assign`.
            maximum (`float`, *optional*, defaults to 1.0): Largest value that a map can have.
            middle (`float`, *optional*): Map value in the middle of the colour bar, the pixel threshold.

        Returns:
            `list[Path]`: the files that were written.
        """
        paths = self.paths(stem)
        if result.mask is None:
            paths.pop("mask", None)
        with ExitStack() as together:
            for kind, path in paths.items():
                partial = together.enter_context(atomic_write(path))
                if kind == "overlay":
                    overlay = draw_result(result, maximum, middle, self.scale, self.overlay_side)
                    overlay.save(partial, quality=JPEG_QUALITY, compress_level=1, exif=_signature())
                elif kind == "map":
                    write_map(partial, result.anomaly_map)  # type: ignore[arg-type]
                else:
                    _mask_of(result).save(partial, exif=_signature())
        return list(paths.values())

    def remove_others(self, stem: str, kept: Sequence[Path]) -> None:
        """Delete the results of an image that an earlier run with other settings has written.

        Args:
            stem (`str`): From `assign`.
            kept (`Sequence[Path]`): Files that stay, from `save`.
        """
        base = self.folder / stem
        for path in (base.with_name(base.name + ending) for ending in ALL_ENDINGS):
            if path not in kept and is_result(path):
                path.unlink()

    def append(self, row: dict[str, Any]) -> None:
        """Add the row of one image to both tables, in one write each."""
        with self._lock:
            self.rows[row["image"]] = row
            _append(self.folder / ROWS_NAME, json.dumps(row) + "\n")
            table = self.folder / TABLE_NAME
            _append(table, _csv_lines([row], with_header=not table.exists()))

    def compact(self, order: Sequence[str] = ()) -> None:
        """Write both tables anew, with the last row of each image alone; earlier images keep their place.

        Args:
            order (`Sequence[str]`, *optional*): Images of this run, in the order that the user gave.
        """
        found = _read_rows(self.folder / ROWS_NAME)  # with those of other processes
        rows = {image: found[image] for image in dict.fromkeys([*self._earlier, *order, *found]) if image in found}
        contents = {ROWS_NAME: "".join(json.dumps(row) + "\n" for row in rows.values())}
        contents[TABLE_NAME] = _csv_lines(rows.values(), with_header=True)
        for name, content in contents.items():
            with atomic_write(self.folder / name) as partial:
                partial.write_bytes(content.encode("utf-8", errors="backslashreplace"))
        self.rows = rows


def is_result(path: Path) -> bool:
    """Return whether a file was written by an earlier run: by its name and the signature in it.

    Args:
        path (`Path`): Any file; only those with the name of a result are opened.
    """
    if not path.name.endswith(ALL_ENDINGS):
        return False
    try:
        return _has_signature(path)
    except Exception:  # damaged files raise errors of many types
        return False


def _has_signature(path: Path) -> bool:
    if path.name.endswith(ENDINGS["map"]):
        import numpy as np

        with np.load(path, allow_pickle=False) as file:
            return file.files == ["anomaly_map"]

    from PIL import ExifTags, Image

    with Image.open(path) as image:
        return image.getexif().get(ExifTags.Base.Software) == SIGNATURE


def _has_content(path: Path) -> bool:
    """Return whether a file exists and is not empty, as a power cut may leave it."""
    return path.exists() and path.stat().st_size > 0


def draw_result(
    result: "AnomalyResult",
    maximum: float = 1.0,
    middle: float | None = None,
    scale: str = "fixed",
    overlay_side: int = OVERLAY_SIDE,
) -> "Image.Image":
    """Draw the overlay of one image: heat map, outlines of the regions, colour bar, score and label.

    Args:
        result ([`AnomalyResult`]): With its image.
        maximum (`float`, *optional*, defaults to 1.0): Largest value that a map can have, the end of the fixed scale.
        middle (`float`, *optional*): Map value in the middle of the colour bar, the pixel threshold.
        scale (`str`, *optional*, defaults to `"fixed"`):
            `"fixed"`: one scale for all images, from 0 to `maximum`. `"image"`: each image's own
            peak in full red, which shows where to look first but not how much is wrong.
        overlay_side (`int`, *optional*, defaults to 2048): Longest side of the drawing, in pixels; larger images are
            drawn smaller.

    Returns:
        `PIL.Image.Image`: in mode RGB; images wide enough for it have a legend below.

    Raises:
        ValueError: If the result has no image or no map.
    """
    from ..postprocessing_anomalyclip import add_legend, draw_overlay

    image, anomaly_map = result.image, result.anomaly_map
    if image is None or anomaly_map is None:
        raise ValueError(f"the result of {result.source} has no image or map; score with keep_images=True.")
    if max(image.size) > overlay_side:
        image = image.copy()
        image.thumbnail((overlay_side, overlay_side))
    if scale == "image":
        maximum, middle = max(float(anomaly_map.max()), 1e-12), None
    overlay = draw_overlay(image, anomaly_map, maximum, middle=middle, mask=result.mask)
    return add_legend(overlay, f"{result.score:.3f} {result.label}", maximum, middle)


def write_map(path: Path, anomaly_map: "np.ndarray") -> None:
    """Write an anomaly map as compressed float16, which keeps three digits.

    Read it back with `numpy.load(path)["anomaly_map"]`.

    Args:
        path (`Path`): File to write, with the ending `.npz`.
        anomaly_map (`np.ndarray` of shape `(height, width)`): The map.
    """
    import numpy as np

    # As numpy.savez_compressed, whose higher level of compression takes twice as long and saves nothing here.
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("anomaly_map.npy", "w") as file,
    ):
        np.lib.format.write_array(file, anomaly_map.astype(np.float16))


def _mask_of(result: "AnomalyResult") -> "Image.Image":
    """Return the mask at the size of the image, 0 and 255."""
    from PIL import Image

    from ..postprocessing_anomalyclip import to_pil

    height, width = result.size or (0, 0)
    return to_pil(result.mask).resize((width, height), Image.Resampling.NEAREST)


def _signature() -> "Image.Exif":
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[ExifTags.Base.Software] = SIGNATURE
    return exif


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Read the last row of each image; a line that was cut off by a kill is passed over."""
    if not path.exists():
        return {}
    rows = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and row.keys() >= {*COLUMNS, "file", "key"} - {*CALIBRATED}:
            rows[row["image"]] = {**dict.fromkeys(CALIBRATED), **row}  # earlier versions wrote none
        elif row is not None or line[: len(ROW_START)] != ROW_START[: len(line)]:
            raise FileExistsError(f"{path} is not of an earlier run, so it is not replaced; choose another folder.")
    return rows


def _csv_lines(rows: Iterable[dict[str, Any]], with_header: bool) -> str:
    """Format rows as CSV, with the number of regions in place of the regions."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    if with_header:
        writer.writeheader()
    for row in rows:
        writer.writerow({**row, "regions": None if row["regions"] is None else len(row["regions"])})
    return text.getvalue()


def _append(path: Path, text: str) -> None:
    """Add lines to a file in one write, so that processes do not mix theirs; a line that a kill has cut is ended."""
    with path.open("a+b", buffering=0) as file:
        if file.tell() and _last_byte(file) != b"\n":
            text = f"\n{text}"
        rest = text.encode("utf-8", errors="backslashreplace")
        while rest:  # a full disk may take a part; then the next write raises an error
            rest = rest[file.write(rest) :]


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


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
