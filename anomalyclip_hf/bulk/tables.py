# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read the images that a Parquet or CSV table names or holds."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from .stores import open_store


TABLE_SUFFIXES = (".parquet", ".csv")
IMAGE_COLUMNS = ("image", "path", "file", "file_name", "filename", "filepath", "url", "bytes", "img", "jpg", "png")
STATE_COLUMNS = (
    "etag",
    "e_tag",
    "last_modified",
    "last_modified_date",
    "mtime",
    "size",
)  # as storage inventories have
ROWS_AT_ONCE = 16  # of tables with bytes; images may be megabytes each


class Record(NamedTuple):
    """An image of a table: the path that the table names, or the place of its bytes.

    Args:
        name (`str`): The path, or table and row.
        source (`str`, *optional*): Path or URL; `None` where the table holds the bytes.
        row (`int`): Row of the table.
        column (`str`): Column of the image.
        state (`str`, *optional*): From the columns that an inventory of a store has.
        kind (`str`): `"paths"` or `"bytes"`.
    """

    name: str
    source: str | None
    row: int
    column: str
    state: str | None = None
    kind: str = "paths"


def read_table(system: Any, path: str, url: str, image_column: str | None = None) -> Iterator[Record]:
    """List the images of a table, batch by batch, without reading their bytes.

    Args:
        system (`fsspec.AbstractFileSystem`): Where the table is.
        path (`str`): Path in it.
        url (`str`): What names and errors call the table.
        image_column (`str`, *optional*): Its column of paths or bytes; by default the first that is called like one.

    Raises:
        ValueError: If the table cannot be read, or has no such column.
    """
    try:
        with system.open(path, "rb") as file:
            yield from (
                _read_csv(file, url, image_column)
                if path.lower().endswith(".csv")
                else _read_parquet(file, url, image_column)
            )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{url} cannot be read as a table ({' '.join(str(error).split())[:300]}).") from error


def _read_csv(file: Any, url: str, image_column: str | None) -> Iterator[Record]:
    reader = pyarrow.csv.open_csv(
        file, convert_options=pyarrow.csv.ConvertOptions(column_types={image_column or "path": pa.string()})
    )
    column = choose_column(reader.schema, url, image_column)
    yield from _records(reader, column, url, [name for name in reader.schema.names if name.lower() in STATE_COLUMNS])


def _read_parquet(file: Any, url: str, image_column: str | None) -> Iterator[Record]:
    table = pq.ParquetFile(file)
    column = choose_column(table.schema_arrow, url, image_column)
    states = [name for name in table.schema_arrow.names if name.lower() in STATE_COLUMNS]
    kind = table.schema_arrow.field(column).type
    if _is_text(kind):
        yield from _records(table.iter_batches(columns=[column, *states]), column, url, states)
    else:  # bytes, or structs of bytes and path: their state is that of the table
        for row in range(table.metadata.num_rows):
            yield Record(f"{url}#{row}", None, row, column, kind="bytes")


def _records(batches: Any, column: str, url: str, states: Sequence[str]) -> Iterator[Record]:
    for start, batch in _numbered(batches):
        for number, source in enumerate(batch.column(column).to_pylist()):
            if not source:
                raise ValueError(f"{url}, row {start + number}, has no path in the column {column!r}.")
            yield Record(source, source, start + number, column, _state_of(batch, states, number))


def _numbered(batches: Any) -> Iterator[tuple[int, Any]]:
    start = 0
    for batch in batches:
        yield start, batch
        start += batch.num_rows


def _state_of(batch: Any, states: Sequence[str], number: int) -> str | None:
    return "-".join(str(batch.column(name)[number].as_py()) for name in states) or None


def choose_column(schema: pa.Schema, url: str, image_column: str | None = None) -> str:
    """Return the column with paths or bytes.

    Raises:
        ValueError: If there is none, or its type is no text, bytes, or struct with `bytes`.
    """
    names = {name.lower(): name for name in schema.names}
    wanted = [image_column] if image_column else [names[name] for name in IMAGE_COLUMNS if name in names]
    for column in wanted:
        if column in schema.names and _holds_images(schema.field(column).type):
            return column
    looked = f"no column {image_column!r} with" if image_column else "no column with"
    raise ValueError(
        f"{url} has {looked} paths or bytes; it has {', '.join(f'{field.name} ({field.type})' for field in schema)}. "
        "Name the column with image_column= (--image-column); all tables of a run need it."
    )


def _holds_images(kind: pa.DataType) -> bool:
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return _is_text(kind) or is_bytes or (pa.types.is_struct(kind) and "bytes" in kind.names)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


class TableBytes:
    """Read bytes out of a Parquet file in the order of its rows, a few at a time; safe in several threads.

    Args:
        url (`str`): The file.
        column (`str`): Column of bytes, or of structs with `bytes`.
        rows (`Sequence[int]`): Rows that will be asked for.
    """

    def __init__(self, url: str, column: str, rows: Sequence[int]):
        self.wanted = set(rows)
        self._held: dict[int, bytes | None] = {}
        self._lock = threading.Lock()
        self._batches = self._read(url, column, min(rows), max(rows))

    def get(self, row: int) -> bytes | None:
        """Return the bytes of a row, once."""
        with self._lock:
            while row not in self._held:
                self._held.update(next(self._batches))
            return self._held.pop(row)

    def _read(self, url: str, column: str, first: int, last: int) -> Iterator[dict[int, bytes | None]]:
        system, path = open_store(url)
        with system.open(path, "rb") as file:
            table = pq.ParquetFile(file)
            groups, start, before = [], 0, 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if start + rows <= first:
                    before = start + rows
                elif start <= last:
                    groups.append(group)
                start += rows
            is_struct = pa.types.is_struct(table.schema_arrow.field(column).type)
            leaf = f"{column}.bytes" if is_struct else column
            row = before
            for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[leaf]):
                found = {}
                for value in batch.column(0):
                    if row in self.wanted:
                        content = value.as_py()
                        found[row] = content["bytes"] if is_struct and content is not None else content
                    row += 1
                yield found
