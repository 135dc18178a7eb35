# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip score`: score millions of images into Parquet, on one machine or on a Ray cluster."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import print_error
from .options import (
    OVERLAP,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    ImageScoreOption,
    ModelOption,
    OverlapOption,
    ReferencesOption,
    ThresholdOption,
    TileOption,
    ValueRangeOption,
    WindowOption,
    WorkersOption,
    model_arguments,
    note_idle_options,
    parse_value_range,
)


if TYPE_CHECKING:
    from ..bulk.dataset import BulkResult
    from ..bulk.progress import RunStatus


SECONDS_BETWEEN_LINES = 60.0  # of progress in a log

InputsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders, globs, list files (.txt), tables (.csv, .parquet), archives (.tar); also s3://, gs://, hf://.",
        show_default=False,
    ),
]
OutputOption = Annotated[str, typer.Option(help="Folder or URL for the Parquet files.", show_default=False)]
RunOption = Annotated[str, typer.Option(help="Name of the run; runs with other settings stand side by side.")]
RayOption = Annotated[
    str, typer.Option(help="local, auto or the address of a Ray cluster; default: this process.", show_default=False)
]
NumberOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes on the Ray cluster; default: as many as fit.")
]
GpusOption = Annotated[
    float | None, typer.Option(min=0, help="GPUs of each, as 1 or 0.5; default: 1 where there are any.")
]
CpusOption = Annotated[
    float | None, typer.Option(min=0, help="Processors of each: one for the model, others to read.")
]
WaitOption = Annotated[float, typer.Option(min=0, help="Seconds to wait until the workers fit the cluster.")]
PartSizeOption = Annotated[
    int | None,
    typer.Option(min=1, help="Images written together: what a crash can cost; default: 500 on GPUs, 50 on CPUs."),
]
MapsOption = Annotated[bool, typer.Option("--maps", help="Also write anomaly maps, at the model's size.")]
OverlaysOption = Annotated[bool, typer.Option("--overlays", help="Also write overlays, as JPEG.")]
ByFolderOption = Annotated[bool, typer.Option("--by-folder", help="Partition the output by folder, too.")]
ImageColumnOption = Annotated[str | None, typer.Option(help="Column of tables with paths or bytes.")]
RetryOption = Annotated[bool, typer.Option("--retry-errors", help="Read images again that could not be read.")]
PixelThresholdOption = Annotated[
    float | None, typer.Option(help="Map value from which a pixel is anomalous; gives regions and map_area.")
]
PatienceOption = Annotated[float, typer.Option(min=0, help="Seconds for which a failing store is asked again.")]
JsonProgressOption = Annotated[bool, typer.Option("--json-progress", help="Print progress as JSON, one line a part.")]
StatusOption = Annotated[
    str, typer.Option(help="Say what is done, failed and left in this output folder, and exit.", show_default=False)
]


def score(
    inputs: InputsArgument = None,
    output: OutputOption = "",
    model: ModelOption = "",
    run: RunOption = "default",
    ray: RayOption = "",
    workers: NumberOption = None,
    gpus_per_worker: GpusOption = None,
    cpus_per_worker: CpusOption = None,
    wait: WaitOption = 0,
    part_size: PartSizeOption = None,
    maps: MapsOption = False,
    overlays: OverlaysOption = False,
    by_folder: ByFolderOption = False,
    image_column: ImageColumnOption = None,
    retry_errors: RetryOption = False,
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    image_score: ImageScoreOption = None,
    references: ReferencesOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = OVERLAP,
    value_range: ValueRangeOption = None,
    window: WindowOption = None,
    batch_size: BatchSizeOption = 8,
    num_workers: WorkersOption = None,
    backend: BackendOption = None,
    device: DeviceOption = "",
    dtype: DtypeOption = None,
    patience: PatienceOption = 300,
    json_progress: JsonProgressOption = False,
    status: StatusOption = "",
) -> None:
    """Score any number of images into Parquet, each exactly once.

    OUTPUT/scores has a row for each image. Images are scored in parts that are written whole or not at all: after a
    stop, a crash or a lost machine the same command goes on, and does only what is missing. Ctrl+C lets the parts in
    progress finish; a second one stops at once. An image that cannot be read is a row with an error, and the exit code
    is 2.
    """
    if status:
        _print_status(status, json_progress)
        return
    if not inputs or not output:
        raise ValueError("anomalyclip score needs INPUTS and --output; or --status DIR to look at a run.")
    note_idle_options({"tile": tile, "overlap": overlap})
    _score(
        inputs, output, model, device, dtype, json_progress, run=run, ray=ray or None, workers=workers,
        gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker, wait=wait, part_size=part_size, maps=maps,
        overlays=overlays, by_folder=by_folder, image_column=image_column, retry_errors=retry_errors,
        patience=patience, threshold=threshold, pixel_threshold=pixel_threshold, batch_size=batch_size,
        num_workers=num_workers, backend=backend and backend.value, tile=tile, overlap=overlap, window=window,
        value_range=value_range, image_score=image_score, references=references,
    )  # fmt: skip


def _score(
    inputs: list[str],
    output: str,
    model: str,
    device: str,
    dtype: Dtype | None,
    json_progress: bool,
    window: tuple[float, float] | None,
    value_range: str | None,
    **options: Any,
) -> None:
    from ..bulk.dataset import score_dataset

    options |= {**model_arguments(model, device, dtype), "value_range": parse_value_range(value_range, window)}
    with _progress(json_progress) as on_status:
        result = score_dataset(inputs, output, on_status=on_status, **options)
    _report(result, output, json_progress)


def _report(result: "BulkResult", output: str, json_progress: bool) -> None:
    for line in result.notes():
        print_error(line)
    if not json_progress:
        print(f"{result.scored:,} images scored, {result.skipped + result.reused:,} done before; see {output}/scores")
    if result.is_stopped:
        raise typer.Exit(130)
    if result.status.errors:
        raise typer.Exit(2)


def _print_status(output: str, as_json: bool) -> None:
    from ..bulk.progress import as_json as ready
    from ..bulk.progress import read_status

    for status in read_status(output):
        print(json.dumps(ready(status)) if as_json else f"{status.run}: {status.describe()}")


@contextmanager
def _progress(json_progress: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from ..bulk.progress import as_json

    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal or json_progress,
    ) as bar:
        task, next_line = bar.add_task("Listing the images"), time.monotonic() + SECONDS_BETWEEN_LINES

        def show(status: "RunStatus") -> None:
            nonlocal next_line
            if json_progress:
                print(json.dumps(as_json(status)), flush=True)
            elif not console.is_terminal and time.monotonic() >= next_line:
                print(f"anomalyclip: {status.describe()}", file=sys.stderr, flush=True)
                next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            bar.update(
                task, total=status.images, completed=status.done + status.in_progress, description=status.describe()
            )

        yield show
