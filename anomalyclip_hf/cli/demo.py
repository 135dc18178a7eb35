# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""`anomalyclip demo`: the demo's page on this machine."""

import sys
from typing import Annotated

import typer

from .messages import quiet_transformers
from .options import ModelOption, check_model


def demo(
    model: ModelOption = "",
    host: Annotated[str, typer.Option(help="Address to serve on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Let anybody in, by a public address of Gradio's.")] = False,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch images from public addresses that visitors give.")
    ] = False,
) -> None:
    r"""Serve a page on which an image is scored and its heat map looked at.

    Stop it with Ctrl+C. It needs Gradio: `pip install anomalyclip-hf\[demo]`.
    """
    from ..assets import DEFAULT_MODEL_NOTE
    from ..serving.demo import build_demo

    check_model(model)
    quiet_transformers()
    if not model:
        print(DEFAULT_MODEL_NOTE, file=sys.stderr)
    build_demo(model or None, allow_urls=allow_urls).launch(server_name=host, server_port=port, share=share)
