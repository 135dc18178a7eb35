# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip predict`: score images and write their heat maps."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..io.locks import lock_folder
from ..io.processes import is_distributed, process_state
from ..scoring.inputs import describe_other_files, find_images
from ..scoring.outputs import COLUMNS, KINDS, OVERLAY_SIDE, TABLE_NAME, ResultFolder
from .messages import print_error
from .options import (
    MUTUAL_REFERENCES,
    OVERLAP,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    ImageScoreOption,
    ModelOption,
    MutualOption,
    MutualRadiusOption,
    MutualReferencesOption,
    OnError,
    OnErrorOption,
    OverlapOption,
    ReferencesOption,
    Resolution,
    ThresholdOption,
    TileOption,
    ValueRangeOption,
    WindowOption,
    WorkersOption,
    load_scorer,
    parse_value_range,
)


ALL_OUTPUTS = ",".join(KINDS)


class OverlayFormat(StrEnum):
    """File format of overlays: JPEG of quality 90, or PNG."""

    jpg = "jpg"
    png = "png"


class Scale(StrEnum):
    """Scale of the colours in overlays."""

    fixed = "fixed"
    image = "image"


ImagesArgument = Annotated[list[str], typer.Argument(help="Files, folders, globs or URLs.", show_default=False)]
OutputDirOption = Annotated[Path, typer.Option(help="Folder for overlays, maps and scores.csv.", show_default=False)]
PixelThresholdOption = Annotated[
    float | None, typer.Option(help="Map value from which a pixel is anomalous; writes masks and regions.")
]
OutputsOption = Annotated[
    str, typer.Option(help="Files to write for each image: overlay, map, mask, separated by commas, or none.")
]
ResolutionOption = Annotated[
    Resolution, typer.Option(help="Size of maps and of the search for regions: the model's, or the image's.")
]
OverlayFormatOption = Annotated[OverlayFormat, typer.Option(help="File format of the overlays.")]
ScaleOption = Annotated[
    Scale, typer.Option(help="Colours of the overlays: one scale for all images, or up to each image's own peak.")
]
OverlaySizeOption = Annotated[int, typer.Option(min=16, help="Longest side of an overlay, in pixels.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Score images that are done already again.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the scores as JSON instead of a table.")]


def predict(
    images: ImagesArgument,
    output_dir: OutputDirOption,
    model: ModelOption = "",
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    outputs: OutputsOption = ALL_OUTPUTS,
    resolution: ResolutionOption = Resolution.model,
    overlay_format: OverlayFormatOption = OverlayFormat.jpg,
    scale: ScaleOption = Scale.fixed,
    overlay_size: OverlaySizeOption = OVERLAY_SIDE,
    image_score: ImageScoreOption = None,
    references: ReferencesOption = None,
    mutual: MutualOption = False,
    mutual_references: MutualReferencesOption = MUTUAL_REFERENCES,
    mutual_radius: MutualRadiusOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = OVERLAP,
    value_range: ValueRangeOption = None,
    window: WindowOption = None,
    batch_size: BatchSizeOption = 8,
    num_workers: WorkersOption = None,
    backend: BackendOption = None,
    device: DeviceOption = "",
    dtype: DtypeOption = None,
    on_error: OnErrorOption = OnError.skip,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score images and write a heat map of each.

    For each image NAME: NAME_overlay.jpg, NAME_map.npz (float16) and, with --pixel-threshold, NAME_mask.png; for all
    of them scores.csv and scores.jsonl, to which later runs add. A run that was stopped goes on where it was: images
    whose file, model and settings are unchanged are passed over. Where one of these has changed, new results replace
    all earlier ones of the image. Images that cannot be read are named, and the exit code is 2. Under `torchrun` or
    `accelerate launch` the processes share the images.
    """
    kinds = _parse_outputs(outputs)
    found, problems = find_images(images)
    failed = [{**dict.fromkeys(COLUMNS), "image": name, "error": problem} for name, problem in problems.items()]
    if not found or (problems and on_error is OnError.fail):
        _report(failed, [*describe_other_files(images)], "", as_json=False)
        raise typer.Exit(2)
    with lock_folder(output_dir):
        results = ResultFolder(output_dir, kinds, overlay_format.value, overlay_size, scale.value)
        scorer = load_scorer(
            model, device, dtype, threshold=threshold, pixel_threshold=pixel_threshold, batch_size=batch_size,
            num_workers=num_workers, resolution=resolution.value, backend=backend and backend.value,
            value_range=parse_value_range(value_range, window), tile=tile, overlap=overlap, image_score=image_score,
            references=references, mutual=mutual, mutual_references=mutual_references, mutual_radius=mutual_radius,
        )  # fmt: skip
        rows, notes = _score(scorer, found, results, on_error, overwrite)
    if "mask" in kinds and scorer.pixel_threshold is None:
        kinds.remove("mask")
        if outputs != ALL_OUTPUTS:
            notes.append("no masks were written, since there is no pixel threshold; set --pixel-threshold.")
    notes = [*describe_other_files(images), *notes]
    if not is_distributed() or process_state().is_main_process:
        _report([*failed, *rows], notes, _describe_outputs(kinds, output_dir), as_json)
    if failed or any(row["error"] for row in rows):
        raise typer.Exit(2)


def _parse_outputs(outputs: str) -> list[str]:
    """Return the kinds of files to write, each once."""
    kinds = list(dict.fromkeys(kind.strip() for kind in outputs.split(",")))
    if kinds == ["none"]:
        return []
    if not set(kinds) <= set(KINDS):
        raise ValueError(f"--outputs is {outputs!r}; expected {', '.join(KINDS)}, separated by commas, or only none.")
    return kinds


def _describe_outputs(kinds: list[str], output_dir: Path) -> str:
    """Say which files are in the output folder."""
    folder = _escape(str(output_dir))
    if not kinds:
        return f"{TABLE_NAME} is in {folder}"
    return f"{', '.join(f'{kind}s' for kind in kinds).capitalize()} and {TABLE_NAME} are in {folder}"


def _score(
    scorer: Any, found: list[Any], results: ResultFolder, on_error: OnError, overwrite: bool
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """Score the images, and return their rows and what is to be said about all of them."""
    from ..scoring.mutual import BATCH_NOTE
    from ..scoring.predicting import describe_one_sided, describe_skipped, describe_untiled, predict_images

    with _progress_bar(len(found)) as advance:
        rows = predict_images(scorer, found, results, on_error=on_error.value, overwrite=overwrite, on_row=advance)
    one_sided = None if scorer.calibration else describe_one_sided(rows, scorer.threshold, bool(scorer.mutual))
    notes = [describe_skipped(results.skipped, len(found)), one_sided, describe_untiled(rows, scorer)]
    return rows, [*notes, scorer.mutual and BATCH_NOTE]


def _report(rows: list[dict[str, Any]], notes: list[str | None], described: str, as_json: bool) -> None:
    for row in rows:
        if row["error"] is not None:
            print_error(row["error"])
    if as_json:
        print(json.dumps([{name: row[name] for name in COLUMNS} for row in rows], indent=2))
    else:
        _print_table([row for row in rows if row["error"] is None], described)
    for note in filter(None, notes):
        print_error(note)


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[Any], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Scoring", total=total)
        yield lambda row: bar.advance(task)


def _print_table(scored: list[dict[str, Any]], described: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not scored:
        return
    is_calibrated = scored[0]["p_value"] is not None
    title = f"image (threshold {scored[0]['threshold']:.4g})"
    table = Table(title, "score", "label", *(["p-value", "decision"] if is_calibrated else []))
    table.columns[0].overflow = "fold"
    for row in scored:
        more = [f"{row['p_value']:.3f}", row["decision"]] if is_calibrated and row["decision"] else []
        table.add_row(Text(_escape(_short_name(row["image"]))), f"{row['score']:.3f}", row["label"], *more)
    Console().print(table)
    print(described)


def _short_name(name: str) -> str:
    """Return a path below the current folder as users type it."""
    short = os.path.relpath(name) if os.path.isabs(name) else name
    return name if short.startswith("..") else short


def _escape(name: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
