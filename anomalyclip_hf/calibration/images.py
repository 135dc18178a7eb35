# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Calibrate a model on images, and store the calibration beside it."""

import copy
import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.samples import SampleReader
from ..io.atomic import atomic_folder, atomic_write
from ..scoring.engine import AnomalyScorer
from ..scoring.exported import DESCRIPTION_NAME, is_exported, read_exported
from .calibrating import calibrate, check_arguments, check_images
from .thresholds import Calibration


PROCESSOR_NAME = "processor_config.json"


def calibrate_model(
    model: Any,
    images: Any,
    *,
    method: str = "conformal",
    alpha: float = 0.05,
    review_alpha: float | None = None,
    per_category: bool = False,
    data: str | None = None,
    **settings: Any,
) -> Calibration:
    """Score images and choose thresholds for the model, as `anomalyclip calibrate` does.

    The pixel threshold is chosen from maps at the model's size, or with tiles at the size of the images. Resizing a
    map does not raise its maximum, so the threshold holds at both sizes.

    Args:
        model ([`AnomalyScorer`], [`AnomalyCLIPModel`], `str` or `os.PathLike`): The engine, with the settings with
            which the thresholds will be used, or a model for it.
        images: Images without labels, all normal; or a [`~datasets.Dataset`] or list of dicts with `image`, `label`
            (0 normal, 1 anomalous) and possibly `category`. See [`SampleReader`].
        method (`str`, *optional*, defaults to `"conformal"`): See [`calibrate`].
        alpha (`float`, *optional*, defaults to 0.05): See [`calibrate`].
        review_alpha (`float`, *optional*): See [`calibrate`].
        per_category (`bool`, *optional*, defaults to `False`): Choose thresholds for each category too.
        data (`str`, *optional*): Description of the images, which is stored.
        **settings: Arguments of [`AnomalyScorer`]; not with an engine, which has its own.

    Returns:
        [`Calibration`]: store `calibration.to_dict()` as `processor.calibration`, or call [`store_calibration`].

    Raises:
        ValueError: If there are too few images, an argument is out of range, the model returns NaN, or the scores are
            mutual.
        OSError: If there is no such model.

    Example:
    ```python
    >>> from PIL import Image
    >>> from anomalyclip_hf import DEFAULT_MODEL, calibrate_model

    >>> images = [Image.new("RGB", (64, 64), (level, level, 90)) for level in range(0, 252, 28)]
    >>> calibration = calibrate_model(DEFAULT_MODEL, images, alpha=0.1)
    >>> calibration.normal, calibration.method, 0 < calibration.threshold < 1
    (9, 'conformal', True)

    ```
    """
    check_arguments(method, alpha, review_alpha)
    if isinstance(model, AnomalyScorer) and settings:
        raise ValueError(f"got an AnomalyScorer with {', '.join(settings)}; set them when you create it.")
    scorer = copy.copy(model) if isinstance(model, AnomalyScorer) else AnomalyScorer(model, **settings)
    if scorer.mutual is not None:
        raise ValueError("mutual scores depend on the batch, so a threshold of one batch does not hold for the next.")
    scorer.resolution = "model" if scorer.tiling is None else "original"
    scorer.pixel_threshold = scorer.calibration = None
    reader = SampleReader(images)
    known, categories = _labels(reader), reader.categories
    _check_counts(method, alpha, known, categories if per_category else ())  # before an hour of scoring
    results = list(_score(scorer, reader))
    if not results:
        raise ValueError(f"none of the {len(reader)} images could be scored.")
    indices, scores, maxima, are_references = zip(*results, strict=True)
    found = calibrate(
        scores, method=method, alpha=alpha, review_alpha=review_alpha, map_maxima=maxima, data=data,
        labels=[known[index] for index in indices],
        categories=[categories[index] for index in indices] if per_category else None,
    )  # fmt: skip
    if any(are_references):
        problem = f"{sum(are_references)} of the {len(scores)} images are references too: the guarantee is void."
        warnings.warn(f"{problem} Leave them out.", stacklevel=2)
        found.notes.append(problem)
    return dataclasses.replace(
        found,
        image_score=scorer.image_score,
        fingerprint=scorer.backend.fingerprint,
        settings=scorer.score_settings,
    )


def _check_counts(method: str, alpha: float, labels: Sequence[int], categories: Sequence[str | None]) -> None:
    """Refuse too few images, of all together or of a category."""
    groups = {"": list(labels)}
    for category, label in zip(categories, labels, strict=False):
        if category:
            groups.setdefault(f" of {category}", []).append(label)
    for what, members in groups.items():
        check_images(method, alpha, members.count(0), members.count(1), what)


def _score(scorer: AnomalyScorer, reader: SampleReader) -> Iterator[tuple[int, float, float, bool]]:
    """Yield index, score, largest map value and whether it is a reference, for each image that can be read."""
    references = scorer.references
    for result in scorer.score_samples(reader, keep_images=references is not None):
        if result.score is None or result.anomaly_map is None:
            warnings.warn(f"skipped {result.source}: {result.error}", stacklevel=2)
            continue
        is_reference = bool(references and result.image and references.has(result.image))
        yield result.index, result.score, float(result.anomaly_map.max()), is_reference


def store_calibration(
    calibration: Calibration, folder: str | os.PathLike, scorer: AnomalyScorer | None = None
) -> Path:
    """Write a calibration into the folder of a model, or into a new copy of the model.

    Nothing else in the folder changes.

    Args:
        calibration ([`Calibration`]): From [`calibrate_model`].
        folder (`str` or `os.PathLike`): Folder of a model, also of an exported one; or a folder to create.
        scorer ([`AnomalyScorer`], *optional*): The engine of the model, which is copied if the folder is new or empty.

    Returns:
        `Path`: the file with the calibration, `processor_config.json` or, in an export, `anomalyclip.json`.

    Raises:
        OSError: If there is no model in the folder, or it cannot be written.
        ValueError: If the folder holds another model than the engine.
    """
    folder = Path(folder)
    check_folder(folder, scorer)
    if scorer is not None and _is_new(folder):
        with atomic_folder(folder) as partial:
            _copy_model(scorer, partial)
    path = _settings_file(folder)
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored |= {"image_score": calibration.image_score, "calibration": calibration.to_dict()}
    pixels = stored["preprocessing"] if path.name == DESCRIPTION_NAME else stored
    pixels |= {name: value for name, value in calibration.settings.items() if name == "value_range"}
    text = json.dumps(stored, indent=2, sort_keys=path.name == PROCESSOR_NAME)
    with atomic_write(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def check_folder(folder: str | os.PathLike, scorer: AnomalyScorer | None = None) -> None:
    """Check that [`store_calibration`] can write to a folder, before images are scored.

    Args:
        folder (`str` or `os.PathLike`): Folder of a model, also of an exported one; or a folder to create.
        scorer ([`AnomalyScorer`], *optional*): The engine of the model.

    Raises:
        OSError: If there is no model in the folder.
        ValueError: If the folder holds another model than the engine.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; expected the folder of a model, or a new folder.")
    if scorer is not None and _is_new(folder):
        return
    if not _settings_file(folder).exists():
        raise FileNotFoundError(f"{folder} has no {PROCESSOR_NAME}; expected the folder of a model, or a new folder.")
    if scorer is None or (Path(scorer.name).is_dir() and folder.samefile(scorer.name)):
        return
    expected = f"expected the folder of {scorer.name}, whose calibration it is, or a new folder."
    if is_exported(folder) != (scorer.model is None):
        kind = "an exported model" if is_exported(folder) else "a PyTorch model"
        raise ValueError(f"{folder} holds {kind}; {expected}")
    if _fingerprint(folder, scorer) != scorer.backend.fingerprint:
        raise ValueError(f"{folder} holds a model with other weights or settings; {expected}")


def _is_new(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _fingerprint(folder: Path, scorer: AnomalyScorer) -> str | None:
    """Return the digest of the model in a folder; `None` for an export of another precision."""
    if scorer.model is None:
        exported = read_exported(folder)
        return exported.fingerprint if exported.precision == scorer.backend.precision else None
    from ..loading_anomalyclip import model_fingerprint

    return model_fingerprint(type(scorer.model).from_pretrained(folder, dtype=scorer.model.dtype))


def _labels(reader: SampleReader) -> list[int]:
    """Return 0 or 1 for each image; if no image has a label, all are normal."""
    labels = reader.labels
    unlabelled = labels.count(None)
    if 0 < unlabelled < len(labels):
        raise ValueError(f"{unlabelled} of {len(labels)} images have no label; leave them out, or label them all.")
    return [label or 0 for label in labels]


def _settings_file(folder: Path) -> Path:
    exported = folder / DESCRIPTION_NAME
    return exported if exported.exists() else folder / PROCESSOR_NAME


def _copy_model(scorer: AnomalyScorer, folder: Path) -> None:
    """Copy the files of a model on disk, or save a model that is in memory or from the Hub."""
    source = Path(scorer.name)
    if _settings_file(source).exists():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        scorer.model.save_pretrained(folder)  # type: ignore[union-attr]
        scorer.processor.save_pretrained(folder)  # type: ignore[union-attr]


__all__ = ["calibrate_model", "store_calibration"]
