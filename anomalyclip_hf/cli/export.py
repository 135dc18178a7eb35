# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip export`: write a model for another runtime."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .messages import quiet_transformers
from .options import check_model


class Target(StrEnum):
    """What to export to."""

    onnx = "onnx"
    openvino = "openvino"


class Precision(StrEnum):
    """Precision of weights and layers."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


def export(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model.", show_default=False)],
    output_dir: Annotated[Path, typer.Option(help="New or empty folder for the export.", show_default=False)],
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
        typer.Option(help="Layer whose patch features are outputs too, for references; repeat for several."),
    ] = None,
    preprocessing: Annotated[
        bool, typer.Option("--preprocessing", help="Take one uint8 image of any size and resize it in the graph.")
    ] = False,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Take one image at once, not any number.")
    ] = False,
) -> None:
    """Write a model for ONNX Runtime or OpenVINO, and compare the file with the model.

    The folder works as --model of predict, evaluate, calibrate and demo, on machines without PyTorch too. Needs
    `pip install anomalyclip-hf[export]`.
    """
    check_model(model)
    quiet_transformers()

    from ..export.onnx import export_onnx
    from ..export.openvino import export_openvino
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import AnomalyCLIPProcessor

    settings = {} if image_size is None else {"image_size": image_size}
    write = export_onnx if to is Target.onnx else export_openvino
    differences = write(
        AnomalyCLIPModel.from_pretrained(model, **settings),
        output_dir,
        processor=AnomalyCLIPProcessor.from_pretrained(model, **settings),
        precision=precision.value,
        dynamic_batch=not fixed_batch,
        preprocessing=preprocessing,
        calibration_images=calibration_images,
        feature_layers=feature_layer or (),
    )
    typer.echo(f"Written to {output_dir}: {differences}.")
