# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Count what is done, for a person, for a machine, and for a later look at the output folder."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from .manifest import read_index
from .scoring import PartReport
from .sink import Sink
from .stores import Folder


METRICS_NAME = "metrics.json"
RUNS = "_runs"  # Parquet readers pass over names that begin with an underscore
SECONDS_BETWEEN_WRITES = 5.0
SECONDS_BETWEEN_UPDATES = 1.0


@dataclass
class RunStatus:
    """Hold how far a run is.

    Args:
        run (`str`): Its name.
        images (`int`): Images of the run.
        done (`int`): Images with a row.
        in_progress (`int`): Images of this process that are scored and not yet written.
        errors (`int`): Of those with a row, images that could not be read.
        parts (`int`): Parts of the run.
        parts_done (`int`): Of these, parts that are written.
        rate (`float`): Images a second, of the last or current process.
        seconds_left (`float`, *optional*): At this rate; `None` while nothing is known.
        seconds (`dict[str, float]`): Time of all workers by stage: `read`, `score`, `write`.
        workers (`int`): Processes that have reported a part.
        updated (`float`): Unix time of the last report; 0 without one.
    """

    run: str
    images: int = 0
    done: int = 0
    in_progress: int = 0
    errors: int = 0
    parts: int = 0
    parts_done: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    updated: float = 0.0

    @property
    def left(self) -> int:
        """Images without a row."""
        return self.images - self.done

    def describe(self) -> str:
        """Return one line for a person."""
        words = [f"{self.done:,} of {self.images:,} images done, {self.errors:,} with errors, {self.left:,} left"]
        words += [f"{self.rate:,.1f} images/s"] if self.rate else []
        if self.left and self.seconds_left is not None:
            words.append(f"{timedelta(seconds=round(self.seconds_left))} to go")
        total = sum(self.seconds.values())
        if total:
            words.append(", ".join(f"{stage} {share / total:.0%}" for stage, share in self.seconds.items()))
        return "; ".join(words)


class Progress:
    """Add up the reports of the workers, and keep the metrics file of the run up to date.

    Args:
        status ([`RunStatus`]): What earlier runs have done.
        folder (`Folder`): Of the run; receives `metrics.json`.
        on_status (`Callable[[RunStatus], None]`, *optional*): Is called after each report.
    """

    def __init__(self, status: RunStatus, folder: Folder, on_status: Callable[[RunStatus], None] | None = None):
        self.status, self.on_status = status, on_status
        self.folder = Folder(folder.url, patience=0)  # a missed update is no reason to wait
        self.start = time.monotonic()
        self.before = status.done
        self._is_idle = not status.left
        self.reused = 0
        self.failures: list[str] = []
        self._workers: set[str] = set()
        self._written = self._shown = 0.0
        self.publish()

    def add(self, report: PartReport) -> None:
        """Add the report of a part."""
        status = self.status
        if report.failure is not None:
            self.failures.append(report.failure)
        if report.images:
            status.done += report.images
            status.parts_done += 1
        status.errors += report.errors
        status.in_progress = 0
        self.reused += report.reused
        self._workers.add(report.worker)
        for stage, seconds in report.seconds.items():
            status.seconds[stage] = status.seconds.get(stage, 0.0) + seconds
        self.publish()

    def count_image(self) -> None:
        """Note that this process has scored another image of a part."""
        self.status.in_progress += 1
        if time.monotonic() - self._shown > SECONDS_BETWEEN_UPDATES:
            self.publish()

    def publish(self, is_last: bool = False) -> None:
        """Tell the caller, and from time to time the metrics file."""
        status, now = self.status, time.monotonic()
        self._shown = now
        status.rate = (status.done + status.in_progress - self.before) / max(now - self.start, 1e-6)
        status.seconds_left = status.left / status.rate if status.rate else None
        status.workers, status.updated = len(self._workers), time.time()
        if self.on_status is not None:
            self.on_status(status)
        if self._is_idle:
            return  # the file tells of the run that has scored
        if is_last or now - self._written > SECONDS_BETWEEN_WRITES:
            self._written = now
            try:
                self.folder.write(METRICS_NAME, json.dumps(as_json(status)).encode())
            except OSError:
                return  # the next one may arrive


def as_json(status: RunStatus) -> dict[str, Any]:
    """Return a status ready for JSON."""
    return {**asdict(status), "left": status.left}


def read_status(output_dir: str, run: str | None = None) -> list[RunStatus]:
    """Look at an output folder: what is done, failed and left of each run, whoever is working on it.

    Args:
        output_dir (`str`): Path or URL, as `score_dataset` was given.
        run (`str`, *optional*): Only this run.

    Returns:
        `list[RunStatus]`: one per run.

    Raises:
        FileNotFoundError: If there is no run.
    """
    output = Folder(output_dir, patience=5)
    names = sorted({name.split("/")[0] for name in (output / RUNS).files("run.json")})
    wanted = [name for name in names if run in (None, name)]
    if not wanted:
        runs = f"; it has the runs {', '.join(names)}" if names else ""
        raise FileNotFoundError(f"{output_dir} has no run{f' {run!r}' if run else ''} of `anomalyclip score`{runs}.")
    return [_read_run(output, name) for name in wanted]


def _read_run(output: Folder, name: str) -> RunStatus:
    folder, sink = output / RUNS / name, Sink(output, name)
    status = RunStatus(name)
    if folder.exists(METRICS_NAME):
        values = json.loads(folder.read(METRICS_NAME))
        status = RunStatus(**{key: value for key, value in values.items() if key != "left"})
    try:
        parts = read_index(folder / "manifest")
    except FileNotFoundError:
        return status  # the images are being listed
    expected = {sink.path(part) for part in parts}
    counts = sink.count(sink.written() & expected)
    status.images, status.parts = sum(part.images for part in parts), len(parts)
    status.done, status.parts_done = sum(images for images, _ in counts.values()), len(counts)
    status.errors = sum(errors for _, errors in counts.values())
    status.seconds_left = status.left / status.rate if status.rate else None
    return status
