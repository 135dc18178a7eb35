# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score a whole dataset of any size: list, cut into parts, score what is missing, tidy up."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..io.fingerprints import fingerprint
from ..scoring.engine import AnomalyScorer
from .inputs import Listing
from .manifest import Part
from .planning import Plan, claim_run, make_plan
from .progress import RUNS, Progress, RunStatus
from .ray_engine import RayEngine
from .scoring import STOP_NAME, PartReport, PartScorer, WorkerSettings
from .sink import Sink
from .stores import PATIENCE, Folder


PART_SIZE_GPU = 500
PART_SIZE_CPU = 50  # some minutes of work for a large model

logger = logging.getLogger(__name__)


@dataclass
class BulkResult:
    """Hold what [`score_dataset`] has done.

    Args:
        status ([`RunStatus`]): At the end.
        scored (`int`): Images that this call has scored.
        reused (`int`): Images whose earlier row was taken into a new part.
        skipped (`int`): Images whose part was done already.
        duplicates (`int`): Names that led to an image which another name had led to.
        removed (`int`): Parts of earlier lists that were deleted, their images being in other parts or gone.
    """

    status: RunStatus
    scored: int
    reused: int
    skipped: int
    duplicates: int
    removed: int

    @property
    def is_stopped(self) -> bool:
        """Return whether the run was asked to stop before its end."""
        return self.status.left > 0

    def notes(self) -> list[str]:
        """Return what a person has to know, one line each."""
        lines = []
        if self.status.errors:
            lines.append(f"{self.status.errors:,} images could not be read; see the column error.")
        if self.duplicates:
            lines.append(f"{self.duplicates:,} names lead to images that were listed already; each is scored once.")
        if self.removed:
            lines.append(
                f"{self.removed:,} files of earlier results were replaced: images in them have changed or are gone."
            )
        if self.is_stopped:
            lines.append(f"stopped; {self.status.left:,} images are left, and the same command goes on.")
        return lines


def score_dataset(
    inputs: str | os.PathLike | Iterable[str],
    output_dir: str | os.PathLike,
    *,
    model: Any = None,
    run: str = "default",
    ray: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    cpus_per_worker: float | None = None,
    wait: float = 0.0,
    part_size: int | None = None,
    maps: bool = False,
    overlays: bool = False,
    by_folder: bool = False,
    image_column: str | None = None,
    retry_errors: bool = False,
    patience: float = PATIENCE,
    on_status: Callable[[RunStatus], None] | None = None,
    **scorer_settings: Any,
) -> BulkResult:
    """Score any number of images into Parquet files, each image exactly once.

    The images are cut into parts. A part is written whole or not at all, so a run that was stopped, killed or has lost
    machines goes on with the same call. Then only what is missing is done: new images, files that have changed, and
    with `retry_errors` images that could not be read. Images that are gone from the input lose their rows.

    Args:
        inputs (`str` or `Iterable[str]`): Folders, globs, list files, tables, archives; see [`Listing`].
        output_dir (`str` or `os.PathLike`): Path or URL. Receives `scores/run=RUN/…parquet`, and `maps/` and
            `overlays/` where asked for.
        model (`str` or [`AnomalyCLIPModel`], *optional*): As for [`AnomalyScorer`].
        run (`str`, *optional*, defaults to `"default"`): Name of the run, a partition of the output. Runs with other
            settings stand side by side under other names.
        ray (`str`, *optional*): `"local"`, the address of a cluster, or `"auto"`; by default this process scores.
        workers (`int`, *optional*): Processes on the Ray cluster; by default as many as fit.
        gpus_per_worker (`float`, *optional*): GPUs of a worker, as 1 or 0.5; by default 1 where there are GPUs.
        cpus_per_worker (`float`, *optional*): Processors of a worker: one for the model and the others for reading.
        wait (`float`, *optional*, defaults to 0): Seconds to wait until the cluster has room for the workers.
        part_size (`int`, *optional*): Mean number of images of a part: what a crash can cost; by default 500 on GPUs
            and 50 on CPUs.
        maps (`bool`, *optional*, defaults to `False`): Also write anomaly maps (float16, at the model's size).
        overlays (`bool`, *optional*, defaults to `False`): Also write overlays (JPEG).
        by_folder (`bool`, *optional*, defaults to `False`): Partition the output by folder, too.
        image_column (`str`, *optional*): Column of tables with paths or bytes.
        retry_errors (`bool`, *optional*, defaults to `False`): Read images again that could not be read.
        patience (`float`, *optional*, defaults to 300): Seconds for which a failing store is asked again.
        on_status (`Callable[[RunStatus], None]`, *optional*): Is called after each part, and without Ray every
            second.
        **scorer_settings: Further arguments of [`AnomalyScorer`], such as `batch_size`, `threshold`, `references`.

    Returns:
        [`BulkResult`]

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If a setting is out of range, the folder holds this run with other settings, a folder cannot be a
            partition, or the plan does not fit the cluster.
        ImportError: If Ray is asked for and not installed.
        BlockingIOError: If another process works on this run.
        OSError: If results cannot be written; what is written stays, and the same call goes on.

    Example:
    ```python
    >>> import tempfile
    >>> import pyarrow.parquet as pq
    >>> from anomalyclip_hf import DEFAULT_MODEL, score_dataset

    >>> folder = tempfile.mkdtemp()
    >>> result = score_dataset("examples/images", folder, model=DEFAULT_MODEL)
    >>> result.scored, result.status.errors
    (10, 0)
    >>> pq.read_table(f"{folder}/scores").num_rows
    10
    >>> score_dataset("examples/images", folder, model=DEFAULT_MODEL).skipped
    10

    ```
    """
    if part_size is not None and part_size < 1:
        raise ValueError(f"part_size is {part_size}; expected 1 or more.")
    if not run or "/" in run or run.startswith("."):
        raise ValueError(f"run is {run!r}; expected the name of a folder.")
    if scorer_settings.get("mutual"):
        raise ValueError("mutual=True compares all images with each other; score in parts with references= instead.")
    kinds = ("scores", *(("maps",) if maps else ()), *(("overlays",) if overlays else ()))
    output = Folder(os.fspath(output_dir), patience)
    with nullcontext() if ray is None else RayEngine(ray, workers, gpus_per_worker, cpus_per_worker, wait) as engine:
        scorer_settings |= {"model": model, "resolution": "model"}
        here = {} if engine is None else {"device": "cpu"}  # with Ray, the devices are for the workers
        scorer = AnomalyScorer(**{**scorer_settings, **here})
        own = _Run(Sink(output, run, kinds), output / RUNS / run, scorer, scorer_settings)
        with own.folder.lock():
            size = part_size or _default_part_size(scorer, engine)
            plan = own.plan(Listing(inputs, image_column), size, by_folder, retry_errors)
            progress = Progress(plan.status(run), own.folder, on_status)
            own.score(plan, engine, progress)
            removed = 0 if progress.status.left else plan.tidy(own.sink, own.folder)
    scored = progress.status.done - progress.before - progress.reused
    return BulkResult(progress.status, scored, progress.reused, progress.before, plan.duplicates, removed)


def _default_part_size(scorer: AnomalyScorer, engine: RayEngine | None) -> int:
    if engine is not None:
        return PART_SIZE_GPU if engine.gpus else PART_SIZE_CPU
    return PART_SIZE_CPU if scorer.model is None or scorer.model.device.type == "cpu" else PART_SIZE_GPU


@dataclass
class _Run:
    """A run: where its results go, and how it scores."""

    sink: Sink
    folder: Folder
    scorer: AnomalyScorer
    scorer_settings: dict[str, Any]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that rows depend on, ready for JSON."""
        return {**self.scorer.settings, "outputs": list(self.sink.kinds)}

    @cached_property
    def marks(self) -> dict[str, str]:
        """Digests of model and settings, which each row repeats."""
        settings = fingerprint(self.scorer.score_key, sorted(self.settings.items()))
        return {"model": self.scorer.backend.fingerprint[:16], "settings": settings[:16]}

    def plan(self, listing: Listing, part_size: int, by_folder: bool, retry_errors: bool) -> Plan:
        """Check that the run is the same as before, list the images, and find out what is missing."""
        inputs = {"inputs": listing.inputs, "image_column": listing.image_column, "by_folder": by_folder}
        claim_run(self.folder, self.marks, {**inputs, **self.settings}, bool(self.sink.written()))
        return make_plan(self.sink, self.folder, self.marks, listing, part_size, by_folder, retry_errors)

    def score(self, plan: Plan, engine: RayEngine | None, progress: Progress) -> None:
        """Score what is missing; after a failure or a signal, workers end their parts and begin no other.

        Raises:
            OSError: If a part could not be done.
        """
        worker = WorkerSettings(self.sink, self.folder, self.marks, self._worker_settings())
        if engine is None:
            reports = score_here(worker, self.scorer, plan.pending, progress.count_image)
        else:
            reports = engine.score(worker, plan.pending)
        with _stop_on_signal(self.folder) as stop:
            for report in reports:
                progress.add(report)
                if report.failure is not None:
                    stop()
        progress.publish(is_last=True)
        if progress.failures:
            failure = progress.failures[0].rstrip(".")
            raise OSError(f"{failure}. What is written stays; the same command goes on from there.")

    def _worker_settings(self) -> dict[str, Any]:
        """Return arguments for the engine of a worker.

        A model of PyTorch and the memory of reference images travel, so that neither is made or read more than once.
        """
        made = {"references": self.scorer.references}
        if self.scorer.model is not None:
            made |= {"model": self.scorer.model, "processor": self.scorer.processor}
        return {**self.scorer_settings, **made}


def score_here(
    settings: WorkerSettings, scorer: AnomalyScorer, parts: Iterable[Part], on_image: Callable[[], None]
) -> Iterator[PartReport]:
    """Score parts in this process.

    Args:
        settings ([`WorkerSettings`]): Where from and where to.
        scorer ([`AnomalyScorer`]): The engine.
        parts (`Iterable[Part]`): What to score.
        on_image (`Callable`): Is called after each image.
    """
    worker = PartScorer(settings, scorer)
    return (worker.score(part, on_image) for part in parts)


@contextmanager
def _stop_on_signal(folder: Folder) -> Iterator[Callable[[], None]]:
    """Ask all workers to stop when this process is told to; the second signal ends it at once."""
    asked = threading.Event()

    def stop() -> None:
        if not asked.is_set():
            asked.set()
            folder.write(STOP_NAME, b"")

    def handle(number: int, _: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        logger.warning("stopping after the parts in progress; a second signal stops at once.")
        threading.Thread(target=stop).start()  # a handler has to return soon

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["BulkResult", "score_dataset"]
