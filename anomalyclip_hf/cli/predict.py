# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip predict`: score images and draw where they are anomalous."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..io.atomic import atomic_write, remove_leftovers
from .files import find_images, output_stems, result_paths
from .messages import print_error, quiet_transformers
from .options import (
    BatchSizeOption,
    DeviceOption,
    Dtype,
    DtypeOption,
    ModelOption,
    OnError,
    OnErrorOption,
    check_device,
    check_model,
)


if TYPE_CHECKING:
    from PIL import Image

SCORE_COLUMNS = ("image", "score", "label", "height", "width", "regions", "error")
MAX_BATCH_PIXELS = 50_000_000  # as read, for large images are kept, with their maps, until their batch is written


def predict(
    images: Annotated[list[str], typer.Argument(help="Files, folders, globs or URLs.", show_default=False)],
    output_dir: Annotated[Path, typer.Option(help="Where overlays, maps and scores.csv go.", show_default=False)],
    model: ModelOption = "",
    threshold: Annotated[
        float | None, typer.Option(help="Score, 0 to 1, from which an image is anomalous; default: the model's.")
    ] = None,
    pixel_threshold: Annotated[
        float | None, typer.Option(help="Map value from which a pixel is; gives masks and regions.")
    ] = None,
    batch_size: BatchSizeOption = 8,
    device: DeviceOption = "",
    dtype: DtypeOption = Dtype.float32,
    on_error: OnErrorOption = OnError.skip,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON instead of a table.")] = False,
) -> None:
    """Score images and write a heat map of each.

    Per image: NAME_overlay.png and NAME_map.tiff (float32, one value per pixel), with --pixel-threshold NAME_mask.png;
    and one scores.csv. An image that cannot be read is named in one line, and the exit code is 2.
    """
    sources, problems = find_images(images)
    rows = [_failed(name, print_error(problem)) for name, problem in problems.items()]
    if not sources or (problems and on_error is OnError.fail):
        raise typer.Exit(2)
    stems = output_stems(sources)
    _make_folder(output_dir)
    earlier = _earlier_rows(output_dir / "scores.csv")
    pipe = _load_pipeline(model, device, dtype, threshold, pixel_threshold)
    place = {source: number for number, source in enumerate([*problems, *sources])}
    try:
        for row in _with_progress(_score(pipe, sources, stems, output_dir, batch_size, on_error), len(sources)):
            rows.append(row)
    finally:
        rows.sort(key=lambda row: place[row["image"]])
        if len(rows) > len(problems):
            _write_scores(rows, earlier, list(place), output_dir / "scores.csv")
    print(json.dumps(rows, indent=2)) if as_json else _print_table(rows, output_dir)
    if any(row["error"] for row in rows):
        raise typer.Exit(2)


def _make_folder(output_dir: Path) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_dir).close()  # before a model is loaded for nothing
    except OSError as error:
        raise OSError(
            f"--output-dir {output_dir} cannot be written to ({error.strerror}); choose another folder."
        ) from error
    remove_leftovers(output_dir)


def _earlier_rows(scores: Path) -> list[dict[str, Any]]:
    if not scores.exists():
        return []
    with suppress(csv.Error), scores.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) == SCORE_COLUMNS:
            return [{name: row[name] for name in SCORE_COLUMNS} for row in reader]
    raise FileExistsError(f"{scores} is there and no table of an earlier run; choose another --output-dir.")


def _load_pipeline(
    model: str, device: str, dtype: Dtype, threshold: float | None, pixel_threshold: float | None
) -> Any:
    from .. import register
    from ..assets import DEFAULT_MODEL, DEFAULT_MODEL_NOTE
    from ..pipeline_anomaly_detection import load_pipeline

    check_model(model)
    check_device(device)
    quiet_transformers()
    register()
    if not model:
        print(DEFAULT_MODEL_NOTE, file=sys.stderr)
    return load_pipeline(
        model or DEFAULT_MODEL,
        device=device or None,
        dtype=dtype.value,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
    )


def _score(
    pipe: Any, sources: list[str], stems: dict[str, str], output_dir: Path, batch_size: int, on_error: OnError
) -> Iterator[dict[str, Any]]:
    """Read, score and write batch after batch; one row per image, in order within what could be read."""
    batch: list[tuple[str, Image.Image]] = []
    for source in sources:
        try:
            result_paths(output_dir / stems[source])  # before the work is done
            batch.append((source, _read(source)))
        except (OSError, ValueError) as error:
            yield _failed(source, print_error(error))
            if on_error is OnError.fail:
                break
        if len(batch) == batch_size or sum(picture.width * picture.height for _, picture in batch) > MAX_BATCH_PIXELS:
            yield from _score_batch(pipe, batch, stems, output_dir)
            batch = []
    if batch:
        yield from _score_batch(pipe, batch, stems, output_dir)


def _failed(source: str, problem: str) -> dict[str, Any]:
    return {**dict.fromkeys(SCORE_COLUMNS), "image": source, "error": problem}


def _read(source: str) -> "Image.Image":
    from ..image_processing_anomalyclip import load_image

    return load_image(source)


def _score_batch(
    pipe: Any, batch: list[tuple[str, "Image.Image"]], stems: dict[str, str], output_dir: Path
) -> Iterator[dict[str, Any]]:
    from ..processing_anomalyclip import draw_overlay

    results = pipe([picture for _, picture in batch], batch_size=len(batch))
    for (source, picture), result in zip(batch, results, strict=True):
        paths = result_paths(output_dir / stems[source])
        overlay = draw_overlay(picture, result["anomaly_map"], regions=result["regions"])
        images = {**result, "overlay": overlay}
        with ExitStack() as together:  # an overlay without its map would be taken for a picture of the user's
            for name, path in paths.items():
                if images[name] is not None:
                    images[name].save(together.enter_context(atomic_write(path)))
        yield {
            "image": source,
            "score": round(result["score"], 6),
            "label": result["label"],
            "height": picture.height,
            "width": picture.width,
            "regions": result["regions"],
            "error": None,
        }


def _with_progress(rows: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        rows, description="Scoring", total=total, console=console, transient=True, disable=not console.is_terminal
    )


def _write_scores(rows: list[dict[str, Any]], earlier: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """Write the table; of images that a stopped run has not reached, what an earlier run says of them stays."""
    counted = [
        {**row, "image": _as_written(row["image"]), "regions": None if row["regions"] is None else len(row["regions"])}
        for row in rows
    ]
    place = {_as_written(name): number for number, name in enumerate(names)}
    missing = place.keys() - {row["image"] for row in counted}
    table = counted + [row for row in earlier if row["image"] in missing]
    with (
        atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, SCORE_COLUMNS)
        writer.writeheader()
        writer.writerows(sorted(table, key=lambda row: place[row["image"]]))


def _as_written(name: str) -> str:
    """A name as the table has it, in any locale: its bytes as UTF-8, what is none escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _print_table(rows: list[dict[str, Any]], output_dir: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    scored = [row for row in rows if row["error"] is None]
    if not scored:
        return
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("score", no_wrap=True)
    table.add_column("label", no_wrap=True)
    for row in scored:
        table.add_row(Text(_printable(row["image"])), f"{row['score']:.3f}", row["label"])
    Console().print(table)
    print(f"Heat maps and scores.csv are in {_printable(str(output_dir))}")


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
