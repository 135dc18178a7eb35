# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The description of an exported model, `anomalyclip.json`: all that is needed to run it beside its file.

Reading it needs neither PyTorch nor transformers.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..image_processing_anomalyclip import check_value_range
from ..io.atomic import atomic_write
from ..postprocessing_anomalyclip import IMAGE_SCORES, check_calibration, check_thresholds


DESCRIPTION_NAME = "anomalyclip.json"
FORMAT_VERSION = 1
MAX_DESCRIPTION_BYTES = 1_000_000
OPENVINO_METADATA = "model_info"  # where programs of OpenVINO look
MODEL_FILES = {"onnx": "model.onnx", "openvino": "openvino_model.xml"}


@dataclass(kw_only=True)
class ExportedModel:
    """Describe an exported model.

    Args:
        format (`str`): `"onnx"` or `"openvino"`.
        precision (`str`): `"float32"`, `"float16"`, `"bfloat16"` or `"int8"`.
        fingerprint (`str`): Digest of the weights of the model that was exported.
        image_size (`list[int]`): Height and width of the pixels that the graph takes, or resizes to.
        grid (`list[int]`): Rows and columns of the patch maps.
        preprocessing (`dict`): `size`, `mean`, `std`, `resample` and `value_range` of the pixels.
        input (`str`): `"pixel_values"`, float32 `(batch, 3, height, width)`; or `"image"`, uint8
            `(1, height, width, 3)` of any size, which the graph resizes and normalises itself.
        outputs (`list[str]`): `image_scores`, `anomaly_maps`, `patch_maps` and, for references,
            `patch_features_<layer>` and `image_embeds`.
        dynamic_batch (`bool`): Whether the graph takes any number of images at once; else it takes one.
        feature_layers (`list[int]`): Layers whose patch features the graph gives.
        smoothing_sigma (`float`): Standard deviation of the Gaussian that the maps are smoothed with, in pixels.
        map_maximum (`float`): Largest value that a map can have.
        threshold (`float`): Score from which an image is anomalous.
        pixel_threshold (`float`, *optional*): Map value from which a pixel is anomalous.
        labels (`list[str]`): Names of the two classes, normal first, for programs without this package.
        image_score (`str`): What the score of an image is: `"paper"`, `"fusion"` or `"top1%"`; the graph gives the
            first.
        calibration (`dict`, *optional*): Thresholds from known images, see [`Calibration`].
        files (`dict[str, int]`): Name of each file of the graph and its size in bytes.
        versions (`dict[str, str]`): Of the packages that made the export.
        format_version (`int`): Of this description.
    """

    format: str
    precision: str
    fingerprint: str
    image_size: list[int]
    grid: list[int]
    preprocessing: dict[str, Any]
    input: str = "pixel_values"
    outputs: list[str] = field(default_factory=lambda: ["image_scores", "anomaly_maps", "patch_maps"])
    dynamic_batch: bool = True
    feature_layers: list[int] = field(default_factory=list)
    smoothing_sigma: float = 4.0
    map_maximum: float = 1.0
    threshold: float = 0.5
    pixel_threshold: float | None = None
    labels: list[str] = field(default_factory=lambda: ["normal", "anomalous"])
    image_score: str = "paper"
    calibration: dict[str, Any] | None = None
    files: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def metadata(self) -> dict[str, str]:
        """Return what is stored inside the model file: every setting as text, numbers and lists as JSON."""
        settings = asdict(self)
        del settings["files"]  # a file cannot say how long it is
        if self.calibration is not None:  # for programs that read the file alone
            settings["threshold"] = self.calibration["threshold"]
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}

    def save(self, folder: Path) -> None:
        """Write `anomalyclip.json` into a folder."""
        with atomic_write(folder / DESCRIPTION_NAME) as path:
            path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def is_exported(folder: Any) -> bool:
    """Return whether a path is the folder of an exported model."""
    return isinstance(folder, str | os.PathLike) and Path(folder, DESCRIPTION_NAME).is_file()


def read_exported(folder: str | os.PathLike) -> ExportedModel:
    """Read and check the description of an exported model, and that its files are whole.

    Args:
        folder (`str` or `os.PathLike`): With `anomalyclip.json` and the files that it names.

    Returns:
        [`ExportedModel`]

    Raises:
        OSError: If a file is missing or has another size than when it was written.
        ValueError: If the description is damaged, or was written by a later version of this package.
    """
    path = Path(folder, DESCRIPTION_NAME)
    if path.stat().st_size > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; expected the description of an exported model.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); export the model again.") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {version!r}; this version of anomalyclip_hf reads {FORMAT_VERSION}. Export "
            "the model again, or install the version that wrote it."
        )
    known = {entry.name for entry in fields(ExportedModel)}
    try:
        exported = ExportedModel(**{name: value for name, value in content.items() if name in known})
    except TypeError as error:
        raise ValueError(f"{path} is incomplete ({error}); export the model again.") from error
    _check_settings(path, exported)
    _check_files(path, exported)
    return exported


def _check_settings(path: Path, exported: ExportedModel) -> None:
    """Check the settings that scoring relies on, so that the first wrong one is named."""
    layers, pixels = exported.feature_layers, exported.preprocessing
    pixels = pixels if isinstance(pixels, dict) else {}
    outputs = exported.outputs if isinstance(exported.outputs, list) else []
    checks = {
        "precision": (isinstance(exported.precision, str), "its name"),
        "fingerprint": (isinstance(exported.fingerprint, str), "a digest"),
        "dynamic_batch": (isinstance(exported.dynamic_batch, bool), "true or false"),
        "image_size": (_are(exported.image_size, 2, int, above=0), "height and width"),
        "grid": (_are(exported.grid, 2, int, above=0), "rows and columns"),
        "smoothing_sigma": (_are([exported.smoothing_sigma], 1) and exported.smoothing_sigma >= 0, "0 or more"),
        "map_maximum": (_are([exported.map_maximum], 1, above=0), "a number above 0"),
        "threshold": (_are([exported.threshold], 1), "a number from 0 to 1"),
        "input": (exported.input in ("pixel_values", "image"), "pixel_values or image"),
        "outputs": (_are(exported.outputs, None, str), "names"),
        "labels": (_are(exported.labels, 2, str), "two names"),
        "image_score": (exported.image_score in IMAGE_SCORES, " or ".join(IMAGE_SCORES)),
        "feature_layers": (
            _are(layers, None, int) and all(f"patch_features_{layer}" in outputs for layer in layers),
            "the layers of outputs patch_features_LAYER",
        ),
        "preprocessing": (
            pixels.keys() - {"scale", "resample"} == {"size", "mean", "std", "value_range"}
            and pixels["size"] == exported.image_size
            and _are(pixels["mean"], 3)
            and _are(pixels["std"], 3, above=0)
            and _are([pixels.get("scale", 1.0)], 1, above=0)
            and pixels.get("resample", 3) in range(6),
            "size (as image_size), mean, std, scale, resample and value_range",
        ),
    }
    for name, (is_valid, expected) in checks.items():
        if not is_valid:
            raise ValueError(f"{path}: {name} is {getattr(exported, name)!r:.100}; expected {expected}.")
    try:
        check_thresholds(exported.threshold, exported.pixel_threshold, exported.map_maximum)
        check_value_range(pixels["value_range"])
        if exported.calibration is not None:
            check_calibration(exported.calibration)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _are(values: Any, count: int | None, kind: Any = (int, float), above: float = -math.inf) -> bool:
    """Return whether values are a list of so many texts, or finite numbers above a limit."""
    if not isinstance(values, list) or (count is not None and len(values) != count):
        return False
    if any(not isinstance(value, kind) or isinstance(value, bool) for value in values):
        return False
    return kind is str or all(math.isfinite(value) and value > above for value in values)


def _check_files(path: Path, exported: ExportedModel) -> None:
    """Check that the files are there and whole."""
    main = MODEL_FILES.get(exported.format) if isinstance(exported.format, str) else None
    sizes = exported.files if isinstance(exported.files, dict) else {}
    if main not in sizes or not all(isinstance(size, int) for size in sizes.values()):
        raise ValueError(f"{path}: format is {exported.format!r} with files {exported.files!r:.200}; export again.")
    for name, size in sizes.items():
        file = path.parent / name
        if not name or file.name != name:
            raise ValueError(f"{path} names the file {name!r}; expected names of files beside it.")
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; copy the whole folder of the export.")
        if file.stat().st_size != size:
            raise OSError(f"{file} has {file.stat().st_size:,} bytes; expected {size:,}. Copy or export it again.")
