# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip datasets`: list the known datasets, and check one that was downloaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..data.catalogue import CATALOGUE
from ..data.listing import find_dataset, scan
from ..data.words import ANOMALOUS, NORMAL
from .messages import print_error
from .options import (
    AllowOutsideOption,
    ColumnOption,
    EncodingOption,
    NormalLabelOption,
    ValueRangeOption,
    parse_columns,
    parse_value_range,
)


if TYPE_CHECKING:
    from rich.console import Console

    from ..data.checking import CheckReport

datasets = typer.Typer(invoke_without_command=True)
SHOWN = 10  # files of each kind; the rest are counted


@datasets.callback()
def list_datasets(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with datasets: list which are there, and in which layout.")
    ] = None,
) -> None:
    """List the known datasets, and check one that was downloaded."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if data_dir is not None and not data_dir.is_dir():
        raise FileNotFoundError(f"{data_dir} does not exist or is no folder; name the folder that holds the datasets.")
    table = Table("name", "domain", "title", "license")
    table.add_column("test: normal / anomalous" if data_dir else "page", overflow="fold")
    for name, entry in CATALOGUE.items():
        last = entry.page if data_dir is None else _describe_found(name, data_dir)
        table.add_row(name, entry.domain, entry.title, entry.license, escape(last))
    console = Console()
    console.print(table)
    console.print("Also csv, jsonl, parquet and hub: see docs/datasets.md.", highlight=False)


def _describe_found(name: str, data_dir: Path) -> str:
    folder = find_dataset(name, data_dir)
    if folder is None:
        return ""
    try:
        scanned = scan(name, folder)
    except (OSError, ValueError) as error:
        return print_error(error)
    labels = [row.label for row in scanned.rows if row.split == "test"]
    counts = f"{labels.count(NORMAL)} / {labels.count(ANOMALOUS)}"
    return f"{counts} in {scanned.root.relative_to(data_dir)} ({scanned.reader.name})"


@datasets.command()
def check(
    name: Annotated[str, typer.Argument(help="A name that `anomalyclip datasets` lists; or csv, jsonl.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that it was unpacked to.")],
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    column: ColumnOption = None,
    normal_label: NormalLabelOption = None,
    encoding: EncodingOption = None,
    allow_outside: AllowOutsideOption = False,
    value_range: ValueRangeOption = None,
) -> None:
    """Open every file of a dataset: counts per category, empty and full masks, unmatched files, unreadable images.

    Exits with code 1 if it finds problems that would affect an evaluation.
    """
    from rich.console import Console
    from rich.progress import track

    from ..data.checking import check as check_files

    scanned = scan(
        name, folder, parse_columns(column), category,
        normal_labels=normal_label or (), encoding=encoding, allow_outside=allow_outside,
    )  # fmt: skip
    console = Console()
    found = f"{scanned.entry.title}, read as {scanned.reader.name} from {scanned.root}"
    console.print(found, highlight=False, markup=False, soft_wrap=True)
    errors = Console(stderr=True)
    rows = track(scanned.rows, "Opening", console=errors, transient=True, disable=not errors.is_terminal)
    report = check_files(scanned, rows, parse_value_range(value_range))
    _print_counts(report, console)
    for problem in scanned.problems:
        print_error(problem)
    _print_findings(report, console)
    if scanned.problems or not report.is_clean:
        raise typer.Exit(1)


def _print_counts(report: "CheckReport", console: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("split", "category", "normal", "anomalous", "unknown")
    for split, category in sorted({key[:2] for key in report.counts}):
        counts = (str(report.counts[split, category, label]) for label in (NORMAL, ANOMALOUS, None))
        table.add_row(escape(split), escape(category), *counts)
    console.print(table)


def _print_findings(report: "CheckReport", console: "Console") -> None:
    findings = {
        "unreadable files": report.unreadable,
        "image files that belong to no row": report.unmatched,
        "image files in folders that are not part of the dataset": report.unused,
    }
    if report.has_masks:
        findings = {
            "empty masks": report.empty_masks,
            "masks that mark everything or most of a category": report.full_masks,
            "anomalous images without mask": report.unpaired,
            "masks of another size than their image": report.other_size,
            **findings,
        }
    else:
        console.print("no image has a mask, so an evaluation gives no pixel metrics", highlight=False)
    for title, lines in findings.items():
        console.print(f"{len(lines)} {title}", highlight=False)
        for line in lines[:SHOWN]:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        if len(lines) > SHOWN:
            console.print(f"  … and {len(lines) - SHOWN} more", highlight=False)
