# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write files and folders that appear complete or not at all."""

import errno
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


PARTIAL = f".partial-{socket.gethostname()}-"  # followed by the process id, to recognise leftovers of killed processes
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # these may lack the name of the file


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` when the block succeeds.

    If the block raises, the temporary file is deleted and `path` stays as it was.

    Args:
        path (`Path`): Where the file goes. Missing folders are created.

    Yields:
        `Path`: the temporary path, with the suffix of `path`.

    Raises:
        OSError: If the file cannot be written. The error names `path`, not the temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because Pillow chooses the format by it.
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
    """Delete the temporary files that killed processes of this machine left in a folder and its subfolders."""
    for partial in folder.rglob(f"{PARTIAL}*"):
        process = partial.name.removeprefix(PARTIAL).split("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            partial.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # os.kill would stop the process there
        return True
    try:
        os.kill(process, 0)  # signal 0 only asks whether the process exists
    except PermissionError:
        return True  # it belongs to another user
    except OSError:
        return False
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to, and rename it to `path` when the block succeeds.

    If the block raises, the temporary folder is deleted.

    Args:
        path (`Path`): Where the folder goes. It must not exist, or be empty.

    Yields:
        `Path`: the temporary folder.

    Raises:
        FileExistsError: If `path` is a file or a folder that is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already and is not an empty folder; choose another output folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rmdir()
        partial.replace(path)
    except OSError as error:
        _restore_path(path, partial, error)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _restore_path(path: Path, partial: Path, error: OSError) -> None:
    """Replace the temporary path in an error by the path that the user knows."""
    if error.errno is None:
        error.args = tuple(str(argument).replace(str(partial), str(path)) for argument in error.args)
    elif error.filename is not None:
        error.filename = str(error.filename).replace(str(partial), str(path))
    elif error.errno in DISK_ERRORS:
        error.filename = str(path)
