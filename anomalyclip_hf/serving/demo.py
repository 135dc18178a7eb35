# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Build the demo: a page that scores an image and shows its heat map."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import EXAMPLE_IMAGES


if TYPE_CHECKING:
    import gradio


def build_demo(
    model: str | None = None,
    *,
    value_range: Any = None,
    references: Any = None,
    tile: int | None = None,
    examples: str | Path = EXAMPLE_IMAGES,
) -> "gradio.Blocks":
    """Build the demo's page; call its `launch()` to serve it.

    The sizes of uploads and images are limited, and the page fetches no URLs.

    Args:
        model (`str`, *optional*): Folder or Hub id; defaults to the demonstration model.
        value_range (`tuple[float, float]` or `"auto"`, *optional*):
            Values of black and white in images with more than 8 bits; overrides the processor's.
        references ([`ReferenceMemory`], `str` or `os.PathLike`, *optional*): Normal images to compare with; see
            [`AnomalyScorer`].
        tile (`int`, *optional*): Score tiles of so many pixels too, for small defects in large images.
        examples (`str` or `Path`, *optional*): Folder of the PNG images to offer; defaults to the package's samples.

    Returns:
        `gradio.Blocks`: Its `launch` takes Gradio's arguments: `server_name`, `server_port`, `share`, ….

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the model does not exist.
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
    return DemoPage(model, value_range=value_range, references=references, tile=tile, examples=Path(examples))
