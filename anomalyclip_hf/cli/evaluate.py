# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip evaluate`: the paper's figures of a model on a data set, in one process or many."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import print_error, quiet_transformers
from .options import (
    BatchSizeOption,
    ColumnOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    ModelOption,
    OnError,
    OnErrorOption,
    check_device,
    check_model,
    parse_columns,
)


if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation.scoring import Scorer


class Resolution(StrEnum):
    """Where maps and masks meet."""

    model = "model"
    original = "original"


class Metric(StrEnum):
    """A column of the table."""

    image_auroc = "image_auroc"
    image_ap = "image_ap"
    image_f1_max = "image_f1_max"
    pixel_auroc = "pixel_auroc"
    pixel_ap = "pixel_ap"
    pixel_f1_max = "pixel_f1_max"
    pixel_aupro = "pixel_aupro"
    pixel_aupro_published = "pixel_aupro_published"


DatasetOption = Annotated[
    str,
    typer.Option(help="A name that `anomalyclip datasets` lists; or csv, jsonl, parquet, hub.", show_default=False),
]
DataDirOption = Annotated[
    str, typer.Option(help="Where it was unpacked; for hub the repository's id.", show_default=False)
]
OutputDirOption = Annotated[
    Path, typer.Option(help="Where results.json, scores.parquet and report.html go.", show_default=False)
]
MetricsOption = Annotated[
    list[Metric] | None, typer.Option(help="A column of the table; repeat for more; default: all.")
]
ResolutionOption = Annotated[
    Resolution, typer.Option(help="Compare at the model's size, as the paper does, or the image's.")
]


def evaluate(
    dataset: DatasetOption,
    data_dir: DataDirOption,
    output_dir: OutputDirOption,
    model: ModelOption = "",
    split: Annotated[str, typer.Option(help="test, or train where there is one.")] = "test",
    category: Annotated[list[str] | None, typer.Option(help="Only this one; repeat for more.")] = None,
    metrics: MetricsOption = None,
    resolution: ResolutionOption = Resolution.model,
    paper_masks: Annotated[
        bool, typer.Option("--paper-masks", help="Count any value above 0 of a JPEG mask, as the paper's code does.")
    ] = False,
    aupro_limit: Annotated[float, typer.Option(help="False-positive rate up to which AUPRO integrates.")] = 0.3,
    column: ColumnOption = None,
    batch_size: BatchSizeOption = 8,
    device: DeviceOption = "",
    dtype: DtypeOption = Dtype.float32,
    on_error: OnErrorOption = OnError.skip,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what a stopped run had done.")] = False,
) -> None:
    """Evaluate a model on a data set: a table per category, results.json, scores.parquet and report.html.

    A run that was stopped goes on where it was when the same command is given again. Several processes share the work
    and give the figures of one, under `accelerate launch -m anomalyclip_hf.cli evaluate …` or `torchrun`.
    """
    names = [Metric(name).value for name in metrics or Metric]
    options = {"columns": parse_columns(column)} | ({"mask_rule": "nonzero"} if paper_masks else {})
    rows = load_rows(dataset, data_dir, split, category, options)
    count_pixels = any(name.startswith("pixel") for name in names)
    scorer = load_scorer(model, device, dtype, rows, resolution.value, on_error.value, count_pixels)

    from ..evaluation.evaluating import run, write_results

    evaluation = run(scorer, output_dir, batch_size, aupro_limit, restart)
    if evaluation is None:
        return  # another process writes
    settings = {"resolution": resolution, "paper_masks": paper_masks, "aupro_limit": aupro_limit, "dtype": dtype}
    source = {"name": dataset, "split": split, "description": rows.info.description or data_dir}
    described: dict[str, Any] = {"model": model or "demonstration model", "dataset": source, "settings": settings}
    summary = write_results(output_dir, evaluation, scorer, names, **described)
    print_results(summary, names, output_dir)
    if summary["skipped"]:
        raise typer.Exit(2)


def load_rows(
    name: str, data_dir: str, split: str, categories: list[str] | None, options: dict[str, Any]
) -> "Dataset":
    """Load a data set; the main process first, so that the others find its table in the cache."""
    import datasets

    from ..data.loading import load_anomaly_dataset
    from ..io.processes import process_state

    datasets.disable_progress_bars()
    state = process_state()
    with state.main_process_first(), _warnings_as_lines(show=state.is_main_process):
        if not categories:
            return load_anomaly_dataset(name, data_dir, split, **options)
        parts = [load_anomaly_dataset(name, data_dir, split, category, **options) for category in categories]
    joined = datasets.concatenate_datasets(parts)
    joined.info.description = parts[0].info.description
    return joined


@contextmanager
def _warnings_as_lines(show: bool) -> Iterator[None]:
    """Print each different warning in one line, without the source line that caused it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning):
        if show:
            print_error(message)


def load_scorer(
    model: str, device: str, dtype: Dtype, rows: "Dataset", resolution: str, on_error: str, count_pixels: bool
) -> "Scorer":
    """Load a model and its processor for a data set."""
    import torch

    from ..assets import DEFAULT_MODEL, DEFAULT_MODEL_NOTE
    from ..evaluation.scoring import Scorer
    from ..io.processes import process_state
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import AnomalyCLIPProcessor

    check_model(model)
    check_device(device)
    quiet_transformers()
    if not model and process_state().is_main_process:
        print(DEFAULT_MODEL_NOTE, file=sys.stderr)
    source = model or DEFAULT_MODEL
    loaded = AnomalyCLIPModel.from_pretrained(source, dtype=getattr(torch, dtype.value))
    loaded = loaded.to(device or process_state().device)
    processor = AnomalyCLIPProcessor.from_pretrained(source)
    return Scorer(loaded, processor, rows, resolution, on_error, count_pixels)


def print_results(summary: dict[str, Any], names: list[str], output_dir: Path) -> None:
    """Print the table of the paper, what is missing in it and why, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.report import TITLES, result_notes, result_rows

    table = Table()
    table.add_column("category", no_wrap=True)
    for name in names:
        table.add_column(TITLES[name], justify="right")
    for name, cells in result_rows(summary["metrics"], names):
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    for note in result_notes(summary["metrics"], names):
        console.print(note, highlight=False, markup=False)
    for row in summary["skipped"]:
        print_error(f"skipped {row['path']}: {row['error']}")
    console.print(f"Percent, of {summary['images']} images. Report: {output_dir / 'report.html'}", highlight=False)
