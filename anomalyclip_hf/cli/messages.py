# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What the user reads besides results: one line per problem, and no chatter of libraries."""

import errno
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


REMEDIES = {
    errno.ENOSPC: "make room there, or choose another folder",
    errno.EDQUOT: "make room there, or choose another folder",
    errno.EFBIG: "raise the limit on the size of a file, or choose another folder",
    errno.EROFS: "choose another folder",
    errno.EACCES: "check who may read and write there",
    errno.EPERM: "check who may read and write there",
}


def print_error(problem: Exception | str) -> str:
    """Say what went wrong in one line on standard error; gives that line without its prefix."""
    text = str(problem)
    if isinstance(problem, OSError) and problem.filename and problem.errno in REMEDIES:
        text = f"{problem.filename}: {problem.strerror}; {REMEDIES[problem.errno]}."
    line = " ".join(text.split()) or type(problem).__name__
    print(f"anomalyclip: {line}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    return line


class LineHandler(logging.Handler):
    """Print what this package logs as `print_error` does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record in one line."""
        print_error(record.getMessage())


LINES = LineHandler(logging.WARNING)  # one for the process, since a logger takes the same handler only once


def quiet_transformers() -> None:
    """Leave only errors of transformers; its progress bars and reports would hide the one line that matters."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def warnings_as_lines(show: bool = True) -> Iterator[None]:
    """Print each different warning in one line, without the line of source code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning):
        if show:
            print_error(message)
