# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""An evaluation from start to end: shared among processes, saved as it goes, written as files."""

import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from datasets import Dataset

from ..io.atomic import atomic_write
from ..io.processes import process_state
from .progress import Progress, evaluation_key
from .report import write_report
from .scoring import Evaluation, Scorer


SECONDS_BETWEEN_SAVES = 20.0
PACKAGES = ("anomalyclip-hf", "transformers", "torch")


def run(
    scorer: Scorer,
    output_dir: Path,
    batch_size: int = 8,
    aupro_limit: float = 0.3,
    restart: bool = False,
    show_progress: bool = True,
) -> Evaluation | None:
    """Score all images of the scorer's data set, or those that an earlier run has left.

    Under `torchrun` or `accelerate launch` the processes share the images.

    Args:
        scorer ([`Scorer`]): Model and data set.
        output_dir (`Path`): Progress is kept in its folder `progress`, until [`write_results`].
        batch_size (`int`, *optional*, defaults to 8): Images per forward pass and process.
        aupro_limit (`float`, *optional*, defaults to 0.3): False-positive rate in (0, 1] up to which AUPRO integrates.
        restart (`bool`, *optional*, defaults to `False`): Forget what an earlier run had done.
        show_progress (`bool`, *optional*, defaults to `True`): Draw a bar on standard error, if that is a terminal.

    Returns:
        [`Evaluation`] of all images in the main process, None in the others.

    Raises:
        ValueError: If progress of another evaluation lies in the folder, the model gives NaN, no image could be read,
            or one could not and the scorer's `on_error` is `"fail"`.
    """
    state = process_state()
    settings = {"resolution": scorer.resolution, "count_pixels": scorer.count_pixels, "aupro_limit": aupro_limit}
    progress = Progress(output_dir / "progress", evaluation_key(scorer, settings))
    if restart and state.is_main_process:
        progress.clear()
    state.wait_for_everyone()
    evaluation = progress.load(aupro_limit)
    remaining = [index for index in range(len(scorer.dataset)) if index not in evaluation.done]
    state.wait_for_everyone()  # nobody writes before all have read
    if not state.is_main_process:
        evaluation, progress.replaced = progress.fresh(aupro_limit), []

    mine = remaining[state.process_index :: state.num_processes]
    _score(scorer, mine, batch_size, evaluation, progress, show_progress and state.is_main_process)
    parts = gather_object([evaluation])
    if not state.is_main_process:
        return None
    for part in parts[1:]:
        evaluation.merge(part)
    evaluation.rows.sort(key=lambda row: row["index"])
    if not len(evaluation.metric):
        first = evaluation.rows[0]["error"] if evaluation.rows else "there are none"
        raise ValueError(f"none of the {len(scorer.dataset)} images could be scored; the first: {first}")
    return evaluation


def _score(
    scorer: Scorer, indices: list[int], batch_size: int, evaluation: Evaluation, progress: Progress, show: bool
) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bar

    saved, console = float("-inf"), Console(stderr=True)
    with Bar(console=console, transient=True, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task("Evaluating", total=len(indices))
        for done in scorer.score(indices, batch_size, evaluation):
            bar.advance(task, done)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                progress.save(evaluation)
                saved = time.monotonic()
    if indices:
        progress.save(evaluation)


def write_results(
    output_dir: Path, evaluation: Evaluation, scorer: Scorer, metrics: list[str], **description: Any
) -> dict[str, Any]:
    """Write `results.json`, `scores.parquet` and `report.html`, then delete the progress.

    Args:
        output_dir (`Path`): Where.
        evaluation ([`Evaluation`]): Of all images.
        scorer ([`Scorer`]): That gave it.
        metrics (`list[str]`): Columns of the report's table; the json has all.
        **description: Entries of `results.json` that say what was evaluated: `model`, `dataset`, `settings`.

    Returns:
        `dict`: what `results.json` holds.
    """
    skipped = [{"path": row["path"], "error": row["error"]} for row in evaluation.rows if row["error"]]
    curves = evaluation.metric.curves()
    summary = {
        **description,
        "images": len(evaluation.rows) - len(skipped),
        "skipped": skipped,
        "metrics": evaluation.metric.compute(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    with atomic_write(output_dir / "scores.parquet") as partial:
        Dataset.from_list(evaluation.rows).remove_columns("index").to_parquet(partial)
    write_report(output_dir / "report.html", summary, metrics, curves, evaluation, scorer)
    with atomic_write(output_dir / "results.json") as partial:
        partial.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Progress(output_dir / "progress", "").clear()
    return summary
