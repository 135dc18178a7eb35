# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip demo`: serve the demo on this machine."""

from typing import Annotated

import typer

from .messages import quiet_transformers
from .options import (
    ModelOption,
    ReferencesOption,
    TileOption,
    ValueRangeOption,
    WindowOption,
    check_model,
    parse_value_range,
)


def demo(
    model: ModelOption = "",
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Also serve it at a public address of Gradio.")] = False,
    references: ReferencesOption = None,
    tile: TileOption = None,
    value_range: ValueRangeOption = None,
    window: WindowOption = None,
) -> None:
    r"""Serve a page that scores an image and shows its heat map.

    Press Ctrl+C to stop. Needs Gradio: `pip install anomalyclip-hf[demo]`.
    """
    from ..serving.demo import build_demo

    check_model(model)
    quiet_transformers()
    chosen_range = parse_value_range(value_range, window)
    demo_page = build_demo(model or None, value_range=chosen_range, references=references, tile=tile)
    demo_page.launch(server_name=host, server_port=port, share=share)
