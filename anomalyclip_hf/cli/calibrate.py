# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip calibrate`: choose thresholds from images whose label is known."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..scoring.inputs import find_images
from .evaluate import load_rows
from .messages import print_error, warnings_as_lines
from .options import (
    OVERLAP,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    ImageScoreOption,
    ModelOption,
    OverlapOption,
    ReferencesOption,
    TileOption,
    ValueRangeOption,
    WorkersOption,
    dataset_options,
    load_scorer,
    parse_value_range,
)


if TYPE_CHECKING:
    from ..calibration.thresholds import Calibration


class Method(StrEnum):
    """Method by which a threshold is chosen."""

    conformal = "conformal"
    quantile = "quantile"
    f1 = "f1"


NormalOption = Annotated[
    list[str] | None, typer.Option(help="Normal images: a file, folder or glob; repeat for more.", show_default=False)
]
AnomalousOption = Annotated[
    list[str] | None, typer.Option(help="Anomalous images, for f1 and to measure recall.", show_default=False)
]
MethodOption = Annotated[
    Method,
    typer.Option(
        help="conformal: at most --alpha of new normal images are called anomalous. quantile: the same share of these "
        "images, without a guarantee. f1: the best F1 on labelled images."
    ),
]
OutputDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for a calibrated copy of the model; default: the model's own folder.", show_default=False
    ),
]


def calibrate(
    normal: NormalOption = None,
    anomalous: AnomalousOption = None,
    dataset: Annotated[str | None, typer.Option(help="Labelled dataset in place of --normal; see evaluate.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder or table of the dataset.")] = None,
    split: Annotated[str, typer.Option(help="test, or train if there is one.")] = "test",
    category: Annotated[list[str] | None, typer.Option(help="Category of the dataset; repeat for more.")] = None,
    method: MethodOption = Method.conformal,
    alpha: Annotated[float, typer.Option(help="Largest share of normal images to call anomalous.")] = 0.05,
    review_alpha: Annotated[
        float | None, typer.Option(help="Larger share of normal images that a person may look at.")
    ] = None,
    per_category: Annotated[
        bool, typer.Option("--per-category", help="Also choose thresholds for each category of the dataset.")
    ] = False,
    model: ModelOption = "",
    output_dir: OutputDirOption = None,
    image_score: ImageScoreOption = None,
    references: ReferencesOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = OVERLAP,
    value_range: ValueRangeOption = None,
    batch_size: BatchSizeOption = 8,
    num_workers: WorkersOption = None,
    backend: BackendOption = None,
    device: DeviceOption = "",
    dtype: DtypeOption = None,
) -> None:
    """Choose the thresholds of a model from images whose label is known, and store them beside it.

    From then on predict, evaluate, demo, the pipeline and exports call an image anomalous by these thresholds, and
    give a p-value and a decision: accept, look or reject. Use images that the model was not trained on and that were
    taken like those to come. conformal needs at least 19 normal images at --alpha 0.05, and 99 at 0.01.
    """
    folder = output_dir or _folder_of(model)
    if (dataset is None) == (not normal):
        raise ValueError("expected either --normal with images, or --dataset with --data-dir.")
    if per_category and dataset is None:
        raise ValueError("--per-category needs --dataset; the images of --normal have no categories.")
    images, data = _load_images(normal, anomalous, dataset, data_dir, split, category)
    scorer = load_scorer(
        model, device, dtype, batch_size=batch_size, num_workers=num_workers, backend=backend and backend.value,
        value_range=parse_value_range(value_range), image_score=image_score, tile=tile, overlap=overlap,
        references=references,
    )  # fmt: skip

    from ..calibration.images import calibrate_model, check_folder, store_calibration

    check_folder(folder, scorer)  # before an hour of scoring
    with warnings_as_lines():
        found = calibrate_model(
            scorer, images, method=method.value, alpha=alpha, review_alpha=review_alpha, per_category=per_category,
            data=data,
        )  # fmt: skip
    _print_calibration(found, store_calibration(found, folder, scorer))


def _folder_of(model: str) -> Path:
    if not model or not Path(model).is_dir():
        raise ValueError("--output-dir is missing: only a model in a folder can keep the calibration itself.")
    return Path(model)


def _load_images(
    normal: list[str] | None,
    anomalous: list[str] | None,
    dataset: str | None,
    data_dir: str | None,
    split: str,
    category: list[str] | None,
) -> tuple[Any, str]:
    """Return labelled images, and what they are in words."""
    if dataset is not None:
        if data_dir is None or anomalous:
            raise ValueError("--dataset takes its images from --data-dir, and no --anomalous.")
        rows = load_rows(dataset, data_dir, split, category, dataset_options(None, None, None, False))
        return rows, f"{dataset}, {Path(data_dir).name}, split {split}"
    images = []
    for label, names in enumerate((normal or [], anomalous or [])):
        found, problems = find_images(names)
        if names and not found:
            raise ValueError(" ".join(problems.values()))
        for problem in problems.values():
            print_error(problem)
        images += [{"image": image.source, "label": label} for image in found]
    return images, ", ".join(Path(name).name for name in [*(normal or ()), *(anomalous or ())])


def _print_calibration(calibration: "Calibration", path: Path) -> None:
    from rich.console import Console

    console = Console()
    categories = [
        f"{name}: {part.normal} normal images, anomalous from {part.threshold:.4g} on."
        for name, part in calibration.categories.items()
    ]
    for line in (*calibration.describe(), *categories):
        console.print(line, highlight=False, markup=False)
    console.print(f"Stored in {path}", highlight=False, markup=False, soft_wrap=True)
