# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Let one run at a time write to a folder."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .processes import is_distributed, process_state


LOCK_NAME = ".anomalyclip.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # of file systems that know none

logger = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs. The lock ends with the process, even if it is killed.

    Of several processes that share the work, the first holds the lock for all.

    Args:
        folder (`str` or `os.PathLike`): Created if missing.

    Raises:
        BlockingIOError: If another run writes to the folder.
        OSError: If the folder cannot be written to.

    Example:
    ```python
    >>> import tempfile
    >>> from anomalyclip_hf.io.locks import lock_folder

    >>> folder = tempfile.mkdtemp()
    >>> with lock_folder(folder), lock_folder(folder):  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     pass
    Traceback (most recent call last):
    BlockingIOError

    ```
    """
    if is_distributed() and not process_state().is_main_process:
        yield
        return
    path = Path(folder) / LOCK_NAME
    lock = FileLock(path, mode=0o666)  # colleagues may share the folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"another run writes to {folder}; wait for its end, or choose another output folder."
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another folder.") from error
        logger.warning("%s is on a file system without locks; let no other run write to it.", folder)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file; there, release() does
            path.unlink()  # while it is locked, so that it is no other run's
        lock.release()
