# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip export`: write a model for another runtime."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .messages import print_error, quiet_transformers
from .options import RuntimeOption, check_model


class Target(StrEnum):
    """Format of an export."""

    onnx = "onnx"
    openvino = "openvino"
    web = "web"


class Precision(StrEnum):
    """Precision of weights and layers."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


def export(
    output_dir: Annotated[Path, typer.Option(help="New or empty folder for the export.", show_default=False)],
    model: Annotated[
        str,
        typer.Argument(help="Folder or Hub id; without, the demonstration model in the package.", show_default=False),
    ] = "",
    to: Annotated[Target, typer.Option(help="Format of the export.")] = Target.onnx,
    precision: Annotated[
        Precision, typer.Option(help="float32, int8; float16 for ONNX on a GPU, bfloat16 for OpenVINO.")
    ] = Precision.float32,
    image_size: Annotated[
        int | None, typer.Option(help="Side in pixels, a multiple of the patch; default: the model's.")
    ] = None,
    calibration_images: Annotated[
        Path | None, typer.Option(help="Folder of typical images: for int8 on OpenVINO, and for the comparison.")
    ] = None,
    feature_layer: Annotated[
        list[int] | None,
        typer.Option(help="Layer whose patch features are outputs too, for references; repeat for more."),
    ] = None,
    preprocessing: Annotated[
        bool,
        typer.Option(
            "--preprocessing",
            help="Take one uint8 image of any size and resize it in the graph, for programs without this package.",
        ),
    ] = False,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Take one image at once, not any number.")
    ] = False,
    runtime_dir: RuntimeOption = None,
) -> None:
    """Write a model for ONNX Runtime, OpenVINO or the browser, and compare the file with the model.

    The folder works as --model of predict, evaluate, calibrate and demo, on machines without PyTorch too; not
    with --preprocessing, which is for programs without this package. With --to web it is also a page that scores
    images in the browser, for any web server. Needs `pip install anomalyclip-hf[export]`.
    """
    from ..scoring.exported import is_exported

    if is_exported(model):
        raise ValueError(f"{model} is an export already; export from the model's own folder.")
    check_model(model)
    if to is Target.web:
        given: dict[str, Any] = {
            "--precision": precision is not Precision.float32,
            "--calibration-images": calibration_images,
        }
        given |= {"--feature-layer": feature_layer, "--preprocessing": preprocessing, "--fixed-batch": fixed_batch}
        _refuse(given, "the page computes in float32 and resizes by itself")
        options: dict[str, Any] = {"runtime_dir": runtime_dir}
    else:
        _refuse({"--runtime-dir": runtime_dir}, "only --to web has a runtime beside the model")
        options = {"precision": precision.value, "dynamic_batch": not fixed_batch, "preprocessing": preprocessing}
        options |= {"calibration_images": calibration_images, "feature_layers": feature_layer or ()}
    _write(model, output_dir, to, image_size, options)


def _refuse(options: dict[str, Any], reason: str) -> None:
    """Refuse options that were given although they do not apply."""
    for name, value in options.items():
        if value:
            raise ValueError(f"{name} does not apply here: {reason}.")


def _write(model: str, output_dir: Path, to: Target, image_size: int | None, options: dict[str, Any]) -> None:
    """Load the model, export it, and say what came of it."""
    quiet_transformers()

    from ..assets import DEFAULT_MODEL
    from ..export.onnx import export_onnx
    from ..export.openvino import export_openvino
    from ..export.web import export_web
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..pipeline_anomaly_detection import DEMONSTRATION_NOTE
    from ..processing_anomalyclip import AnomalyCLIPProcessor

    if not model:
        print_error(DEMONSTRATION_NOTE)
        model = DEFAULT_MODEL
    settings = {} if image_size is None else {"image_size": image_size}
    exporters: dict[Target, Any] = {
        Target.onnx: export_onnx,
        Target.openvino: export_openvino,
        Target.web: export_web,
    }
    differences = exporters[to](
        AnomalyCLIPModel.from_pretrained(model, **settings),
        output_dir,
        processor=AnomalyCLIPProcessor.from_pretrained(model, **settings),
        **options,
    )
    typer.echo(f"Written to {output_dir}: {differences}.")
    if to is Target.web:
        typer.echo(f"Try it with `python -m http.server --directory {output_dir}` at http://localhost:8000.")
