# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The card, read back with huggingface_hub's own classes."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from anomalyclip_hf import AnomalyCLIPModel, AnomalyDetectionMetric, calibrate, store_calibration
from anomalyclip_hf.loading_anomalyclip import add_code
from anomalyclip_hf.sharing.model_card import TRAINING_FILE, write_model_card
from conftest import tiny_model


@pytest.fixture
def results(tmp_path):
    """What `anomalyclip evaluate` would write for two categories, the second without normal images."""
    metric = AnomalyDetectionMetric()
    metric.add_batch(image_scores=[0.1, 0.9, 0.4, 0.7], labels=[0, 1, 1, 0], categories=["bolt"] * 4)
    metric.add_batch(image_scores=[0.3, 0.6], labels=[1, 1], categories=["nut | <b>"] * 2)
    summary = {
        "dataset": {"name": "folder", "split": "test", "description": "parts, read as folder"},
        "settings": {"resolution": "model"},
        "images": 6,
        "metrics": metric.compute(),
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(summary))
    return path


def table_of(text: str, title: str) -> list[list[str]]:
    """Cells of the first table below a title."""
    lines = text.split(title, 1)[1].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    first = rows[0].count("|")
    cells = [line.replace("\\|", "¦").strip("|").split("|") for line in rows]
    return [[cell.strip().replace("¦", "|") for cell in row] for row in cells if len(row) == first - 1]


def test_metadata_that_the_hub_reads(model_folder, results):
    write_model_card(
        model_folder, repo_id="me/bolts", results=[results], license="mit", datasets=["me/parts"], tags=["x"]
    )
    card = ModelCard.load(model_folder / "README.md")
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "anomaly-detection", "mit")
    assert data.datasets == ["me/parts"]
    assert data.tags[-1] == "x"
    assert data.model_name == "bolts"
    metrics = json.loads(results.read_text())["metrics"]
    by_metric = {entry.metric_type: entry for entry in data.eval_results}
    assert by_metric["image_auroc"].metric_value == round(metrics["image_auroc"], 4)
    assert by_metric["image_auroc"].dataset_name == "parts, read as folder"
    assert "pixel_auroc" not in by_metric  # undefined: no maps were scored
    index = yaml.safe_load(card.content.split("---")[1])["model-index"]
    name, entries = model_index_to_eval_results(index)
    assert (name, len(entries)) == ("bolts", len(data.eval_results))


def test_the_table_of_results(model_folder, results):
    text = write_model_card(model_folder, results=[results]).text
    header, _, *rows = table_of(text, "### parts, read as folder")
    metrics = json.loads(results.read_text())["metrics"]["per_category"]
    by_category = {row[0]: row[1:] for row in rows if len(row) == len(header)}
    assert header[1] == "image AUROC"
    assert by_category["bolt"][0] == f"{100 * metrics['bolt']['image_auroc']:.1f}"
    assert by_category["nut | &lt;b>"][0] == "–"
    assert "Mean" in by_category


def test_settings_and_thresholds_are_those_of_the_folder(model_folder):
    text = write_model_card(model_folder).text
    model = AnomalyCLIPModel.from_pretrained(model_folder)
    height, width = model.config.input_size
    rows = dict(table_of(text, "## Settings"))
    assert rows["input"].startswith(f"{height} × {width} px")
    assert rows["selected layers"] == ", ".join(map(str, model.config.feature_layers))
    assert rows["smoothing of the heat map"] == "σ = 1 px"
    assert "0.5" in text.split("## Thresholds")[1].split("##")[0]


@pytest.mark.parametrize("prompts", ["learned", "ensemble"])
def test_how_the_prompts_came_about(tmp_path, processor, prompts):
    tiny_model(prompts=prompts).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    text = write_model_card(tmp_path).text
    assert ("deep prompts" in dict(table_of(text, "## Settings"))) == (prompts == "learned")


def test_what_the_trainer_has_left(model_folder):
    training = {"dataset": "VisA, read as csv", "images": 20, "normal": 12, "anomalous": 8, "categories": ["pcb1"]}
    (model_folder / TRAINING_FILE).write_text(json.dumps({**training, "settings": {"epochs": "15"}}))
    text = write_model_card(model_folder).text
    section = text.split("## Training")[1].split("## Results")[0]
    assert all(word in section for word in ("20 images", "12 normal", "8 anomalous", "VisA, read as csv", "pcb1"))
    assert "| epochs | 15 |" in text


@pytest.mark.parametrize("base", ["/home/me/clip", "openai/clip-vit-base-patch16"])
def test_the_base_model_is_named_only_where_others_find_it(tmp_path, processor, base):
    tiny_model(base_model_name_or_path=base).save_pretrained(tmp_path, prompts_only=True)
    processor.save_pretrained(tmp_path)
    card = write_model_card(tmp_path)
    assert (card.data.base_model == base) == (not base.startswith("/"))
    assert "/home/me" not in str(card)


def test_the_code_in_the_card_fits_the_repository(model_folder):
    assert "import anomalyclip_hf" in write_model_card(model_folder, repo_id="me/x").text
    add_code(model_folder)
    text = write_model_card(model_folder, repo_id="me/x").text
    assert 'pipeline("anomaly-detection", model="me/x", trust_remote_code=True)' in text


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_files_that_are_no_results(model_folder, tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        write_model_card(model_folder, results=[path])
    assert not (model_folder / "README.md").exists()


@pytest.mark.parametrize(
    ("evaluated", "is_named"),
    [("{folder}", False), ("{folder}/", False), ("me/bolts", False), ("me/nuts", True), ("demonstration model", True)],
)
def test_results_of_another_model_are_named(model_folder, results, caplog, evaluated, is_named):
    name = evaluated.format(folder=model_folder)
    results.write_text(json.dumps(json.loads(results.read_text()) | {"model": name}))
    write_model_card(model_folder, repo_id="me/bolts", results=[results])
    assert (f"results of {name}" in caplog.text) == is_named


def test_an_existing_card_is_replaced_only_where_allowed(model_folder):
    write_model_card(model_folder, license="mit")
    with pytest.raises(FileExistsError, match=r"README\.md"):
        write_model_card(model_folder, overwrite=False)
    write_model_card(model_folder, license="apache-2.0")
    assert ModelCard.load(model_folder / "README.md").data.license == "apache-2.0"


def test_no_checkpoint(tmp_path):
    with pytest.raises(OSError, match=r"config\.json"):
        write_model_card(tmp_path)
    with pytest.raises(FileNotFoundError, match="nope"):
        write_model_card("nope")


def test_the_card_says_what_the_calibration_means(model_folder):
    scores = [0.3 + 0.001 * number for number in range(60)]
    categories = ["bolt", "nut | <b>"] * 30
    found = calibrate(scores, review_alpha=0.2, categories=categories, map_maxima=scores, data="good | parts")
    store_calibration(found, model_folder)
    card = write_model_card(model_folder, repo_id="me/x").text
    for line in found.describe():
        assert f"- {line}" in card
    assert f"Calibrated on good \\| parts, {found.date}." in card
    assert f"| bolt | 30 | {found.categories['bolt'].threshold:.4g} |" in card
    assert "nut \\| &lt;b>" in card
    assert "from a score of 0.5 on" not in card
    assert 'pipe("photo.png")' in card
