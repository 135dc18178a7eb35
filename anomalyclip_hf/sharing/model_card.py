# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The model card: written from what lies in a checkpoint's folder and what an evaluation gave."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..checkpoints_anomalyclip import PROMPTS_FILE
from ..configuration_anomalyclip import AnomalyCLIPConfig
from ..evaluation.report import MEAN, TITLES, result_notes, result_rows
from ..io.atomic import atomic_write
from ..io.templates import render
from ..metrics.category import METRICS
from ..processing_anomalyclip import AnomalyCLIPProcessor
from ..sharing_anomalyclip import CARD_NAME, CARD_TAGS, CODE_FILES, TASK, is_on_this_machine


TRAINING_FILE = "training.json"
TEMPLATE = Path(__file__).with_name("model_card.md")


def write_model_card(
    folder: str | os.PathLike,
    *,
    repo_id: str | None = None,
    results: Sequence[str | os.PathLike] = (),
    licence: str | None = None,
    datasets: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> ModelCard:
    """Write `README.md` beside a checkpoint, with the metadata that the Hub reads.

    What the card says is read from the folder: `config.json`, `processor_config.json`, and `training.json` where the
    package's trainer has left one.

    Args:
        folder (`str` or `os.PathLike`): Of a checkpoint, whole or prompts only.
        repo_id (`str`, *optional*): Under which it will be shared; default: the folder's name.
        results (`Sequence[str or os.PathLike]`, *optional*): Files `results.json` of `anomalyclip evaluate`.
        licence (`str`, *optional*): As the Hub writes it, `"mit"` for instance; without, the card says none is stated.
        datasets (`Sequence[str]`, *optional*): Hub ids of the data sets that the prompts were learned on.
        tags (`Sequence[str]`, *optional*): Beside the package's own.

    Returns:
        [`~huggingface_hub.ModelCard`]: what was written.

    Raises:
        OSError: If the folder holds no checkpoint's settings, or a file of results is not there.
        ValueError: If a file of results, or of settings, holds something else.

    Example:
    ```python
    >>> from anomalyclip_hf.sharing.model_card import write_model_card

    >>> card = write_model_card(getfixture("model_folder"), repo_id="factory/bolts", licence="mit")
    >>> card.data.library_name, card.data.pipeline_tag, card.data.license
    ('transformers', 'anomaly-detection', 'mit')

    ```
    """
    folder = Path(folder)
    name = (repo_id or folder.resolve().name).rsplit("/", 1)[-1]
    config = AnomalyCLIPConfig.from_pretrained(folder)
    processor = AnomalyCLIPProcessor.from_pretrained(folder)
    evaluations = [_read_json(Path(path), ("metrics", "dataset", "settings")) for path in results]
    training = _read_json(folder / TRAINING_FILE, ()) if (folder / TRAINING_FILE).exists() else {}
    base_model = config.base_model_name_or_path
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=list(dict.fromkeys([*CARD_TAGS, *tags])),
        license=licence,
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
        licence_text=_licence_text(licence),
        tables=[_table(evaluation) for evaluation in evaluations],
        **_describe(config, processor, training),
    )
    with atomic_write(folder / CARD_NAME) as partial:
        partial.write_text(content, encoding="utf-8")
    return ModelCard(content)


def _describe(
    config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor, training: Mapping[str, Any]
) -> dict[str, Any]:
    """What the card says of the model itself."""
    return {
        "description": _description(config),
        "settings": [(label, _cell(value)) for label, value in _settings(config, processor)],
        "thresholds": _thresholds(config, processor),
        "training_text": _training_text(config, training),
        "training_rows": [(_cell(label), _cell(value)) for label, value in training.get("settings", {}).items()],
    }


def _read_json(path: Path, expected: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected what `anomalyclip evaluate` writes.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in expected):
        raise ValueError(
            f"{path} holds no {', '.join(expected)}; expected the results.json of `anomalyclip evaluate`."
        )
    return content


def _eval_results(evaluation: Mapping[str, Any]) -> list[EvalResult]:
    """The mean metrics that are defined, for the Hub's `model-index`; fractions of 1."""
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
    return dataset.get("description") or dataset["name"]


def _table(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """One evaluation as the paper prints it; columns that are undefined throughout are left out."""
    metrics, settings = evaluation["metrics"], evaluation["settings"]
    categories = [*metrics["per_category"].values(), metrics]
    columns = [name for name in METRICS if any(values.get(name) is not None for values in categories)]
    rows = [(_cell(name), cells) for name, cells in result_rows(metrics, columns)]
    if len(rows) == 2 and rows[1][0] == MEAN:
        rows = rows[:1]  # the mean of one category is that category
    note = f"{evaluation.get('images', 'all')} images of the split {evaluation['dataset'].get('split', 'test')}"
    note += f", maps compared at the {settings.get('resolution', 'model')} resolution."
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
    return "Its CLIP is frozen; the prompts alone were learned, on the anomalies of other things."


def _settings(config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor) -> list[tuple[str, Any]]:
    vision, (height, width) = config.vision_config, config.input_size
    base_model = config.base_model_name_or_path
    if base_model is None or is_on_this_machine(base_model):
        base = "not on the Hub"
    else:
        base = f"`{base_model}`" + (f" at `{config.base_model_revision}`" if config.base_model_revision else "")
    rows: list[tuple[str, Any]] = [
        ("base model", base),
        ("image tower", f"{vision.num_hidden_layers} layers of width {vision.hidden_size}, patch {vision.patch_size}"),
        ("input", f"{height} × {width} px, no crop"),
        ("local path (DPAM)", f"{config.dpam_attention}, last {config.dpam_layers} layers"),
        ("layers tapped for the map", ", ".join(str(layer) for layer in config.feature_layers or ())),
    ]
    if config.prompts == "learned":
        words = " and ".join(f"“{text}”" for text in config.prompt_words)
        rows.append(("prompts", f"{config.num_prompt_tokens} learned vectors before {words}"))
        deep_layers = config.deep_prompt_depth - 1
        rows.append(("deep prompts", f"{config.num_deep_prompt_tokens} vectors in each of {deep_layers} text layers"))
    else:
        rows.append(("prompts", f"hand-written, about “{config.object_name}”"))
    return [*rows, ("smoothing of the map", f"σ = {processor.smoothing_sigma:g} px")]


def _thresholds(config: AnomalyCLIPConfig, processor: AnomalyCLIPProcessor) -> str:
    layers = len(config.feature_layers or ())
    pixels = (
        "There is none for pixels; pass `pixel_threshold` to get a mask and regions"
        if processor.pixel_threshold is None
        else f"A pixel belongs to the mask from a map value of {processor.pixel_threshold:g}"
    )
    return (
        f"An image is called anomalous from a score of {processor.threshold:g}, in [0, 1]. {pixels} (map values go "
        f"from 0 to {layers})."
    )


def _training_text(config: AnomalyCLIPConfig, training: Mapping[str, Any]) -> str:
    if config.prompts == "ensemble":
        return "None: the prompts are averages over hand-written sentences."
    if not training:
        return "The checkpoint does not say what its prompts were learned on."
    counts = f"{training['images']} images ({training['normal']} normal, {training['anomalous']} anomalous)"
    drawn = "; the anomalies were drawn into copies of normal images" if training.get("synthetic") else ""
    categories = training.get("categories") or []
    named = f" Categories: {', '.join(categories)}." if categories else ""
    return _cell(f"Prompts learned on {counts}{drawn}: {training['dataset']}.{named}")


def _licence_text(licence: str | None) -> str:
    if licence is None:
        return "Not stated for these weights. The base model and the training data have licences of their own."
    return f"{_cell(licence)}. The base model and the training data have licences of their own."


def _cell(value: Any) -> str:
    """One line that stays inside its cell, whatever a data set or a category is called."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")
