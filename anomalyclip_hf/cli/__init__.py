# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The command line, one file a verb. Nothing here imports torch before a verb runs, so that --help answers at once."""

import io
import logging
import signal
import sys
from typing import Annotated

import typer

from ..version import __version__
from .calibrate import calibrate
from .convert import convert
from .datasets import datasets
from .demo import demo
from .evaluate import evaluate
from .export import export
from .hub import hub
from .messages import LINES, print_error
from .options import join_value_range
from .predict import predict
from .score import score
from .train import train


app = typer.Typer(
    name="anomalyclip",
    help="Find defects and lesions in images of things the model has never seen (AnomalyCLIP, ICLR 2024).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


app.command()(predict)
app.command()(convert)
app.command()(evaluate)
app.command()(calibrate)
app.command()(train)
app.command()(score)
app.command()(export)
app.command()(demo)
app.add_typer(datasets, name="datasets")
app.add_typer(hub, name="hub")


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    # As for Ctrl+C: what is half written goes, what is done stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no name is worth failing after the work is done
    logging.getLogger("anomalyclip_hf").addHandler(LINES)
    try:
        app(args=join_value_range(sys.argv[1:]))
    except (OSError, ValueError, ImportError, RuntimeError, ArithmeticError) as error:
        print_error(error)
        sys.exit(2)
