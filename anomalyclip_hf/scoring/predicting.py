# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score the images that a user names and write what is found: what `anomalyclip predict` does."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..data.samples import SampleReader
from ..io.processes import gather_object, is_distributed, process_state
from .engine import AnomalyResult, AnomalyScorer
from .inputs import InputImage
from .outputs import COLUMNS, OVERLAY_SIDE, ResultFolder


MIN_IMAGES_TO_JUDGE = 10
ONE_SIDED = 0.95  # share of images on one side of the threshold from which a note is due


def predict_images(
    scorer: AnomalyScorer,
    images: Sequence[InputImage],
    results: ResultFolder,
    *,
    on_error: str = "skip",
    scale: str = "fixed",
    overlay_side: int = OVERLAY_SIDE,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Score images, write overlay, map and mask of each, and add them to the table.

    Several processes, started by `torchrun` or `accelerate launch`, share the images. What is done when a run is
    stopped is in the table.

    Args:
        scorer ([`AnomalyScorer`]): The engine.
        images (`Sequence[InputImage]`): From [`find_images`].
        results ([`ResultFolder`]): Receives the files and the table.
        on_error (`str`, *optional*, defaults to `"skip"`): `"skip"` goes on after an image that cannot be read,
            `"fail"` stops there.
        scale (`str`, *optional*, defaults to `"fixed"`): See [`draw_result`].
        overlay_side (`int`, *optional*, defaults to 2048): Longest side of an overlay, in pixels.
        on_row (`Callable`, *optional*): Is called with each row of this process as soon as it is done.

    Returns:
        `list[dict]`: one row per image, in order, with the columns of the table. An image that cannot be read, or
        whose results would replace a file of the user, has an `error`. Processes other than the first return only
        their own rows.
    """
    state = process_state() if is_distributed() else None
    rank, processes = (0, 1) if state is None else (state.process_index, state.num_processes)
    rows: list[dict[str, Any]] = []
    try:
        for row in _score(scorer, images, results, range(rank, len(images), processes), scale, overlay_side):
            rows.append(row)
            on_row(row)
            if row["error"] is not None and on_error == "fail":
                break
    finally:
        if processes == 1 and rows:
            results.write_table(rows)
    if processes > 1:
        place = {image.identity: index for index, image in enumerate(images)}
        gathered = sorted(gather_object(rows), key=lambda row: place[row["image"]])
        if rank == 0:
            rows = gathered
            results.write_table(rows)
    return rows


def _score(
    scorer: AnomalyScorer,
    images: Sequence[InputImage],
    results: ResultFolder,
    indices: Sequence[int],
    scale: str,
    overlay_side: int,
) -> Iterator[dict[str, Any]]:
    stems = [results.assign(image.identity, image.relative) for image in images]  # the same in each process
    refused = {index: error for index in indices if (error := _refusal(results, stems[index])) is not None}
    reader = SampleReader([image.source for image in images])
    scored = scorer.score_samples(reader, [index for index in indices if index not in refused], keep_images=True)
    for index in indices:
        error = refused.get(index)
        result = next(scored) if error is None else AnomalyResult(index, images[index].source, error=error)
        if result.error is None:
            results.save(result, stems[index], scorer.processor, scorer.pixel_threshold, scale, overlay_side)
        yield _row(images[index], result, stems[index], scorer)


def describe_one_sided(rows: Sequence[dict[str, Any]], threshold: float) -> str | None:
    """Say that the threshold separates nothing, where nearly all images are on one side of it.

    Args:
        rows (`Sequence[dict]`): Of [`predict_images`].
        threshold (`float`): Score from which an image is called anomalous.

    Returns:
        `str` or `None`: one line with the range of the scores and the remedy.
    """
    scores = sorted(row["score"] for row in rows if row["error"] is None)
    if len(scores) < MIN_IMAGES_TO_JUDGE:
        return None
    anomalous = sum(score >= threshold for score in scores)
    larger, side = max((anomalous, "anomalous"), (len(scores) - anomalous, "normal"))
    if larger < ONE_SIDED * len(scores):
        return None
    return (
        f"{larger} of {len(scores)} images are {side} at the threshold {threshold:g}; scores range from "
        f"{scores[0]:.3f} to {scores[-1]:.3f}. If that is not expected, compare scores of known normal and anomalous "
        "images and set --threshold between them."
    )


def _refusal(results: ResultFolder, stem: str) -> str | None:
    try:
        results.paths(stem)
    except OSError as error:
        return str(error)
    return None


def _row(image: InputImage, result: AnomalyResult, stem: str, scorer: AnomalyScorer) -> dict[str, Any]:
    row = {**dict.fromkeys(COLUMNS), "image": image.identity, "error": result.error}
    if result.size is None or result.score is None:
        return row
    return row | {
        "score": round(result.score, 6),
        "label": result.label,
        "threshold": scorer.threshold,
        "pixel_threshold": scorer.pixel_threshold,
        "height": result.size[0],
        "width": result.size[1],
        "regions": result.regions,
        "output": stem,
    }
