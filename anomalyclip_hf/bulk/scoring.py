# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score one part: what a worker does, on one machine or on many."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ..data.samples import SampleReader
from ..scoring.engine import AnomalyScorer
from ..scoring.outputs import draw_result
from .manifest import Part
from .quarantine import Attempts, find_harmful
from .reading import PartImages
from .sink import Sink, rows_of
from .stores import Folder


MAX_PLAIN_ATTEMPTS = 3  # after which a part's images are tried in a process of their own
STOP_NAME = "stop"  # a file with this name asks all workers to begin no further part


@dataclass
class WorkerSettings:
    """Hold what a worker needs; sent once to each.

    Args:
        sink ([`Sink`]): Where results go.
        folder (`Folder`): Of the run, with its manifest.
        marks (`dict[str, str]`): `model` and `settings`: digests that each row repeats.
        scorer (`dict`): Arguments of [`AnomalyScorer`], with the model.
    """

    sink: Sink
    folder: Folder
    marks: dict[str, str]
    scorer: dict[str, Any] = field(default_factory=dict)


@dataclass
class PartReport:
    """Hold what a worker reports about a part.

    Args:
        id (`str`): Of the part.
        images (`int`): Rows written; 0 if the part was not done.
        errors (`int`): Of these, images that could not be read.
        reused (`int`): Of these, rows of earlier results.
        seconds (`dict[str, float]`): Time of the stages `read`, `score`, `write`.
        failure (`str`, *optional*): Why the part could not be done, in one line.
        worker (`str`): Machine and process.
    """

    id: str
    images: int = 0
    errors: int = 0
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")


class PartScorer:
    """Score parts, one after another, with one model.

    Args:
        settings ([`WorkerSettings`]): Where from, where to, and how.
        scorer ([`AnomalyScorer`], *optional*): The engine; by default it is made from the settings and warmed up.
    """

    def __init__(self, settings: WorkerSettings, scorer: AnomalyScorer | None = None):
        self.settings = settings
        self.scorer = scorer or AnomalyScorer(**settings.scorer)
        height, width = self.scorer.preprocessing.size
        list(self.scorer.score([Image.new("RGB", (width, height))]))  # compilers and caches of the device

    def score(self, part: Part, on_image: Callable[[], None] = lambda: None) -> PartReport:
        """Score a part and write it; what goes wrong with the part as a whole is in the report.

        Args:
            part ([`Part`]): Of the manifest.
            on_image (`Callable`, *optional*): Is called after each image.
        """
        report = PartReport(part.id)
        try:
            if not self.settings.folder.exists(STOP_NAME):
                self._score(part, report, on_image)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            name = getattr(error, "filename", None)
            reason = f"{name}: {error.strerror}" if isinstance(error, OSError) and name and error.strerror else error
            report.images, report.failure = 0, " ".join(str(reason).split()) or type(error).__name__
        return report

    def _score(self, part: Part, report: PartReport, on_image: Callable[[], None]) -> None:
        sink, marks = self.settings.sink, self.settings.marks
        start = time.monotonic()
        items = part.read(self.settings.folder / "manifest")
        earlier = sink.take(part.reuse, items)
        attempts = Attempts(self.settings.folder, part.id)
        images = PartImages([item for item in items if item.name not in earlier])
        if attempts.begin() > MAX_PLAIN_ATTEMPTS:
            images.harmful = find_harmful(images)
        keeps_images = "overlays" in sink.kinds
        results = self.scorer.score_samples(SampleReader(images), keep_images=keeps_images)
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in sink.kinds}
        for item in items:
            found = earlier.get(item.name) or rows_of(
                next(results), item, marks, self.scorer.pixel_threshold, sink.kinds, self._draw
            )
            for kind, row in found.items():
                rows[kind].append(row)
            report.errors += found["scores"]["error"] is not None
            on_image()
        scored = time.monotonic()
        sink.write(sink.path(part), rows)
        attempts.end()
        report.images, report.reused = len(items), len(earlier)
        report.seconds = {"read": images.seconds, "score": scored - start, "write": time.monotonic() - scored}

    def _draw(self, result: Any) -> Image.Image:
        return draw_result(result, self.scorer.map_maximum, self.scorer.pixel_threshold)
