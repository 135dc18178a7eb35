# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What the user reads besides results: one line per problem, and no chatter of libraries."""

import sys


def complain(problem: Exception | str) -> str:
    """Say what went wrong in one line on standard error; gives that line without its prefix."""
    line = " ".join(str(problem).split()) or type(problem).__name__
    print(f"anomalyclip: {line}".encode(errors="backslashreplace").decode(), file=sys.stderr)
    return line


def quiet_transformers() -> None:
    """Leave only errors of transformers; its progress bars and reports would hide the one line that matters."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
