# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on a dataset: shared among processes, with progress on disk, results and a report."""

import copy
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Value

from ..data.samples import SampleReader
from ..io.atomic import atomic_write
from ..io.locks import lock_folder
from ..io.processes import is_distributed, process_state
from ..io.versions import package_versions
from ..metrics.category import METRICS
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..scoring.engine import RESOLUTIONS, AnomalyScorer
from .counting import Counting
from .decisions import RECALLS, decisions_of
from .progress import Counted, Progress
from .report import write_report
from .tables import TITLES, defined_metrics, result_rows


ON_ERROR = ("skip", "raise")
ROW_TYPES = {"index": "int64", "path": "string", "label": "int64", "category": "string", "defect_type": "string"}
ROW_TYPES |= {"score": "float64", "note": "string", "error": "string"}


@dataclass(repr=False)
class EvaluationResult:
    """Hold the result of [`evaluate_model`].

    Args:
        metrics (`dict`): As returned by [`AnomalyDetectionMetric.compute`]: `image_auroc`, `pixel_aupro`, …, each in
            [0, 1] or `None`; `per_category` and `notes`.
        rows (`list[dict]`): Per image `index`, `path`, `label` (0 normal, 1 anomalous), `category`, `defect_type`,
            `score` in [0, 1], `note` (a problem of its mask) and `error` (why it could not be read).
        summary (`dict`): Content of `results.json`: model, dataset, settings, counts, skipped images, notes, metrics,
            confidence intervals, thresholds of the best F1, decisions there and at the chosen recalls, and versions.
    """

    metrics: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    def __repr__(self) -> str:
        columns = defined_metrics(self.metrics, self.summary["settings"]["metrics"])
        table = [("percent", [TITLES[name] for name in columns]), *result_rows(self.metrics, columns)]
        widths = [len(title) for title in table[0][1]]
        first = max(len(name) for name, _ in table)
        lines = [f"EvaluationResult of {self.summary['images']} images, {len(self.summary['skipped'])} skipped"]
        for name, cells in table:
            lines.append("  ".join([name.ljust(first), *map(str.rjust, cells, widths)]))
        return "\n".join(lines)


def evaluate_model(
    model: AnomalyCLIPModel | AnomalyScorer | str | os.PathLike | None,
    dataset: Any,
    *,
    output_dir: str | os.PathLike | None = None,
    metrics: Sequence[str] | None = None,
    resolution: str = "model",
    batch_size: int = 8,
    num_workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    references: Any = None,
    mask_rule: str | None = None,
    aupro_limit: float = 0.3,
    recalls: Sequence[float] | None = None,
    on_error: str = "skip",
    restart: bool = False,
    dataset_name: str | None = None,
    show_progress: bool = True,
) -> EvaluationResult:
    """Evaluate a model on a dataset, as `anomalyclip evaluate` does.

    Under `torchrun` or `accelerate launch` the processes share the images, and each of them gets the whole result.
    With `output_dir`, progress is saved every 20 seconds: the same call continues an evaluation that was killed.

    Args:
        model ([`AnomalyCLIPModel`], [`AnomalyScorer`], `str` or `os.PathLike`): Model, folder or Hub id of a model, or
            an engine, whose device, precision and batch size are then used. `None` for the demonstration model.
        dataset ([`~datasets.Dataset`]): With columns `image` and `label`, and possibly `mask`, `category`,
            `defect_type` and `path`, as [`load_anomaly_dataset`] returns it; see [`SampleReader`].
        output_dir (`str` or `os.PathLike`, *optional*): Folder for `results.json`, `scores.parquet` and `report.html`.
            By default nothing is written.
        metrics (`Sequence[str]`, *optional*): Metrics to show in the report and in the printed result, such as
            `"image_auroc"`; defaults to all. If none begins with `pixel`, pixels are not counted, which is faster.
        resolution (`str`, *optional*, defaults to `"model"`): Size at which maps and masks are compared: the input
            size of the `"model"`, as in the paper, or the `"original"` size of each image.
        batch_size (`int`, *optional*, defaults to 8): Images per forward pass and process.
        num_workers (`int`, *optional*): Threads that read and resize images; see [`AnomalyScorer`].
        device (`str` or `torch.device`, *optional*): Defaults to the first accelerator, or the CPU.
        dtype (`str` or `torch.dtype`, *optional*): Precision to compute in; defaults to that of the weights.
        references ([`ReferenceMemory`], `str`, `os.PathLike` or sequence, *optional*): Normal images to compare with;
            see [`AnomalyScorer`].
        mask_rule (`str`, *optional*): `"auto"`, `"classes"` or `"nonzero"`; see [`SampleReader`].
        aupro_limit (`float`, *optional*, defaults to 0.3): False-positive rate in (0, 1] up to which AUPRO integrates.
        recalls (`Sequence[float]`, *optional*): Shares of the anomalous images to find, each in (0, 1], at which the
            false-alarm rate is given; defaults to 0.9, 0.95 and 1.
        on_error (`str`, *optional*, defaults to `"skip"`): `"skip"` images that cannot be read, or `"raise"`.
        restart (`bool`, *optional*, defaults to `False`): Delete the progress of an earlier run instead of continuing.
        dataset_name (`str`, *optional*): Name of the dataset in results and report, from the catalogue or any other.
            Defaults to the description in `dataset.info`.
        show_progress (`bool`, *optional*, defaults to `True`): Show a progress bar if standard error is a terminal.

    Returns:
        [`EvaluationResult`]

    Raises:
        ValueError: If an argument is out of range, labels are missing, `output_dir` holds progress of another
            evaluation, the model returns NaN, no image can be read, or one cannot and `on_error` is `"raise"`.
        OSError: If there is no such model, the results cannot be written, or another run writes to `output_dir`.

    Example:
    ```python
    >>> from anomalyclip_hf import DEFAULT_MODEL, evaluate_model, load_anomaly_dataset

    >>> dataset = load_anomaly_dataset("csv", "examples/samples.csv")
    >>> result = evaluate_model(DEFAULT_MODEL, dataset, metrics=["image_auroc", "pixel_auroc"])
    >>> sorted(result.metrics["per_category"])
    ['capsule', 'corrugated', 'foam', 'gear', 'solar_cell']
    >>> len(result.rows), result.rows[0]["path"]
    (10, 'images/capsule.png')

    ```
    """
    names = list(METRICS if metrics is None else metrics)
    _check_arguments(names, resolution, on_error, recalls)
    reader = SampleReader(dataset, mask_rule=mask_rule)
    if unlabelled := sum(label is None for label in reader.labels):
        raise ValueError(f"{unlabelled} images have no label; an evaluation needs one for each. Use predict for them.")
    scorer = _make_scorer(model, device, dtype, batch_size, num_workers, resolution, references)
    counting = Counting(scorer, reader, any(name.startswith("pixel") for name in names), aupro_limit, on_error)
    folder = None if output_dir is None else Path(output_dir)
    settings = {"resolution": resolution, "mask_rule": reader.mask_rule, "aupro_limit": aupro_limit}
    kept = ("dtype", "backend", "tile", "overlap", "image_score", "calibration", "references", "mutual_references")
    settings |= {name: scorer.settings[name] for name in kept} | {"metrics": names}
    description = {"model": scorer.name, "dataset": _describe(dataset, dataset_name), "settings": settings}
    with nullcontext() if folder is None else lock_folder(folder):
        counted = counting.run(folder, restart, show_progress)
        curves = counted.metric.curves()
        summary = _summarise(counted, description, recalls or RECALLS)
        result = EvaluationResult(summary["metrics"], counted.rows, summary)
        if folder is not None and process_state().is_main_process:
            _write(folder, result, curves, scorer, reader)
    return result


def _check_arguments(names: Sequence[str], resolution: str, on_error: str, recalls: Sequence[float] | None) -> None:
    for option, value, allowed in [
        *(("metrics", name, METRICS) for name in names),
        ("resolution", resolution, RESOLUTIONS),
        ("on_error", on_error, ON_ERROR),
    ]:
        if value not in allowed:
            raise ValueError(f"{option} got {value!r}; expected one of {', '.join(allowed)}.")
    if wrong := [recall for recall in recalls or () if not 0 < recall <= 1]:
        raise ValueError(f"recalls holds {wrong[0]!r}; expected shares above 0, up to 1.")


def _make_scorer(
    model: Any, device: Any, dtype: Any, batch_size: int, num_workers: int | None, resolution: str, references: Any
) -> AnomalyScorer:
    if isinstance(model, AnomalyScorer):
        if device is not None or dtype is not None or references is not None:
            raise ValueError("got an AnomalyScorer with device=, dtype= or references=; set them when you create it.")
        scorer = copy.copy(model)  # the caller's keeps its resolution
        scorer.resolution = resolution
        return scorer
    if device is None and is_distributed() and not isinstance(model, AnomalyCLIPModel):
        device = process_state().device
    return AnomalyScorer(
        model,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        num_workers=num_workers,
        resolution=resolution,
        references=references,
    )


def _describe(dataset: Any, name: str | None) -> dict[str, Any]:
    """Return name, split and description of a dataset, as far as they are known."""
    info = getattr(dataset, "info", None)
    description = getattr(info, "description", None) or None
    split = getattr(dataset, "split", None)
    return {
        "name": name or description or getattr(info, "dataset_name", None) or "dataset",
        "split": None if split is None else str(split),
        "description": description,
    }


def _summarise(counted: Counted, description: dict[str, Any], recalls: Sequence[float]) -> dict[str, Any]:
    """Compute the content of `results.json`; resets the metric."""
    scored = [row for row in counted.rows if row["error"] is None]
    anomalous = sum(row["label"] for row in scored)
    metric = counted.metric
    return {
        **description,
        "images": len(scored),
        "normal": len(scored) - anomalous,
        "anomalous": anomalous,
        "skipped": [{"path": row["path"], "error": row["error"]} for row in counted.rows if row["error"]],
        "notes": [row["note"] for row in scored if row["note"]],
        "thresholds": metric.thresholds(),
        "decisions": decisions_of(counted.rows, recalls),
        "confidence_intervals": metric.confidence_intervals(),
        "metrics": metric.compute(),
        "versions": package_versions(),
    }


def _write(folder: Path, result: EvaluationResult, curves: Any, scorer: AnomalyScorer, reader: SampleReader) -> None:
    """Write `results.json`, `scores.parquet` and `report.html`, then delete the progress."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "scores.parquet") as partial:
        features = Features({name: Value(kind) for name, kind in ROW_TYPES.items()})
        Dataset.from_list(result.rows, features=features).to_parquet(partial)
    write_report(folder / "report.html", result.summary, result.rows, curves, scorer, reader)
    with atomic_write(folder / "results.json") as partial:
        partial.write_text(json.dumps(result.summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    Progress(folder / "progress", "").clear()


__all__ = ["EvaluationResult", "evaluate_model"]
