# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write what a deployment needs: a Space with the demo or with the page, or the handler of an Inference Endpoint."""

import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from ..assets import DEFAULT_MODEL, EXAMPLE_IMAGES
from ..io.atomic import atomic_folder, atomic_write
from ..loading_anomalyclip import add_code, remove_local_paths
from ..sharing.folders import CheckpointFolder


DISTRIBUTION = "anomalyclip-hf"
PACKAGE = Path(__file__).parents[1]
HANDLER_REQUIREMENTS = ("numpy", "pillow", "safetensors", "scipy", "tifffile", "torch", "transformers")

APP = '''\
"""The demo of anomalyclip_hf as a Gradio Space."""

{imports}from anomalyclip_hf.serving.demo import build_demo


MODEL = {model}

demo = build_demo(MODEL)

if __name__ == "__main__":
    demo.launch()
'''

ABOUT = """\
# Zero-shot anomaly detection

Upload an image of anything. [AnomalyCLIP](https://arxiv.org/abs/2310.18961) scores how likely it is that something is
wrong with it, and shows where.

{model}

To run it on your own machine: `pip install -r requirements.txt gradio=={gradio} && python app.py`

A private model is loaded with the token in the Space's secret `HF_TOKEN`. Uploaded images are limited in size and
deleted within an hour. The demo fetches no URLs.
"""

ABOUT_STATIC = """\
# Zero-shot anomaly detection

[AnomalyCLIP](https://arxiv.org/abs/2310.18961) scores how likely it is that something is wrong in an image, and shows
where. It runs in your browser: images stay on your device.

{model}

The folder works on any web server: `python -m http.server`, then open http://localhost:8000.
"""


def write_space(directory: str | os.PathLike, model: str | os.PathLike | None = None) -> Path:
    """Write a Gradio Space with the demo, ready to be pushed or run with `python app.py`.

    The folder has `app.py`, `requirements.txt`, the card `README.md`, and the source of this package with the sample
    images, since the package is on no index. If anything fails, nothing is left behind.

    Args:
        directory (`str` or `os.PathLike`): New or empty folder.
        model (`str` or `os.PathLike`, *optional*):
            Folder of a model, which is copied to `model/`, or a Hub id, which the Space loads. Defaults to the
            demonstration model, which is part of the package.

    Returns:
        `Path`: The folder.

    Raises:
        FileExistsError: If `directory` is a file or a folder that is not empty.
        ValueError: If `model` is neither a folder with a `config.json` nor a Hub id.
        ImportError: If Gradio is not installed; the card names its version.

    Example:
    ```python
    >>> import tempfile
    >>> from anomalyclip_hf.serving.space import write_space

    >>> folder = write_space(tempfile.mkdtemp())
    >>> sorted(path.name for path in folder.iterdir())
    ['README.md', 'anomalyclip_hf', 'app.py', 'requirements.txt']

    ```
    """
    source = None if model is None else _find_model(model)
    directory, gradio = Path(directory), _gradio_version()
    with atomic_folder(directory) as folder:
        _copy_package(folder / PACKAGE.name, with_model=source is None)
        imports, place = "", repr(source)
        if isinstance(source, Path):
            _copy_model(source, folder / "model")
            imports, place = "from pathlib import Path\n\n", 'str(Path(__file__).parent / "model")'
        (folder / "app.py").write_text(APP.format(imports=imports, model=place))
        (folder / "requirements.txt").write_text("\n".join(_requirements()) + "\n")
        settings = {"sdk": "gradio", "sdk_version": gradio, "python_version": "3.11", "app_file": "app.py"}
        _write_card(folder / "README.md", source, settings, ABOUT.replace("{gradio}", gradio))
    return directory


def write_static_space(
    directory: str | os.PathLike,
    model: str | os.PathLike | None = None,
    runtime_dir: str | os.PathLike | None = None,
) -> Path:
    """Write a static Space with the page of [`export_web`], which computes in the visitor's browser.

    Args:
        directory (`str` or `os.PathLike`): New or empty folder.
        model (`str` or `os.PathLike`, *optional*): Folder or Hub id; defaults to the demonstration model.
        runtime_dir (`str` or `os.PathLike`, *optional*):
            The npm package onnxruntime-web, unpacked or as `.tgz`. Fetched with npm by default.

    Returns:
        `Path`: The folder.

    Raises:
        FileExistsError: If `directory` is a file or a folder that is not empty.
        FileNotFoundError: If ONNX Runtime is neither given nor can be fetched, since npm is not installed.
        ImportError: If a package that exporting needs is not installed.
        ValueError: If `model` is neither a folder with a `config.json` nor a Hub id.
    """
    from ..export.web import export_web
    from ..modeling_anomalyclip import AnomalyCLIPModel
    from ..processing_anomalyclip import AnomalyCLIPProcessor

    source = None if model is None else _find_model(model)
    place = DEFAULT_MODEL if source is None else source
    directory = Path(directory)
    with atomic_folder(directory) as folder:
        export_web(
            AnomalyCLIPModel.from_pretrained(place),
            folder,
            processor=AnomalyCLIPProcessor.from_pretrained(place),
            runtime_dir=runtime_dir,
        )
        # Isolated from other pages, WebAssembly may use several threads.
        headers = {"embedder": "require-corp", "opener": "same-origin", "resource": "cross-origin"}
        headers = {f"cross-origin-{name}-policy": value for name, value in headers.items()}
        settings = {"sdk": "static", "app_file": "index.html", "custom_headers": headers}
        _write_card(folder / "README.md", source, settings, ABOUT_STATIC)
    return directory


def write_handler(directory: str | os.PathLike) -> Path:
    """Add what an Inference Endpoint needs to the folder of a model.

    Writes `handler.py`, its `requirements.txt`, and the model's code, so that the endpoint does not need this package.

    Args:
        directory (`str` or `os.PathLike`): Folder of a saved model.

    Returns:
        `Path`: Of `handler.py`.

    Raises:
        FileNotFoundError: If `directory` has no `config.json`.
    """
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} has no config.json; expected the folder of a saved model.")
    add_code(directory)
    with atomic_write(directory / "requirements.txt") as partial:
        partial.write_text("\n".join(_requirements(HANDLER_REQUIREMENTS)) + "\n")
    with atomic_write(directory / "handler.py") as partial:
        shutil.copyfile(PACKAGE / "serving" / "handler.py", partial)
    return directory / "handler.py"


def _find_model(model: str | os.PathLike) -> Path | str:
    """Return the folder of a model as a path, or its Hub id as it is."""
    if (Path(model) / "config.json").is_file():
        return Path(model)
    if isinstance(model, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists():
        return model
    raise ValueError(f"{model} is neither a folder with a config.json nor a Hub id like OWNER/NAME; check --model.")


def _gradio_version() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError as error:
        raise ImportError("a Space needs Gradio; install it with `pip install anomalyclip-hf[demo]`.") from error


def _copy_package(target: Path, with_model: bool) -> None:
    left_out = ["__pycache__", "*.pyc", ".*", "example_images"] + ([] if with_model else [Path(DEFAULT_MODEL).name])
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns(*left_out))
    if EXAMPLE_IMAGES.is_dir():
        shutil.copytree(EXAMPLE_IMAGES, target / "assets" / "example_images")


def _requirements(names: tuple[str, ...] | None = None) -> list[str]:
    """Return the package's requirements, or those of the given names. Spaces install Gradio by their card."""
    lines = [line for line in requires(DISTRIBUTION) or () if ";" not in line]
    return sorted(line for line in lines if names is None or re.split(r"[^\w.-]", line)[0].lower() in names)


def _copy_model(source: Path, target: Path) -> None:
    """Copy the files of a checkpoint, without training states and without paths of this machine."""
    files = CheckpointFolder(source).files
    target.mkdir()
    for path in files:
        shutil.copyfile(path, target / path.name)
    remove_local_paths(target)


def _write_card(path: Path, source: Path | str | None, settings: dict[str, Any], text: str) -> None:
    """Write the card of a Space; `text` has a place for what is said about the model."""
    from huggingface_hub import SpaceCard, SpaceCardData

    data = SpaceCardData(
        title="Zero-shot anomaly detection",
        **settings,
        license="apache-2.0",
        models=[source] if isinstance(source, str) else None,
        emoji="🔍",
        colorFrom="blue",
        colorTo="red",
        pinned=False,
        short_description="Find what is wrong in an image of anything",
    )
    if isinstance(source, Path):
        about = "The model is part of this repository."
    elif source is None:
        about = "It runs the package's small demonstration model, which shows how to use it. Expect poor scores."
    else:
        about = f"The model is [{source}](https://huggingface.co/{source})."
    SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{text.format(model=about)}").save(path)
