# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Export a model as a static web page that computes in the visitor's browser."""

import copy
import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..assets import EXAMPLE_IMAGES
from ..io.atomic import atomic_folder
from ..modeling_anomalyclip import AnomalyCLIPModel
from ..pipeline_anomaly_detection import DEMONSTRATION_MODEL, DEMONSTRATION_NOTE
from ..postprocessing_anomalyclip import COLOURS
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..scoring.exported import DESCRIPTION_NAME, MODEL_FILES, ExportedModel
from .checking import Differences
from .folders import fitting_processor, write_folder
from .onnx import write_onnx
from .web_runtime import copy_runtime


PAGE = Path(__file__).with_name("page")
BICUBIC = 3  # Pillow's number; the page resizes in no other way
SMALLEST_WEIGHT = 1024  # numbers; smaller ones take little room


def export_web(
    model: AnomalyCLIPModel,
    path: str | os.PathLike,
    *,
    processor: AnomalyCLIPProcessor | None = None,
    image_size: int | tuple[int, int] | None = None,
    name: str | None = None,
    runtime_dir: str | os.PathLike | None = None,
) -> Differences:
    """Export a static web page that scores images in the browser and sends them nowhere.

    The folder contains the page, the model as `model.onnx` with its description, ONNX Runtime for the browser, and
    sample images. Serve it with any web server. It is an exported model too: `AnomalyScorer(path)` runs it.

    The weights are stored in 16 bits, which halves the file; the browser computes in 32.

    Args:
        model ([`AnomalyCLIPModel`]): The model to export; it is left as it is.
        path (`str` or `os.PathLike`): New or empty folder.
        processor ([`AnomalyCLIPProcessor`], *optional*): Defaults to the one that fits the model's configuration.
        image_size (`int` or `tuple[int, int]`, *optional*): Height and width to which images are resized, in multiples
            of the patch; defaults to the processor's.
        name (`str`, *optional*): Name of the model on the page; defaults to the last part of where it was loaded from.
        runtime_dir (`str` or `os.PathLike`, *optional*):
            The npm package onnxruntime-web, unpacked or as `.tgz`. Fetched with npm by default.

    Returns:
        [`Differences`]: between the file and the model.

    Raises:
        FileExistsError: If the folder is not empty.
        FileNotFoundError: If ONNX Runtime is not given, and npm, which fetches it, is not installed.
        ImportError: If a package that exporting needs is not installed.
        OSError: If npm cannot fetch ONNX Runtime.
        ValueError: If the processor does not resize bicubically, or an argument is out of range.

    Example:
    ```python
    >>> from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, export_web

    >>> model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    >>> export_web(model, "page")  # doctest: +SKIP

    ```
    """
    processor = fitting_processor(model, processor, image_size)
    resample = int(processor.image_processor.resample)
    if resample != BICUBIC:
        raise ValueError(
            f"the processor resizes with resample={resample}; the page resizes with {BICUBIC} (bicubic) only."
        )
    with atomic_folder(Path(path)) as folder:
        runtime = copy_runtime(folder / "runtime", runtime_dir)  # first, since it fails soonest
        differences = write_folder(
            _write_half,
            model,
            folder / "model",
            file_format="onnx",
            precision="float32",
            processor=processor,
            image_size=image_size,
            dynamic_batch=True,
            preprocessing=False,
            calibration_images=None,
            feature_layers=(),
        )
        for file in (folder / "model").iterdir():
            file.rename(folder / file.name)
        (folder / "model").rmdir()
        is_demonstration = Path(model.name_or_path) == DEMONSTRATION_MODEL
        settings = {
            "name": name or ("Demonstration model" if is_demonstration else Path(model.name_or_path).name or "Model"),
            "note": DEMONSTRATION_NOTE if is_demonstration else None,
            "colours": COLOURS.astype(int).tolist(),
            "runtime": runtime,
            "samples": _copy_samples(folder / "samples"),
        }
        _write_page(folder, settings)
    return differences


def _write_half(
    model: AnomalyCLIPModel,
    processor: AnomalyCLIPProcessor,
    exported: ExportedModel,
    folder: Path,
    images: Sequence[Image.Image],
) -> None:
    """Write `model.onnx` with its weights in 16 bits; see `write_onnx`."""
    write_onnx(_round_weights(model), processor, exported, folder, images)
    halve_weights(folder / MODEL_FILES["onnx"])
    exported.precision = "float16"


def _round_weights(model: AnomalyCLIPModel) -> AnomalyCLIPModel:
    """Return a copy with weights rounded to values that 16 bits can store."""
    rounded = copy.deepcopy(model)
    for weight in rounded.clip.vision_model.parameters():
        half = weight.data.half()
        if weight.ndim > 1 and half.isfinite().all():
            weight.data = half.to(weight.dtype)
    return rounded


def halve_weights(path: Path) -> None:
    """Store weights of an ONNX file in 16 bits where that loses nothing; the runtime converts them when it loads it.

    Args:
        path (`Path`): The file, which is replaced.
    """
    import onnx
    from onnx import helper, numpy_helper

    program = onnx.load(path)
    for file in path.parent.glob(f"{path.name}?*"):
        file.unlink()  # weights of a large model; halved they fit into the file itself
    graph = program.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or math.prod(weight.dims) < SMALLEST_WEIGHT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue  # the smoothing, which would lose precision
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    for entry in program.metadata_props:
        if entry.key == "precision":
            entry.value = "float16"
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(program, path)


def _copy_samples(folder: Path) -> list[str]:
    """Copy the sample images, if the package was installed with them; return their paths on the page."""
    paths = sorted(EXAMPLE_IMAGES.glob("*.png")) if EXAMPLE_IMAGES.is_dir() else []
    if paths:
        folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return [f"{folder.name}/{path.name}" for path in paths]


def _write_page(folder: Path, settings: dict[str, Any]) -> None:
    """Write the page's own files; the service worker gets a list of all files and a digest of their content."""
    for source in sorted(PAGE.iterdir()):
        shutil.copyfile(source, folder / source.name)
    (folder / "page.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    worker = folder / "service_worker.js"
    kept = [file for file in sorted(folder.rglob("*")) if file.is_file() and _is_kept(file, worker)]
    digest = hashlib.sha256()
    for file in kept:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    names = ["./", *(file.relative_to(folder).as_posix() for file in kept)]
    head = f'const VERSION = "anomalyclip-{digest.hexdigest()[:16]}";\nconst FILES = {json.dumps(names)};\n'
    worker.write_text(head + worker.read_text(encoding="utf-8"), encoding="utf-8")


def _is_kept(file: Path, worker: Path) -> bool:
    """Return whether a visitor needs a file: of the JSON files only those that the page reads."""
    return file != worker and (file.suffix != ".json" or file.name in (DESCRIPTION_NAME, "page.json"))
