# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""List the images of folders, globs, list files, tables and archives, one after another, without opening them."""

import hashlib
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from ..data.files import IMAGE_SUFFIXES, is_image_name
from ..scoring.inputs import is_url
from ..scoring.outputs import is_result, printable
from .stores import open_store, protocol_of, try_again
from .tables import TABLE_SUFFIXES, Record, read_table


TAR_SUFFIX = ".tar"
LIST_SUFFIXES = (".txt", ".lst")
STATE_KEYS = ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created")


class Item(NamedTuple):
    """An image to score, or where its bytes are.

    Args:
        name (`str`): What the row of results calls it: path or URL, of a member or row followed by `#`.
        url (`str`): File to open.
        state (`str`): Changes with the file: size and time, or the tag of the store; empty where unknown.
        folder (`str`): Folder below the input, `"."` at its top.
        offset (`int`, *optional*): First byte, in an archive.
        length (`int`, *optional*): Number of bytes, in an archive.
        row (`int`, *optional*): Row, in a table with bytes.
        column (`str`, *optional*): Column, in a table with bytes.
    """

    name: str
    url: str
    state: str = ""
    folder: str = "."
    offset: int | None = None
    length: int | None = None
    row: int | None = None
    column: str | None = None


class Listing:
    """List images, each once.

    Args:
        inputs (`Iterable[str]`): Folders (with all folders below), globs, images, list files (`.txt`, one path a
            line), tables (`.csv`, `.parquet` with a column of paths or bytes), WebDataset archives (`.tar`); local, or
            URLs such as `s3://`, `gs://`, `hf://`.
        image_column (`str`, *optional*): Column of tables; by default one that is called like an image.

    Iterating it yields [`Item`]s in an order that depends on names alone. Afterwards `duplicates` says how many names
    led to images that were listed already.

    Raises:
        FileNotFoundError: If an input has no images.
        ValueError: If a table or archive cannot be read.
        OSError: If a folder or store cannot be opened.
    """

    def __init__(self, inputs: str | os.PathLike | Iterable[str], image_column: str | None = None):
        names = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
        self.inputs = [_whole_name(os.fspath(name)) for name in names]  # the same however it was written
        self.image_column = image_column
        self.duplicates = 0
        self._seen: set[bytes] = set()
        self._table: tuple[str, str, str] | None = None

    def __iter__(self) -> Iterator[Item]:
        self.duplicates, self._seen, self._table = 0, set(), None
        if not self.inputs:
            raise FileNotFoundError("no input was given; name a folder, glob, list, table or archive.")
        for name in self.inputs:
            found = False
            for item in self._expand(name):
                found = True
                if self._is_new(item):
                    yield item
                else:
                    self.duplicates += 1
            if not found:
                raise FileNotFoundError(
                    f"{name or 'an empty name'} has no images; expected {', '.join(sorted(IMAGE_SUFFIXES))} files. "
                    "Name archives and tables by a glob, as shards/*.tar."
                )

    def _is_new(self, item: Item) -> bool:
        """Return whether no other name has led to this image."""
        url = os.path.realpath(item.url) if protocol_of(item.url) == "file" else item.url
        key = hashlib.blake2b(os.fsencode(f"{url}\0{item.offset}\0{item.row}"), digest_size=16).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _expand(self, name: str) -> Iterator[Item]:
        if is_url(name):
            yield Item(name, name)
            return
        if not name:
            return
        system, path = open_store(name)
        is_local = isinstance(system, LocalFileSystem)
        info = try_again(lambda: _info(system, path), name)
        if info is not None and info["type"] == "directory":
            for url, folder, state in _walk(system, path, name):
                yield Item(printable(url), url, state, folder)
        elif info is None and has_magic(name):
            for match in sorted(try_again(lambda: system.glob(path), name)):
                yield from self._expand_file(system, match, match if is_local else system.unstrip_protocol(match))
        elif info is None:
            raise FileNotFoundError(f"{name} does not exist and matches no file; check the path.")
        else:
            yield from self._expand_file(system, path, os.path.abspath(name) if is_local else name)

    def _expand_file(self, system: Any, path: str, url: str) -> Iterator[Item]:
        suffix = posixpath.splitext(path)[1].lower()
        state = _state(try_again(lambda: system.info(path), url))
        if is_image_name(posixpath.basename(path)):
            yield Item(printable(url), url, state)
        elif suffix == TAR_SUFFIX:
            yield from _list_archive(system, path, url, state)
        elif suffix in TABLE_SUFFIXES:
            for record in read_table(system, path, url, self.image_column):
                self._check_same(record, url)
                if record.source is None:
                    yield Item(record.name, url, state, row=record.row, column=record.column)
                else:
                    yield self._named(record.source, url, record.state)
        elif suffix in LIST_SUFFIXES:
            with system.open(path, "rb") as file:
                for line in file:
                    if text := os.fsdecode(line.removeprefix(b"\xef\xbb\xbf")).strip():
                        yield self._named(text, url)
        elif not has_magic(url):
            raise ValueError(f"{url} is no image, list (.txt), table (.csv, .parquet) or archive (.tar).")

    def _check_same(self, record: Record, url: str) -> None:
        """Refuse tables that do not name or hold their images in the same way."""
        first, column, kind = self._table = self._table or (url, record.column, record.kind)
        if (record.column, record.kind) != (column, kind):
            raise ValueError(
                f"{url} has {record.kind} in the column {record.column!r}, but {first} has {kind} in {column!r}; "
                "score them in two runs, or name one column with image_column= (--image-column)."
            )

    def _named(self, source: str, owner: str, state: str | None = None) -> Item:
        """Return the image that a list or table names, relative to the folder of that file."""
        if protocol_of(source) != "file":
            return Item(source, source, state or "", posixpath.dirname(source.split("://", 1)[1]) or ".")
        url = f"{posixpath.dirname(owner)}/{source}" if not os.path.isabs(source) else source
        if protocol_of(owner) == "file":
            url = os.path.normpath(url)
            try:
                info = os.stat(url)
                state = state or f"{info.st_size}-{info.st_mtime_ns}"
            except OSError:
                state = "missing"  # a row with an error, scored when the file is there
        return Item(printable(url), url, state or "", posixpath.dirname(source) or ".")


def _whole_name(name: str) -> str:
    """Return the absolute path of a local input, and a URL without the slash at its end."""
    return name.rstrip("/") if "://" in name else name and os.path.abspath(name)


def _info(system: Any, path: str) -> dict[str, Any] | None:
    """Return what a store says of a file or folder; `None` where there is none."""
    try:
        return system.info(path)
    except FileNotFoundError:
        return None


def _walk(system: Any, top: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield URL, folder below the top, and state of all images in a folder, sorted by folder and name.

    Links to folders are followed once and never upwards.
    """
    is_local = isinstance(system, LocalFileSystem)
    top = os.path.abspath(top) if is_local else top.rstrip("/")
    prefix = top if is_local else name.rstrip("/")
    seen: set[str] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder) if is_local else folder
        if real in seen:
            continue
        seen.add(real)
        below = folder[len(top) :].lstrip("/")
        folders = []
        for entry, is_folder, state in _list_local(folder) if is_local else _list_remote(system, folder, name):
            if is_folder:
                folders.append(f"{folder}/{entry}")
            elif is_image_name(entry) and not (is_local and is_result_of_predict(f"{folder}/{entry}")):
                yield "/".join(filter(None, (prefix, below, entry))), below or ".", state
        waiting += reversed(folders)


def is_result_of_predict(path: str) -> bool:
    """Return whether a file is an overlay or mask that `anomalyclip predict` has written."""
    return path.endswith(("_overlay.jpg", "_overlay.png", "_mask.png")) and is_result(Path(path))


def _list_local(folder: str) -> list[tuple[str, bool, str]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry for entry in entries if _is_visible(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise OSError(f"{folder} cannot be opened ({error.strerror}); check the name and the permissions.") from error
    return [(entry.name, entry.is_dir(), _local_state(entry)) for entry in listed]


def _local_state(entry: os.DirEntry) -> str:
    try:
        info = entry.stat()
    except OSError:
        return "missing"  # deleted a moment ago, or a link to nothing
    return f"{info.st_size}-{info.st_mtime_ns}"


def _list_remote(system: Any, folder: str, name: str) -> list[tuple[str, bool, str]]:
    entries = try_again(lambda: system.ls(folder, detail=True), name)
    named = sorted(
        (posixpath.basename(entry["name"].rstrip("/")), entry) for entry in entries if entry["name"] != folder
    )
    return [(last, entry["type"] == "directory", _state(entry)) for last, entry in named if _is_visible(last)]


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _state(info: dict[str, Any]) -> str:
    """Return what changes with a file: its size and the best that the store says of its content or time."""
    return "-".join([str(info.get("size")), *(str(info[key]) for key in STATE_KEYS if info.get(key) is not None)][:2])


def _list_archive(system: Any, path: str, url: str, state: str) -> Iterator[Item]:
    """List the images in a tar archive by their place in it, from the headers alone."""
    try:
        with system.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile() and is_image_name(posixpath.basename(member.name)):
                    yield Item(
                        f"{printable(url)}#{printable(member.name)}", url, f"{state}-{member.offset_data}",
                        posixpath.splitext(posixpath.basename(path))[0], member.offset_data, member.size,
                    )  # fmt: skip
                archive.members = []  # type: ignore[attr-defined]  # or memory grows with the number of members
    except tarfile.TarError as error:
        raise ValueError(
            f"{url} is not an uncompressed tar archive ({error}); write it without compression."
        ) from error
