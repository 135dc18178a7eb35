# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score the images of a dataset and count them, shared among processes, with progress on disk."""

import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from ..data.samples import SampleReader
from ..io.processes import process_state
from ..metrics import AnomalyDetectionMetric
from ..scoring.engine import AnomalyResult, AnomalyScorer
from .progress import Counted, Progress, evaluation_key


SECONDS_BETWEEN_SAVES = 20.0


class Counting:
    """Score the images of a reader and count them.

    Args:
        scorer ([`AnomalyScorer`]): Scores at the resolution of the evaluation.
        reader ([`SampleReader`]): All images have labels.
        count_pixels (`bool`): Whether maps are counted.
        aupro_limit (`float`): See [`evaluate_model`].
        on_error (`str`): `"skip"` or `"raise"`.
    """

    def __init__(
        self, scorer: AnomalyScorer, reader: SampleReader, count_pixels: bool, aupro_limit: float, on_error: str
    ):
        self.scorer, self.reader, self.count_pixels = scorer, reader, count_pixels
        self.aupro_limit, self.on_error = aupro_limit, on_error
        self.labels, self.categories = reader.labels, reader.categories

    def run(self, output_dir: Path | None, restart: bool, show_progress: bool) -> Counted:
        """Count the images that are left, shared among processes; return the counts of all images."""
        state = process_state()
        counted, progress = Counted(AnomalyDetectionMetric(self.aupro_limit)), None
        remaining = list(range(len(self.reader)))
        if output_dir is not None:
            settings = {"count_pixels": self.count_pixels, "aupro_limit": self.aupro_limit}
            progress = Progress(output_dir / "progress", evaluation_key(self.scorer, self.reader, settings))
            if restart and state.is_main_process:
                progress.clear()
            state.wait_for_everyone()
            earlier = progress.load(self.aupro_limit)
            state.wait_for_everyone()  # nobody writes before all have read
            done = {row["index"] for row in earlier.rows}
            remaining = [index for index in remaining if index not in done]
            if state.is_main_process:
                counted = earlier
            else:
                progress.replaced = []

        mine = remaining[state.process_index :: state.num_processes]
        self._score(mine, counted, progress, show_progress and state.is_main_process)
        whole, *others = gather_object([counted])
        for other in others:
            whole.merge(other)
        whole.rows.sort(key=lambda row: row["index"])
        if not len(whole.metric):
            first = whole.rows[0]["error"] if whole.rows else "the dataset is empty"
            raise ValueError(f"none of the {len(self.reader)} images could be scored; the first: {first}")
        return whole

    def _score(self, indices: list[int], counted: Counted, progress: Progress | None, show: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bar

        saved, console = float("-inf"), Console(stderr=True)
        with Bar(console=console, transient=True, disable=not (show and console.is_terminal)) as bar:
            task = bar.add_task("Evaluating", total=len(indices))
            for result in self.scorer.score_samples(self.reader, indices):
                self._count(result, counted)
                bar.advance(task)
                if progress is not None and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    progress.save(counted)
                    saved = time.monotonic()
        if indices and progress is not None:
            progress.save(counted)

    def _count(self, result: AnomalyResult, counted: Counted) -> None:
        label, category = self.labels[result.index], self.categories[result.index]
        sample = result.sample
        row = {
            "index": result.index,
            "path": result.source,
            "label": label,
            "category": category,
            "defect_type": None if sample is None else sample.defect_type,
            "score": result.score,
            "note": None,
            "error": result.error,
        }
        counted.rows.append(row)
        if result.error is not None and self.on_error == "raise":
            raise ValueError(result.error)
        if sample is None or result.anomaly_map is None:
            return
        image: dict[str, Any] = {"image_score": result.score, "label": label, "category": category}
        if self.count_pixels:
            height, width = result.anomaly_map.shape
            image["mask"] = sample.mask_at((height, width)) if label else None
            image["anomaly_map"] = result.anomaly_map
            if self.scorer.gpu is not None:  # counting there leaves the processor to reading
                image["anomaly_map"] = torch.from_numpy(result.anomaly_map).to(self.scorer.gpu)
            row["note"] = sample.note  # mask_at may have set it
        counted.metric.add(**image)
