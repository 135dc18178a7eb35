# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read and write files on a disk or in an object store; writes are whole, and tried again for a while."""

import functools
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..io.atomic import DISK_ERRORS, atomic_write
from ..io.locks import lock_folder


# Stores in which an object appears only when all of it has arrived; elsewhere files are written aside and renamed.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", "memory"})
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "HF_TOKEN",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
CREDENTIALS |= {"s3a": CREDENTIALS["s3"], "gcs": CREDENTIALS["gs"], "az": CREDENTIALS["abfs"]}
REFUSALS = re.compile(r"credential|access.?denied|forbidden|unauthorized|\b40[13]\b|token", re.IGNORECASE)
PATIENCE = 300.0  # seconds for which a store may answer errors
LONGEST_WAIT = 20.0  # seconds between two tries
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)

T = TypeVar("T")


def protocol_of(url: str) -> str:
    """Return what stands before `://`, `"file"` for a path."""
    return url.split("://", 1)[0].lower() if "://" in url else "file"


def open_store(url: str) -> tuple[Any, str]:
    """Open the file system of a path or URL.

    Args:
        url (`str`): A local path, or a URL such as `s3://bucket/folder`.

    Returns:
        `tuple[fsspec.AbstractFileSystem, str]`: the file system, and the path in it.

    Raises:
        ImportError: If a package for it is missing; names the package.
        ValueError: If there is no such kind of store.
    """
    protocol = protocol_of(url)
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        if protocol not in ("s3", "gs"):
            raise ImportError(f"{url} needs `pip install {PACKAGES.get(protocol, protocol)}` ({error}).") from error
    path, _, query = url.split("://", 1)[1].partition("?")
    try:
        return _arrow_client(f"{protocol}://{path.split('/', 1)[0]}{query and '?'}{query}"), path.rpartition("@")[2]
    except OSError as error:
        raise describe(url, error) from error


@functools.lru_cache(maxsize=64)  # a client for a bucket and not for each image
def _arrow_client(bucket: str) -> Any:
    """Open a bucket with the clients that PyArrow brings."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    return ArrowFSWrapper(FileSystem.from_uri(bucket)[0])


class Folder:
    """A folder on a disk or in an object store.

    Args:
        url (`str`): Path or URL; created with the first file.
        patience (`float`, *optional*, defaults to 300): Seconds for which failing reads and writes are tried again.
    """

    def __init__(self, url: str, patience: float = PATIENCE):
        self.url, self.patience = str(url).rstrip("/") or "/", patience

    @functools.cached_property
    def _store(self) -> tuple[Any, str]:
        return open_store(self.url)

    def __getstate__(self) -> dict[str, Any]:  # file systems are opened anew in each process
        return {"url": self.url, "patience": self.patience}

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url.rstrip('/')}/{name}", self.patience)

    def __str__(self) -> str:
        return self.url

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs out while a block runs, where the folder is on a disk; see [`lock_folder`].

        Raises:
            BlockingIOError: If another run writes to the folder.
        """
        system, base = self._store
        return lock_folder(base) if isinstance(system, LocalFileSystem) else nullcontext()

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            OSError: If the disk is full, or the store still answers errors when the patience is over.
        """
        self._try(f"{self.url}/{name}", lambda: self._write(name, content))

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            OSError: If it does not exist, or the store still answers errors when the patience is over.
        """
        system, base = self._store
        return self._try(f"{self.url}/{name}", lambda: system.cat_file(f"{base}/{name}"))

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        system, base = self._store
        return self._try(f"{self.url}/{name}", lambda: system.exists(f"{base}/{name}"))

    def open(self, name: str) -> Any:
        """Open a file to read some of it."""
        system, base = self._store
        return self._try(f"{self.url}/{name}", lambda: system.open(f"{base}/{name}", "rb"))

    def files(self, suffix: str) -> dict[str, int]:
        """Return all files below that have an ending: path below this folder to size in bytes."""
        system, base = self._store

        def find() -> dict[str, Any]:
            system.invalidate_cache()
            return system.find(base, detail=True) if system.exists(base) else {}

        found = self._try(self.url, find)
        below = {str(path)[len(base) :].lstrip("/"): info["size"] or 0 for path, info in found.items()}
        return {name: size for name, size in sorted(below.items()) if name.endswith(suffix) and "/." not in f"/{name}"}

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        system, base = self._store

        def remove() -> None:
            try:
                system.rm_file(f"{base}/{name}")
            except FileNotFoundError:
                return

        self._try(f"{self.url}/{name}", remove)

    def _write(self, name: str, content: bytes) -> None:
        system, base = self._store
        path = f"{base}/{name}"
        if isinstance(system, LocalFileSystem):
            with atomic_write(Path(path)) as partial:
                partial.write_bytes(content)
        elif protocol_of(self.url) in OBJECT_STORES:
            system.pipe_file(path, content)
        else:
            parent, _, last = path.rpartition("/")
            system.makedirs(parent, exist_ok=True)
            aside = f"{parent}/.partial-{secrets.token_hex(8)}-{last}"
            system.pipe_file(aside, content)
            system.mv(aside, path)

    def _try(self, name: str, work: Callable[[], T]) -> T:
        return try_again(work, name, self.patience)


def try_again(work: Callable[[], T], name: str, patience: float = PATIENCE) -> T:
    """Call a function until it works, with longer and longer waits.

    Errors that waiting does not help are raised at once: missing files, missing rights, a full disk.

    Args:
        work (`Callable`): What to do.
        name (`str`): What the error calls it.
        patience (`float`, *optional*, defaults to 300): Seconds after which the last error is raised.

    Raises:
        OSError: With the name, and with the variables to set where credentials are missing.
    """
    end, wait = time.monotonic() + patience, 0.05
    while True:
        try:
            return work()
        except Exception as error:  # clients of object stores have errors of their own
            is_full = isinstance(error, OSError) and error.errno in DISK_ERRORS
            if is_refusal(name, error) or (time.monotonic() + wait > end and not is_full):
                raise describe(name, error) from error
            if is_full or isinstance(error, FINAL):
                raise
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)


def is_refusal(url: str, error: Exception) -> bool:
    """Return whether an error of a store means that credentials are missing or not accepted."""
    if protocol_of(url) not in CREDENTIALS:
        return False
    return isinstance(error, PermissionError) or bool(REFUSALS.search(f"{type(error).__name__} {error}"))


def describe(url: str, error: Exception) -> OSError:
    """Return an error in one line that says what to do."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if is_refusal(url, error):
        variables = CREDENTIALS[protocol_of(url)]
        return PermissionError(f"{url} cannot be opened ({reason}); set {variables}.")
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return OSError(f"{url} cannot be opened ({reason}); check the name, the rights and the network.")
