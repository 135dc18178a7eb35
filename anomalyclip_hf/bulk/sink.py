# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the rows of a part as Parquet files: scores, and where asked for, maps and overlays."""

import io
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..scoring.engine import AnomalyResult
from ..scoring.outputs import JPEG_QUALITY
from .inputs import Item
from .manifest import Part
from .stores import Folder


BOX = pa.struct([(name, pa.int32()) for name in ("xmin", "ymin", "xmax", "ymax")])
SCORES = pa.schema(
    [
        ("path", pa.string()),
        ("score", pa.float32()),
        ("label", pa.string()),
        ("p_value", pa.float64()),  # null without a calibration, as the decision
        ("decision", pa.string()),
        ("map_max", pa.float32()),
        ("map_mean", pa.float32()),
        ("map_area", pa.float32()),  # share of the pixels from the pixel threshold on; null without one
        ("regions", pa.list_(pa.struct([("box", BOX), ("area", pa.int64()), ("peak", pa.float32())]))),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        ("model", pa.string()),
        ("settings", pa.string()),
        ("state", pa.string()),
    ]
)
MAPS = pa.schema(
    [("path", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("map", pa.list_(pa.float16()))]
)
OVERLAYS = pa.schema([("path", pa.string()), ("overlay", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
SCHEMAS = {"scores": SCORES, "maps": MAPS, "overlays": OVERLAYS}
MAX_NAME_BYTES = 255 - len("folder=")  # of a folder on a disk
FOOTER_READERS = 16


class Sink:
    """The files of one run below an output folder: `KIND/run=NAME[/folder=FOLDER]/PART.parquet`.

    Args:
        output (`Folder`): Output folder.
        run (`str`): Name of the run.
        kinds (`Sequence[str]`): `"scores"`, and where asked for `"maps"` and `"overlays"`.
    """

    def __init__(self, output: Folder, run: str, kinds: Sequence[str] = ("scores",)):
        self.run, self.kinds = run, tuple(kinds)
        self.folders = {kind: output / kind / f"run={encode(run, 'the name of the run')}" for kind in kinds}

    def path(self, part: Part) -> str:
        """Return the file of a part, below the folder of each kind."""
        folder = "" if part.folder is None else f"folder={encode(part.folder, part.folder)}/"
        return f"{folder}{part.id}.parquet"

    def written(self) -> set[str]:
        """Return the files of all parts that are done."""
        return set(self.folders["scores"].files(".parquet"))

    def write(self, path: str, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Write a part; it counts as done with its last file, that of the scores.

        Args:
            path (`str`): From `path`.
            rows (`dict[str, list[dict]]`): Per kind.

        Raises:
            OSError: If the disk is full, or the store answers errors for too long.
        """
        for kind in sorted(self.kinds, key=lambda kind: kind == "scores"):
            content = io.BytesIO()
            table = pa.Table.from_pylist(rows[kind], SCHEMAS[kind])
            pq.write_table(table, content, compression="zstd")
            self.folders[kind].write(path, content.getvalue())

    def delete(self, path: str) -> None:
        """Delete the files of a part, that of the scores first."""
        for kind in self.kinds:
            self.folders[kind].delete(path)

    def count(self, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return the number of images and of errors of each part, from the footers of the files alone."""
        paths = list(paths)
        with ThreadPoolExecutor(FOOTER_READERS) as pool:
            return dict(zip(paths, pool.map(self._count, paths), strict=True))

    def _count(self, path: str) -> tuple[int, int]:
        with self.folders["scores"].open(path) as file:
            metadata = pq.read_metadata(file)
        # the regions have several leaf columns, so places differ from those of the schema
        leaf = next(place for place in range(metadata.num_columns) if metadata.schema.column(place).path == "error")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        empty = sum(group.column(leaf).statistics.null_count for group in groups)
        return metadata.num_rows, metadata.num_rows - empty

    def states(self, path: str) -> dict[str, str]:
        """Return path and state of each image of a part that was scored without error."""
        table = self._table("scores", path, ["path", "state", "error"])
        return {row["path"]: row["state"] for row in table.to_pylist() if row["error"] is None}

    def take(self, paths: Iterable[str], items: Iterable[Item]) -> dict[str, dict[str, dict[str, Any]]]:
        """Return rows of earlier parts that still hold for these images.

        Args:
            paths (`Iterable[str]`): Files of the earlier parts.
            items (`Iterable[Item]`): The images.

        Returns:
            `dict`: per image, per kind, its row; only of images whose file is as it was and that had no error.
        """
        wanted = {item.name: item.state for item in items}
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for path in paths:
            tables = {kind: self._table(kind, path).to_pylist() for kind in self.kinds}
            for row in tables["scores"]:
                if row["error"] is None and wanted.get(row["path"]) == row["state"]:
                    found[row["path"]] = {"scores": row}
            for kind in self.kinds:
                for row in tables[kind]:
                    if row["path"] in found:
                        found[row["path"]].setdefault(kind, row)
        return found

    def _table(self, kind: str, path: str, columns: list[str] | None = None) -> pa.Table:
        return pq.read_table(io.BytesIO(self.folders[kind].read(path)), columns=columns)


def encode(folder: str, name: str) -> str:
    """Return a folder as the value of a Parquet partition.

    Args:
        folder (`str`): The value.
        name (`str`): What the error calls it.

    Raises:
        ValueError: If it cannot be the name of a folder on every disk and store.
    """
    try:
        encoded = urllib.parse.quote(folder, safe="")
    except UnicodeEncodeError:
        encoded = ""
    is_plain = folder.isprintable() and folder == folder.strip() and bool(encoded)
    if not is_plain or len(encoded) > MAX_NAME_BYTES:
        raise ValueError(
            f"{name!a} cannot be a partition: expected printable UTF-8 of at most {MAX_NAME_BYTES} bytes, encoded "
            f"as in a URL, and no blanks at its ends. Rename it, or do not partition by folder (--by-folder)."
        )
    return encoded


def rows_of(
    result: AnomalyResult,
    item: Item,
    marks: dict[str, str],
    pixel_threshold: float | None,
    kinds: Sequence[str],
    draw: Callable[[AnomalyResult], Any],
) -> dict[str, dict[str, Any]]:
    """Return the row of one image for each kind of file.

    Args:
        result ([`AnomalyResult`]): With its map, at the model's size.
        item ([`Item`]): The image.
        marks (`dict[str, str]`): `model` and `settings`.
        pixel_threshold (`float`, *optional*): Map value from which a pixel counts for `map_area`.
        kinds (`Sequence[str]`): Of the sink.
        draw (`Callable`): Returns the overlay of a result, a PIL image.
    """
    error = result.error and result.error.encode(errors="backslashreplace").decode()  # names need not be UTF-8
    row: dict[str, Any] = {"path": item.name, "error": error, "state": item.state, **marks}
    if result.error is not None or result.anomaly_map is None or result.size is None:
        return {"scores": row}
    values = result.anomaly_map
    row |= {
        "score": result.score,
        "label": result.label,
        "p_value": result.p_value,
        "decision": result.decision,
        "map_max": float(values.max()),
        "map_mean": float(values.mean()),
        "map_area": None if pixel_threshold is None else float((values >= pixel_threshold).mean()),
        "regions": result.regions,
        "height": result.size[0],
        "width": result.size[1],
    }
    rows = {"scores": row}
    if "maps" in kinds:
        flat = values.astype(np.float16).reshape(-1)
        rows["maps"] = {"path": item.name, "height": values.shape[0], "width": values.shape[1], "map": flat}
    if "overlays" in kinds:
        picture = io.BytesIO()
        draw(result).save(picture, "JPEG", quality=JPEG_QUALITY)
        rows["overlays"] = {"path": item.name, "overlay": {"bytes": picture.getvalue(), "path": None}}
    return rows
