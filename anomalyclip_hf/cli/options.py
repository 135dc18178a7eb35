# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Options that several verbs share."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import print_error, quiet_transformers


if TYPE_CHECKING:
    from ..scoring.engine import AnomalyScorer


class OnError(StrEnum):
    """Reaction to an image that cannot be read."""

    skip = "skip"
    fail = "fail"


class Resolution(StrEnum):
    """Size of anomaly maps."""

    model = "model"
    original = "original"


class BackendName(StrEnum):
    """Runtime of the model."""

    torch = "torch"
    compile = "compile"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class ImageScore(StrEnum):
    """Formula for the score of an image."""

    paper = "paper"
    fusion = "fusion"
    top1 = "top1%"


class Dtype(StrEnum):
    """Precision of weights and activations; maps are always float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


ModelOption = Annotated[
    str,
    typer.Option(
        help="Folder, Hub id or exported folder; without, the demonstration model in the package.", show_default=False
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images per forward pass.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that read and resize images; default: one less than the processors, up to 8."),
]
BackendOption = Annotated[
    BackendName | None,
    typer.Option(help="compile: compile the model first, for thousands of images. Default: torch, or as exported."),
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Score, 0 to 1, from which an image is anomalous; default: the model's.")
]
ImageScoreOption = Annotated[
    ImageScore | None,
    typer.Option(
        help="The paper's score, the mean of it and the map's maximum, or the mean of the highest 1 % of the map; "
        "default: the model's, which is the paper's."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; default: the first there is.")]
DtypeOption = Annotated[
    Dtype | None, typer.Option(help="Precision to compute in; default: float32. An exported model has its own.")
]
OnErrorOption = Annotated[OnError, typer.Option(help="An image that cannot be read: go on with the rest, or stop.")]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(help="Of a table, OUR column=THEIRS, as image=file; repeat for more.", metavar="OURS=THEIRS"),
]
NormalLabelOption = Annotated[
    list[str] | None,
    typer.Option(help="A further word that means normal, in folders and tables; repeat for more.", metavar="WORD"),
]
EncodingOption = Annotated[
    str | None, typer.Option(help="Encoding of a table; default: UTF-8, UTF-16 or cp1252, detected.")
]
AllowOutsideOption = Annotated[
    bool, typer.Option("--allow-outside", help="Accept paths in a table that lead out of its folder.")
]
RuntimeOption = Annotated[
    Path | None,
    typer.Option(help="For the web page: the npm package onnxruntime-web, .tgz or unpacked; default: npm fetches it."),
]
TileOption = Annotated[
    int | None,
    typer.Option(help="Score tiles of so many pixels too, for small defects in large images.", metavar="PIXELS"),
]
OVERLAP = 0.25
OverlapOption = Annotated[float, typer.Option(help="Part of a tile that the next one shows too, 0 to below 1.")]
ReferencesOption = Annotated[
    Path | None,
    typer.Option(help="Folder with normal images to compare with, or with a memory of them.", metavar="DIR"),
]
MutualOption = Annotated[
    bool, typer.Option("--mutual", help="Compare the images with each other; scores then depend on the batch.")
]
MUTUAL_REFERENCES = 200
MutualReferencesOption = Annotated[
    int, typer.Option(help="With --mutual: images, picked at random, with which all are compared.")
]
MutualRadiusOption = Annotated[
    int | None,
    typer.Option(help="With --mutual: compare patches at most so many rows and columns apart.", metavar="PATCHES"),
]
ValueRangeOption = Annotated[
    str | None,
    typer.Option(
        help="Values of black and white in images with more than 8 bits, such as 0 4095; auto: of each image.",
        metavar="LOW HIGH|auto",
    ),
]
WindowOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="Centre and width of the window of medical images, instead of the file's.", metavar="CENTRE WIDTH"
    ),
]


def parse_columns(pairs: list[str] | None) -> dict[str, str]:
    """Read what --column was given.

    Raises:
        ValueError: naming the pair that has no `=`.
    """
    for pair in pairs or ():
        if "=" not in pair:
            raise ValueError(f"--column {pair}: expected OURS=THEIRS, as image=file.")
    return dict(pair.split("=", 1) for pair in pairs or ())


def dataset_options(
    column: list[str] | None, normal_label: list[str] | None, encoding: str | None, allow_outside: bool
) -> dict[str, Any]:
    """Return the arguments of `load_anomaly_dataset` for what the user has chosen."""
    options = {"columns": parse_columns(column), "normal_labels": tuple(normal_label or ())}
    return options | {"encoding": encoding, "allow_outside": allow_outside}


def join_value_range(arguments: list[str]) -> list[str]:
    """Join the two numbers of `--value-range LOW HIGH` into one argument, since `--value-range auto` has one."""
    joined = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--value-range" and arguments[place + 1 : place + 2] != ["auto"]:
            joined[place + 1 : place + 3] = [" ".join(arguments[place + 1 : place + 3])]
    return joined


def parse_value_range(text: str | None, window: tuple[float, float] | None = None) -> tuple[float, float] | str | None:
    """Read what --value-range or --window was given.

    Raises:
        ValueError: If it is neither `auto` nor two numbers, the first below the second, or both options are given.
    """
    from ..image_processing_anomalyclip import check_value_range

    if window is not None:
        if text is not None or window[1] < 1:
            raise ValueError(
                f"--window {window[0]:g} {window[1]:g}: expected a width of 1 or more and no --value-range."
            )
        middle, half = window[0] - 0.5, max((window[1] - 1) / 2, 0.5)  # as DICOM defines it
        return middle - half, middle + half
    if text is None or text == "auto":
        return text
    try:
        return check_value_range([float(word) for word in text.split()])
    except ValueError as error:
        raise ValueError(f"--value-range {text}: expected LOW HIGH or auto, as --value-range 0 4095.") from error


def check_model(name: str) -> None:
    """Say at once that there is no such folder, before a Hub is asked for it again and again.

    Args:
        name (`str`): Folder or Hub id, or none for the demonstration model.

    Raises:
        OSError: If it is neither a folder nor can be a Hub id.
    """
    if not name or Path(name).is_dir():
        return
    if Path(name).is_file():
        raise NotADirectoryError(f"{name} is a file; expected the folder of a model or its Hub id.")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise FileNotFoundError(f"{name} does not exist; expected the folder of a model, or a Hub id as OWNER/NAME.")


def note_idle_options(settings: Mapping[str, Any]) -> None:
    """Say which of the options that were given do nothing without another.

    Args:
        settings (`Mapping`): Arguments of [`AnomalyScorer`].
    """
    for switch, option, default in (
        ("tile", "overlap", OVERLAP),
        ("mutual", "mutual_references", MUTUAL_REFERENCES),
        ("mutual", "mutual_radius", None),
    ):
        value = settings.get(option, default)
        if value != default and not settings.get(switch):
            print_error(f"--{option.replace('_', '-')} {value:g} has no effect without --{switch}.")


def load_scorer(model: str, device: str, dtype: Dtype | None, **settings: Any) -> "AnomalyScorer":
    """Load the engine for a model, with one clear error for each wrong option.

    Args:
        model (`str`): Folder, Hub id or exported folder; empty for the demonstration model.
        device (`str`): Empty for the device of this process.
        dtype (`Dtype`, *optional*): Precision to compute in; by default float32, or that of the exported model.
        **settings: Further arguments of [`AnomalyScorer`].

    Raises:
        OSError: If there is no such model, or a file of it is damaged.
        ValueError: If a setting is out of range.
    """
    from ..scoring.engine import AnomalyScorer

    note_idle_options(settings)
    return AnomalyScorer(**model_arguments(model, device, dtype), **settings)


def model_arguments(model: str, device: str, dtype: Dtype | None) -> dict[str, Any]:
    """Return the arguments of [`AnomalyScorer`] for a model, with one clear error for each wrong option.

    Args:
        model (`str`): Folder, Hub id or exported folder; empty for the demonstration model.
        device (`str`): Empty for the device of this process.
        dtype (`Dtype`, *optional*): Precision to compute in; by default float32, or that of the exported model.

    Raises:
        OSError: If there is no such model.
        ValueError: If the device is not available.
    """
    from ..assets import DEFAULT_MODEL
    from ..io.processes import is_distributed, process_state
    from ..scoring.exported import is_exported
    from ..scoring.opening import check_device

    precision = None if dtype is None else dtype.value
    if is_exported(model):
        return {"model": model, "device": device or None, "dtype": precision}
    check_model(model)
    if device:
        check_device(device)
    quiet_transformers()
    if not model and (not is_distributed() or process_state().is_main_process):
        from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE

        print_error(DEMONSTRATION_NOTE)
    chosen = device or (process_state().device if is_distributed() else None)
    return {"model": model or DEFAULT_MODEL, "device": chosen, "dtype": precision or "float32"}
