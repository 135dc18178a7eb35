# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The demo: a page on which an image is scored, and its heat map looked at."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..assets import EXAMPLE_IMAGES


if TYPE_CHECKING:
    import gradio


def build_demo(
    model: str | None = None,
    *,
    allow_urls: bool = False,
    examples: str | Path = EXAMPLE_IMAGES,
) -> "gradio.Blocks":
    """Build the page; its `launch()` serves it.

    What visitors send is not trusted: files are limited in size, pixels and formats, requests in number and time; none
    of Gradio's other addresses can be reached, and nothing is fetched for a visitor unless that is switched on.

    Args:
        model (`str`, *optional*): Folder or Hub id; defaults to the demonstration model.
        allow_urls (`bool`, *optional*, defaults to `False`):
            Offer to fetch an image from an address that the visitor gives, public ones only.
        examples (`str` or `Path`, *optional*): Folder of the PNG images that are offered; defaults to the package's.

    Returns:
        `gradio.Blocks`: `launch(server_name=..., server_port=..., share=...)` takes what Gradio's own takes.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If there is no such model.
        ValueError: If the model cannot be read.

    Example:
    ```python
    >>> from anomalyclip_hf.serving.demo import build_demo

    >>> demo = build_demo()
    >>> demo.launch(server_port=7860)  # doctest: +SKIP

    ```
    """
    try:
        from .demo_page import DemoPage
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ImportError("the demo needs Gradio; install it with `pip install anomalyclip-hf[demo]`.") from error
    return DemoPage(model, allow_urls=allow_urls, examples=Path(examples))
