# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip evaluate`: compute the paper's metrics of a model on a dataset."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import print_error, warnings_as_lines
from .options import (
    MUTUAL_REFERENCES,
    OVERLAP,
    AllowOutsideOption,
    BackendOption,
    BatchSizeOption,
    ColumnOption,
    DeviceOption,
    DtypeOption,
    EncodingOption,
    ImageScoreOption,
    ModelOption,
    MutualOption,
    MutualRadiusOption,
    MutualReferencesOption,
    NormalLabelOption,
    OnError,
    OnErrorOption,
    OverlapOption,
    ReferencesOption,
    Resolution,
    TileOption,
    ValueRangeOption,
    WorkersOption,
    dataset_options,
    load_scorer,
    parse_value_range,
)


if TYPE_CHECKING:
    from datasets import Dataset

    from ..evaluation.evaluating import EvaluationResult

SHOWN_NOTES = 3
GENERIC_NAMES = ("folder", "csv", "jsonl", "parquet")


class Metric(StrEnum):
    """A column of the table."""

    image_auroc = "image_auroc"
    image_ap = "image_ap"
    image_f1_max = "image_f1_max"
    pixel_auroc = "pixel_auroc"
    pixel_ap = "pixel_ap"
    pixel_f1_max = "pixel_f1_max"
    pixel_aupro = "pixel_aupro"
    pixel_aupro_published = "pixel_aupro_published"


DatasetOption = Annotated[
    str,
    typer.Option(help="A name that `anomalyclip datasets` lists, or csv, jsonl, parquet, hub.", show_default=False),
]
DataDirOption = Annotated[
    str, typer.Option(help="Folder or table of the dataset; for hub the id of the repository.", show_default=False)
]
OutputDirOption = Annotated[
    Path, typer.Option(help="Folder for results.json, scores.parquet and report.html.", show_default=False)
]
MetricsOption = Annotated[
    list[Metric] | None, typer.Option(help="Metric to show; repeat for more; default: all that have a value.")
]
RecallsOption = Annotated[
    list[float] | None,
    typer.Option(
        "--recall",
        help="Share of the anomalous images to find, at which the false-alarm rate is given; "
        "repeat for more; default: 0.9, 0.95 and 1.",
    ),
]
ResolutionOption = Annotated[
    Resolution, typer.Option(help="Compare maps and masks at the model's size, as in the paper, or at the image's.")
]
PaperMasksOption = Annotated[
    bool, typer.Option("--paper-masks", help="Any mask value above 0 is anomalous, as in the paper's code.")
]


def evaluate(
    dataset: DatasetOption,
    data_dir: DataDirOption,
    output_dir: OutputDirOption,
    model: ModelOption = "",
    split: Annotated[str, typer.Option(help="test, or train if there is one.")] = "test",
    category: Annotated[list[str] | None, typer.Option(help="Category to evaluate; repeat for more.")] = None,
    metrics: MetricsOption = None,
    resolution: ResolutionOption = Resolution.model,
    paper_masks: PaperMasksOption = False,
    aupro_limit: Annotated[float, typer.Option(help="False-positive rate up to which AUPRO integrates.")] = 0.3,
    recalls: RecallsOption = None,
    column: ColumnOption = None,
    normal_label: NormalLabelOption = None,
    encoding: EncodingOption = None,
    allow_outside: AllowOutsideOption = False,
    image_score: ImageScoreOption = None,
    references: ReferencesOption = None,
    mutual: MutualOption = False,
    mutual_references: MutualReferencesOption = MUTUAL_REFERENCES,
    mutual_radius: MutualRadiusOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = OVERLAP,
    value_range: ValueRangeOption = None,
    batch_size: BatchSizeOption = 8,
    num_workers: WorkersOption = None,
    device: DeviceOption = "",
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    on_error: OnErrorOption = OnError.skip,
    restart: Annotated[bool, typer.Option("--restart", help="Delete the progress of an interrupted run.")] = False,
) -> None:
    """Evaluate a model on a dataset: a table per category, results.json, scores.parquet and report.html.

    The same command continues an interrupted run. Several processes share the images and give the same metrics as one:
    use `accelerate launch -m anomalyclip_hf.cli evaluate …` or `torchrun`.
    """
    options = dataset_options(column, normal_label, encoding, allow_outside)
    options |= {"mask_rule": "nonzero" if paper_masks else None}
    rows = _skip_unlabelled(load_rows(dataset, data_dir, split, category, options), on_error)
    scorer = load_scorer(
        model, device, dtype, batch_size=batch_size, num_workers=num_workers, tile=tile, overlap=overlap,
        backend=backend, image_score=image_score, value_range=parse_value_range(value_range), references=references,
        mutual=mutual, mutual_references=mutual_references, mutual_radius=mutual_radius,
    )  # fmt: skip

    from ..evaluation.evaluating import evaluate_model
    from ..io.processes import process_state

    result = evaluate_model(
        scorer, rows, output_dir=output_dir, metrics=None if metrics is None else [name.value for name in metrics],
        resolution=resolution.value, aupro_limit=aupro_limit, recalls=recalls, restart=restart,
        on_error="raise" if on_error is OnError.fail else "skip", dataset_name=_dataset_name(dataset, data_dir),
    )  # fmt: skip
    if process_state().is_main_process:
        _print_result(result, output_dir)
    if result.summary["skipped"]:
        raise typer.Exit(2)


def _skip_unlabelled(rows: "Dataset", on_error: OnError) -> "Dataset":
    """Leave out images without a label; what is wrong with them has been said when they were listed."""
    labelled = [index for index, label in enumerate(rows["label"]) if label is not None]
    if on_error is OnError.fail or not labelled or len(labelled) == len(rows):
        return rows
    print_error(f"{len(rows) - len(labelled)} images have no label and are skipped.")
    return rows.select(labelled)


def _dataset_name(name: str, data_dir: str) -> str:
    """Return the name of the folder, table or repository if `name` only says what kind it is."""
    if name == "hub":
        return data_dir
    return Path(data_dir).resolve().name if name in GENERIC_NAMES else name


def load_rows(
    name: str, data_dir: str, split: str, categories: list[str] | None, options: dict[str, Any]
) -> "Dataset":
    """Load the dataset in the main process first, so that the other processes find it in the cache."""
    import datasets

    from ..data.loading import load_anomaly_dataset
    from ..io.processes import process_state

    datasets.disable_progress_bars()
    state, chosen = process_state(), categories or (None,)
    with state.main_process_first(), warnings_as_lines(show=state.is_main_process):
        parts = [load_anomaly_dataset(name, data_dir, split, one, **options) for one in chosen]
    return datasets.concatenate_datasets(parts, info=parts[0].info, split=parts[0].split)


def _print_result(result: "EvaluationResult", output_dir: Path) -> None:
    """Print the table, why values are missing in it, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.tables import TITLES, defined_metrics, result_notes, result_rows
    from ..scoring.mutual import BATCH_NOTE

    console, summary, table = Console(), result.summary, Table()
    asked = summary["settings"]["metrics"]
    columns = defined_metrics(result.metrics, asked)
    table.add_column("category", no_wrap=True)
    for name in columns:
        table.add_column(TITLES[name], justify="right")
    for category, cells in result_rows(result.metrics, columns):
        table.add_row(category, *cells)
    console.print(table)
    notes = result_notes(result.metrics, asked) + summary["notes"][:SHOWN_NOTES]
    if (more := len(summary["notes"]) - SHOWN_NOTES) > 0:
        notes.append(f"{more} more notes about masks are in results.json.")
    if summary["settings"]["mutual_references"]:
        notes.append(BATCH_NOTE)
    for note in notes:
        console.print(note, highlight=False, markup=False)
    if (decisions := summary["decisions"]["all images"]) is not None:
        console.print(_describe_decisions(decisions["best_f1"]), highlight=False)
    for row in summary["skipped"]:
        print_error(f"skipped {row['path']}: {row['error']}")
    console.print(f"Percent, of {summary['images']} images. Report: {output_dir / 'report.html'}", highlight=False)


def _describe_decisions(counts: dict[str, Any]) -> str:
    anomalous = counts["true_positives"] + counts["false_negatives"]
    normal = counts["false_positives"] + counts["true_negatives"]
    return (
        f"At the threshold of the best F1, {counts['threshold']:.4g}: {counts['true_positives']} of {anomalous} "
        f"anomalous images found, {counts['false_positives']} of {normal} normal images called anomalous."
    )
