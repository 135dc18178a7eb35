# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Writing files and folders that appear whole or not at all."""

import errno
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


PARTIAL = f".partial-{socket.gethostname()}-"  # then the process, so that what a killed one left can be told
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # may come without a name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file moves to `path` when the block ends well and is gone when it does not.

    Raises:
        OSError: If it cannot be written; naming `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays, since image formats are chosen by it.
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        _restore_path(path, partial, error)
        raise
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed left half written in a folder and below."""
    for partial in folder.rglob(f"{PARTIAL}*"):
        process = partial.name.removeprefix(PARTIAL).split("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write to; it moves to `path` when the block ends well and is gone when it does not.

    Raises:
        FileExistsError: If `path` is a file or a folder that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already and is not an empty folder; choose another output folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if path.exists():
            path.rmdir()
        partial.replace(path)
    except OSError as error:
        _restore_path(path, partial, error)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _restore_path(path: Path, partial: Path, error: OSError) -> None:
    """Put the name that the user knows into an error, in place of the name that is only for now."""
    if error.errno is None:
        error.args = tuple(str(argument).replace(str(partial), str(path)) for argument in error.args)
    elif error.filename is not None:
        error.filename = str(error.filename).replace(str(partial), str(path))
    elif error.errno in OF_DISKS:
        error.filename = str(path)
