# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip convert`: published checkpoints into a folder that `from_pretrained` reads."""

from pathlib import Path
from typing import Annotated

import typer

from ..io.atomic import atomic_folder
from .messages import quiet_transformers
from .options import check_model


def convert(
    clip: Annotated[
        str, typer.Argument(help="OpenAI's CLIP (.pt or .safetensors), or a Hub id or folder.", show_default=False)
    ],
    output_dir: Annotated[Path, typer.Option(help="New or empty folder for the model.", show_default=False)],
    prompts: Annotated[
        Path | None, typer.Option(help="Published prompt file (.pth); without, the prompts are random.")
    ] = None,
    feature_layer: Annotated[
        list[int] | None, typer.Option(help="Vision layer to tap, from 1; repeat for several; default: the last.")
    ] = None,
    dpam_layers: Annotated[int | None, typer.Option(help="Last layers with a local path; default: 19 of 24.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side in pixels; default: up to 518.")] = None,
    prompts_only: Annotated[
        bool, typer.Option("--prompts-only", help="Write the prompts and a reference to the CLIP.")
    ] = False,
    base_model: Annotated[
        str | None, typer.Option(help="Hub id of the CLIP, for --prompts-only; default: known for OpenAI's files.")
    ] = None,
    trust_torchscript: Annotated[
        bool,
        typer.Option("--trust-torchscript", help="Open a TorchScript archive of unknown origin; it can run code."),
    ] = False,
) -> None:
    """Turn OpenAI's CLIP and a published prompt file into a folder that from_pretrained reads.

    Pickles are read with weights_only=True. OpenAI's own files are TorchScript archives, which are opened when their
    SHA-256 is one that OpenAI publishes.
    """
    from ..conversion.original import convert_original_checkpoint
    from ..processing_anomalyclip import AnomalyCLIPProcessor

    if not Path(clip).is_file():
        check_model(clip)
    quiet_transformers()
    with atomic_folder(output_dir) as folder:
        model = convert_original_checkpoint(
            clip,
            prompts,
            feature_layers=feature_layer or None,
            dpam_layers=dpam_layers,
            image_size=image_size,
            trust_torchscript=trust_torchscript,
        )
        model.save_pretrained(folder, prompts_only=prompts_only, base_model_name_or_path=base_model)
        AnomalyCLIPProcessor.from_config(model.config).save_pretrained(folder)
    typer.echo(f'Written to {output_dir}; load it with AnomalyCLIPModel.from_pretrained("{output_dir}").')
