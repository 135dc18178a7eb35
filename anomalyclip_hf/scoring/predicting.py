# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score the images that a user names and write what is found: what `anomalyclip predict` does."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..data.samples import SampleReader
from ..io.fingerprints import file_state, fingerprint
from ..io.processes import is_distributed, process_state
from ..io.read_ahead import PIXELS_IN_FLIGHT
from .engine import AnomalyResult, AnomalyScorer
from .inputs import InputImage, is_url
from .outputs import COLUMNS, ResultFolder, printable


WRITERS = 2
MAX_WAITING = 16  # results that wait to be written, fewer where they are large; more would only fill memory
MIN_IMAGES_TO_JUDGE = 10
ONE_SIDED = 0.95  # share of images on one side of the threshold from which a note is due


def predict_images(
    scorer: AnomalyScorer,
    images: Sequence[InputImage],
    results: ResultFolder,
    *,
    on_error: str = "skip",
    overwrite: bool = False,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Score images, write what is asked for of each, and add them to the tables.

    An image is passed over if its results are there and its file, the model and all settings are as they were, so a
    run that was stopped goes on where it was. Several processes, started by `torchrun` or `accelerate launch`, share
    the images.

    Args:
        scorer ([`AnomalyScorer`]): The engine.
        images (`Sequence[InputImage]`): From [`find_images`].
        results ([`ResultFolder`]): Receives files and rows.
        on_error (`str`, *optional*, defaults to `"skip"`): `"skip"` goes on after an image that cannot be read,
            `"fail"` stops there.
        overwrite (`bool`, *optional*, defaults to `False`): Score images that are done already again.
        on_row (`Callable`, *optional*): Is called with each new row of this process as soon as it is written.

    Returns:
        `list[dict]`: one row per image, in order, those passed over included. An image that cannot be read, or whose
        results would replace a file of the user, has an `error`. Processes other than the first return only their own
        rows.
    """
    state = process_state() if is_distributed() else None
    rank, processes = (0, 1) if state is None else (state.process_index, state.num_processes)
    names = [printable(image.identity) for image in images]
    files = [None if is_url(image.source) else file_state(image.source) for image in images]
    batch = None if scorer.mutual is None else sorted(zip(names, files, strict=True), key=str)
    key = fingerprint(scorer.score_key, scorer.settings, results.settings, batch)
    stems = [results.assign(name, image.relative) for name, image in zip(names, images, strict=True)]
    done = {index for index, name in enumerate(names) if not overwrite and results.is_done(name, files[index], key)}
    results.skipped = len(done)
    own = [index for index in range(len(images)) if index not in done][rank::processes]
    sources = [image.source for image in images]
    marks = [
        {"image": name, "output": stem, "file": file, "key": key}
        for name, stem, file in zip(names, stems, files, strict=True)
    ]
    scored = _score(scorer, results, sources, marks, own)
    finished = {names[index] for index in done}
    try:
        for row in scored:
            finished.add(row["image"])
            on_row(row)
            if row["error"] is not None and on_error == "fail":
                break
    finally:
        scored.close()
        if processes == 1 and results.rows:
            results.compact(names)
    if state is not None:
        state.wait_for_everyone()
        if rank == 0:
            results.compact(names)
            finished = set(names)
    return [results.rows[name] for name in names if name in finished]


def _score(
    scorer: AnomalyScorer,
    results: ResultFolder,
    sources: list[str],
    marks: list[dict[str, Any]],
    indices: list[int],
) -> Generator[dict[str, Any], None, None]:
    """Score images, and write their files and rows in threads while the next batch is scored; rows keep their order.

    `marks` are what the rows of all images say whatever their score; `indices` are the images to score.
    """
    refused = {index: problem for index in indices if (problem := _refusal(results, marks[index]["output"]))}
    readable = [index for index in indices if index not in refused]
    keeps_images = "overlay" in results.kinds
    scored = scorer.score_samples(SampleReader(sources), readable, keeps_images, results.overlay_side)
    waiting: deque[tuple[int, Future[dict[str, Any]]]] = deque()  # with the pixels of each
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="writer") as pool:
        for index in indices:
            problem = refused.get(index)
            result = next(scored) if problem is None else AnomalyResult(index, sources[index], error=problem)
            is_unreadable = result.error is not None  # the caller may stop here, so later images are not written
            pixels = _count_pixels(result)
            while waiting and (is_unreadable or _is_full(waiting, pixels) or waiting[0][1].done()):
                yield waiting.popleft()[1].result()
            waiting.append((pixels, pool.submit(_write, results, result, marks[index], scorer)))
            if is_unreadable:
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()


def _is_full(waiting: Collection[tuple[int, Any]], pixels: int) -> bool:
    """Return whether a result of so many pixels is one too many to wait to be written."""
    return len(waiting) >= MAX_WAITING or sum(others for others, _ in waiting) + pixels > PIXELS_IN_FLIGHT


def _count_pixels(result: AnomalyResult) -> int:
    """Count the pixels that a result holds: those of its map and of its image."""
    map_pixels = 0 if result.anomaly_map is None else result.anomaly_map.size
    return map_pixels + (0 if result.image is None else result.image.width * result.image.height)


def _write(
    results: ResultFolder, result: AnomalyResult, mark: dict[str, Any], scorer: AnomalyScorer
) -> dict[str, Any]:
    row = {**dict.fromkeys(COLUMNS), **mark, "error": result.error}
    if result.size is None or result.score is None:
        earlier = results.rows.get(row["image"])
        row["output"] = earlier and earlier["output"]  # the name stays reserved for this image
    else:
        written = results.save(result, mark["output"], scorer.map_maximum, scorer.pixel_threshold)
        if not results.is_current(mark["image"], mark["file"], mark["key"]):
            results.remove_others(mark["output"], written)
        row |= {
            "score": round(result.score, 6),
            "label": result.label,
            "threshold": scorer.threshold,
            "pixel_threshold": scorer.pixel_threshold,
            "height": result.size[0],
            "width": result.size[1],
            "regions": result.regions,
            "p_value": None if result.p_value is None else round(result.p_value, 6),
            "decision": result.decision,
        }
    results.append(row)
    return row


def describe_skipped(skipped: int, images: int) -> str | None:
    """Say how many images were done already; `None` where none was."""
    return f"skipped {skipped:,} of {images:,} images, which were done already." if skipped else None


def describe_one_sided(rows: Sequence[dict[str, Any]], threshold: float, is_mutual: bool = False) -> str | None:
    """Say that the threshold separates nothing, where nearly all images are on one side of it.

    Args:
        rows (`Sequence[dict]`): Of [`predict_images`].
        threshold (`float`): Score from which an image is called anomalous.
        is_mutual (`bool`, *optional*, defaults to `False`): The images were compared with each other, which
            `calibrate` does not do.

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
    remedy = (
        "go by the order of the scores"
        if is_mutual
        else "compare scores of known normal and anomalous images with `anomalyclip calibrate` and the same options"
    )
    return (
        f"{larger} of {len(scores)} images are {side} at the threshold {threshold:g}; scores range from "
        f"{scores[0]:.3f} to {scores[-1]:.3f}. If that is not expected, {remedy}, or set --threshold."
    )


def describe_untiled(rows: Sequence[dict[str, Any]], scorer: AnomalyScorer) -> str | None:
    """Say that tiles were asked for, but no image is larger than one; `None` where that is not so."""
    sizes = {(row["height"], row["width"]) for row in rows if row["error"] is None}
    tiling, input_size = scorer.tiling, scorer.preprocessing.size
    if tiling is None or not sizes or any(len(tiling.views(size, input_size)) > 1 for size in sizes):
        return None
    return f"no image is larger than a tile of {tiling.tile} pixels, so all were scored as a whole."


def _refusal(results: ResultFolder, stem: str) -> str | None:
    try:
        results.check_free(stem)
    except OSError as error:
        return str(error)
    return None
