# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Cut a list of images into parts whose names follow from their content, and write it down."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from .inputs import Item
from .stores import Folder


INDEX_NAME = "index.parquet"
ROWS_PER_FILE = 50_000  # of the manifest
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("url", pa.binary()),  # file names need not be UTF-8
        ("state", pa.string()),
        ("folder", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("row", pa.int64()),
        ("column", pa.string()),
    ]
)
INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("group", pa.int64()),
        ("images", pa.int64()),
        ("folder", pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """Images that are scored and written together.

    Args:
        id (`str`): Digest of the run's key, and of names and states of the images.
        file (`str`): File of the manifest that lists the images.
        group (`int`): Row group of that file.
        images (`int`): Number of images.
        folder (`str`, *optional*): Folder of all images, where results are partitioned by it.
        reuse (`tuple[str, ...]`): Files of earlier results in which rows of the same images may be.
    """

    id: str
    file: str
    group: int
    images: int
    folder: str | None = None
    reuse: tuple[str, ...] = ()

    def read(self, manifest: Folder) -> list[Item]:
        """Return the images of the part.

        Args:
            manifest (`Folder`): With the files of the manifest.
        """
        rows = pq.ParquetFile(io.BytesIO(manifest.read(self.file))).read_row_group(self.group).to_pylist()
        return [Item(**{**row, "url": os.fsdecode(row["url"])}) for row in rows]


def cut(items: Iterable[Item], part_size: int, by_folder: bool = False) -> Iterator[list[Item]]:
    """Cut a list into parts of about a size, at places that depend on the names alone.

    So a new or missing image changes one or two parts, and all others stay what they are.

    Args:
        items (`Iterable[Item]`): In a fixed order.
        part_size (`int`): Mean number of images of a part; at least half, at most twice as many.
        by_folder (`bool`, *optional*, defaults to `False`): Let no part hold images of two folders.
    """
    least = max(1, part_size // 2)
    part: list[Item] = []
    for item in items:
        is_boundary = len(part) >= least and _number(item.name) % max(1, part_size - least) == 0
        if part and (is_boundary or len(part) >= 2 * part_size or (by_folder and item.folder != part[-1].folder)):
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def part_id(key: str, items: Iterable[Item]) -> str:
    """Return the name of a part: a digest of the run's key and of the images with their states."""
    digest = hashlib.sha256(key.encode())
    for item in items:
        digest.update(f"\n{item.name}\0{item.state}".encode())
    return digest.hexdigest()[:24]


def write_manifest(
    manifest: Folder, key: str, items: Iterable[Item], part_size: int, by_folder: bool = False
) -> list[Part]:
    """Cut a list into parts and write it to a folder, in bounded memory.

    Files are named after what is in them, so writing the same list again changes nothing.

    Args:
        manifest (`Folder`): Receives the files, and an index of all parts.
        key (`str`): Of the run: model and settings.
        items (`Iterable[Item]`): In a fixed order.
        part_size (`int`): See [`cut`].
        by_folder (`bool`, *optional*, defaults to `False`): See [`cut`].

    Returns:
        `list[Part]`: in order.
    """
    parts: list[Part] = []
    groups: list[tuple[str, list[Item]]] = []
    for images in cut(items, part_size, by_folder):
        groups.append((part_id(key, images), images))
        if sum(len(group) for _, group in groups) >= ROWS_PER_FILE:
            parts += _write_file(manifest, groups, by_folder)
            groups = []
    parts += _write_file(manifest, groups, by_folder)
    rows = [
        {"id": part.id, "file": part.file, "group": part.group, "images": part.images, "folder": part.folder}
        for part in parts
    ]
    index = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), index)
    manifest.write(INDEX_NAME, index.getvalue())
    return parts


def _write_file(manifest: Folder, groups: list[tuple[str, list[Item]]], by_folder: bool) -> list[Part]:
    if not groups:
        return []
    file = hashlib.sha256("".join(name for name, _ in groups).encode()).hexdigest()[:24] + ".parquet"
    content = io.BytesIO()
    with pq.ParquetWriter(content, SCHEMA) as writer:
        for _, images in groups:
            rows = [{**item._asdict(), "url": os.fsencode(item.url)} for item in images]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA), row_group_size=len(rows))
    manifest.write(file, content.getvalue())
    return [
        Part(name, file, number, len(images), images[0].folder if by_folder else None)
        for number, (name, images) in enumerate(groups)
    ]


def read_index(manifest: Folder) -> list[Part]:
    """Return the parts of a manifest.

    Raises:
        FileNotFoundError: If there is none.
    """
    return [Part(**row) for row in pq.read_table(io.BytesIO(manifest.read(INDEX_NAME))).to_pylist()]
