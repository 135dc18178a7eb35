# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Write a model card from a checkpoint's folder and the results of evaluations."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..calibration.thresholds import Calibration
from ..configuration_anomalyclip import AnomalyCLIPConfig
from ..data.catalogue import CATALOGUE, PAPER_DATASETS
from ..evaluation.tables import TITLES, defined_metrics, result_notes, result_rows
from ..io.atomic import atomic_write
from ..io.templates import render
from ..loading_anomalyclip import CARD_NAME, CARD_TAGS, CODE_FILES, PROMPTS_FILE, TASK, is_on_this_machine
from ..metrics.category import METRICS
from ..processing_anomalyclip import AnomalyCLIPProcessor


TRAINING_FILE = "training.json"
THRESHOLDS = ("threshold", "review_threshold", "pixel_threshold")
TEMPLATE = Path(__file__).with_name("model_card.md")

logger = logging.getLogger(__name__)


def write_model_card(
    folder: str | os.PathLike,
    *,
    repo_id: str | None = None,
    results: Sequence[str | os.PathLike] = (),
    license: str | None = None,
    datasets: Sequence[str] = (),
    tags: Sequence[str] = (),
    overwrite: bool = True,
) -> ModelCard:
    """Write `README.md` into the folder of a checkpoint, with the metadata that the Hub reads.

    The card describes the model from `config.json`, `processor_config.json` and, if there is one, the trainer's
    `training.json`.

    Args:
        folder (`str` or `os.PathLike`): Folder of a checkpoint, whole or prompts only.
        repo_id (`str`, *optional*): Hub id of the model; defaults to the folder's name.
        results (`Sequence[str or os.PathLike]`, *optional*): Files `results.json` of `anomalyclip evaluate`. A warning
            names those of another model.
        license (`str`, *optional*): License of the weights as the Hub writes it, such as `"mit"`. If unset, the card
            says that none is stated.
        datasets (`Sequence[str]`, *optional*): Hub ids of the training datasets.
        tags (`Sequence[str]`, *optional*): Added to the package's own tags.
        overwrite (`bool`, *optional*, defaults to `True`): Replace an existing card.

    Returns:
        [`~huggingface_hub.ModelCard`]: The card as written.

    Raises:
        FileExistsError: If there is a card and `overwrite` is `False`.
        OSError: If there is no such folder or no `config.json` in it, or a file of results does not exist.
        ValueError: If a file of results or settings has an unexpected content.

    Example:
    ```python
    >>> from anomalyclip_hf.sharing.model_card import write_model_card

    >>> card = write_model_card(getfixture("model_folder"), repo_id="factory/bolts", license="mit")
    >>> card.data.library_name, card.data.pipeline_tag, card.data.license
    ('transformers', 'anomaly-detection', 'mit')

    ```
    """
    folder = Path(folder)
    _check_folder(folder, overwrite)
    name = (repo_id or folder.resolve().name).rsplit("/", 1)[-1]
    config = AnomalyCLIPConfig.from_pretrained(folder)
    processor = AnomalyCLIPProcessor.from_pretrained(folder)
    evaluations = [_read_results(Path(path), folder, repo_id) for path in results]
    training = _read_json(folder / TRAINING_FILE, ()) if (folder / TRAINING_FILE).exists() else {}
    base_model = config.base_model_name_or_path
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=list(dict.fromkeys([*CARD_TAGS, *tags])),
        license=license,
        base_model=None if is_on_this_machine(base_model) else base_model,
        datasets=list(datasets) or None,
        model_name=name,
        eval_results=[entry for evaluation in evaluations for entry in _eval_results(evaluation)] or None,
    )
    content = render(
        TEMPLATE,
        autoescape=False,
        card_data=data.to_yaml(),
        name=_cell(name),
        repo_id=repo_id or str(folder),
        has_code=all((folder / code).exists() for code in CODE_FILES),
        prompts_only=(folder / PROMPTS_FILE).exists(),
        license_text=_license_text(license),
        tables=[_table(evaluation) for evaluation in evaluations],
        **_describe(config, processor, training),
    )
    with atomic_write(folder / CARD_NAME) as partial:
        partial.write_text(content, encoding="utf-8")
    return ModelCard(content)


def _describe(
    config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor, training: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parts of the card that describe the model itself."""
    return {
        "description": _description(config),
        "settings": [(label, _cell(value)) for label, value in _settings(config, processor)],
        "thresholds": _thresholds(config, processor),
        "calibration": _calibration(processor),
        "training_text": _training_text(config, training),
        "training_rows": [(_cell(label), _cell(value)) for label, value in training.get("settings", {}).items()],
    }


def _check_folder(folder: Path, overwrite: bool) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one written by save_pretrained.")
    if (folder / CARD_NAME).exists() and not overwrite:
        raise FileExistsError(f"{folder / CARD_NAME} exists already; pass --overwrite to replace it.")


def _read_results(path: Path, folder: Path, repo_id: str | None) -> dict[str, Any]:
    """Read a file of results; a warning names the model that it is of, where that is another one."""
    evaluation = _read_json(path, ("metrics", "dataset", "settings"))
    model = evaluation.get("model", repo_id or str(folder))
    if model != repo_id and Path(model).resolve() != folder.resolve():
        logger.warning("%s holds results of %s; check that this is the model in %s.", path, model, folder)
    return evaluation


def _read_json(path: Path, expected: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); expected a file of `anomalyclip evaluate`.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in expected):
        raise ValueError(
            f"{path} does not have {', '.join(expected)}; expected the results.json of `anomalyclip evaluate`."
        )
    return content


def _eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """Return the mean metrics that are defined, for the Hub's `model-index`, as fractions of 1."""
    dataset, metrics = evaluation["dataset"], evaluation["metrics"]
    return [
        EvalResult(
            task_type=TASK,
            task_name="Zero-shot anomaly detection",
            dataset_type=dataset["name"],
            dataset_name=_dataset_title(dataset),
            dataset_split=dataset.get("split"),
            metric_type=name,
            metric_name=TITLES[name],
            metric_value=round(metrics[name], 4),
        )
        for name in METRICS
        if metrics.get(name) is not None
    ]


def _dataset_title(dataset: Mapping[str, Any]) -> str:
    """Return the full name of a known dataset, or the name that the user's own has."""
    name = dataset["name"]
    if name in PAPER_DATASETS:
        return CATALOGUE[name].title
    return dataset.get("description") or name if name in CATALOGUE else name


def _table(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of one evaluation, in percent, without the metrics that no category has."""
    metrics, settings = evaluation["metrics"], evaluation["settings"]
    columns = defined_metrics(metrics)
    rows = [(_cell(name), cells) for name, cells in result_rows(metrics, columns)]
    note = f"{evaluation.get('images', 'all')} images, split {evaluation['dataset'].get('split', 'test')}"
    note += f", pixel metrics at {settings.get('resolution', 'model')} resolution."
    return {
        "title": _cell(_dataset_title(evaluation["dataset"])),
        "note": _cell(note),
        "columns": [TITLES[name] for name in columns],
        "rows": rows,
        "notes": [_cell(note) for note in result_notes(metrics, columns)],
    }


def _description(config: AnomalyCLIPConfig) -> str:
    if config.prompts == "ensemble":
        return "Its prompts are hand-written sentences; nothing was trained."
    return "CLIP is frozen; only the prompts were trained, on an auxiliary dataset."


def _settings(config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor) -> list[tuple[str, Any]]:
    vision, (height, width) = config.vision_config, config.input_size
    base_model = config.base_model_name_or_path
    if base_model is None or is_on_this_machine(base_model):
        base = "not on the Hub"
    else:
        base = f"`{base_model}`" + (f" at `{config.base_model_revision}`" if config.base_model_revision else "")
    rows: list[tuple[str, Any]] = [
        ("base model", base),
        ("vision encoder", f"{vision.num_hidden_layers} layers of {vision.hidden_size}, patch {vision.patch_size}"),
        ("input", f"{height} × {width} px, no crop"),
        ("local path (DPAM)", f"{config.dpam_attention}, last {config.dpam_layers} layers"),
        ("selected layers", ", ".join(str(layer) for layer in config.feature_layers or ())),
    ]
    if config.prompts == "learned":
        words = " and ".join(f"“{text}”" for text in config.prompt_words)
        rows.append(("prompts", f"{config.num_prompt_tokens} trained vectors before {words}"))
        deep_layers = config.deep_prompt_depth - 1
        rows.append(("deep prompts", f"{config.num_deep_prompt_tokens} vectors in each of {deep_layers} text layers"))
    else:
        rows.append(("prompts", f"hand-written, about “{config.object_name}”"))
    kind = {"paper": "of the whole image", "fusion": "mean of the whole image's and the map's maximum"}
    rows.append(("image score", kind.get(processor.image_score, "mean of the highest 1 % of the map")))
    return [*rows, ("smoothing of the heat map", f"σ = {processor.smoothing_sigma:g} px")]


def _thresholds(config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor) -> str:
    layers = len(config.feature_layers or ())
    if processor.calibration is not None:
        return f"Scores are in [0, 1], map values in [0, {layers}]."
    pixels = (
        "There is no pixel threshold; pass `pixel_threshold` to get a mask and regions"
        if processor.pixel_threshold is None
        else f"A pixel belongs to the mask from a map value of {processor.pixel_threshold:g} on"
    )
    return (
        f"An image is anomalous from a score of {processor.threshold:g} on; scores are in [0, 1]. {pixels}; map "
        f"values are in [0, {layers}]."
    )


def _calibration(processor: AnomalyCLIPProcessor) -> dict[str, Any] | None:
    """Return what the card says about the calibration: a title, sentences, and a row per category."""
    if processor.calibration is None:
        return None
    found = Calibration.from_dict(processor.calibration)
    data = f" on {found.data}" if found.data else ""
    rows = [
        (_cell(name), part.normal, *(_number(getattr(part, threshold)) for threshold in THRESHOLDS))
        for name, part in found.categories.items()
    ]
    return {"title": _cell(f"Calibrated{data}, {found.date}."), "lines": map(_cell, found.describe()), "rows": rows}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _training_text(config: AnomalyCLIPConfig, training: Mapping[str, Any]) -> str:
    if config.prompts == "ensemble":
        return "None: the text embeddings are averages over hand-written sentences."
    if not training:
        return "The checkpoint does not state its training data."
    counts = f"{training['images']} images ({training['normal']} normal, {training['anomalous']} anomalous)"
    synthetic = "; the anomalies are synthetic" if training.get("synthetic") else ""
    categories = training.get("categories") or []
    named = f" Categories: {', '.join(categories)}." if categories else ""
    return _cell(f"Trained on {training['dataset']}: {counts}{synthetic}.{named}")


def _license_text(license: str | None) -> str:
    stated = "Not stated for these weights" if license is None else _cell(license)
    return f"{stated}. The base model and the training data have licenses of their own."


def _cell(value: Any) -> str:
    """Return text as one line of Markdown that stays inside a table cell."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")
