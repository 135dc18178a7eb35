# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoTokenizer, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel
from anomalyclip_hf.pipeline_anomaly_detection import DEMONSTRATION_NOTE


EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def pipe():
    return pipeline("anomaly-detection", device="cpu")


def test_it_is_small_safe_and_complete():
    files = {path.name: path for path in Path(DEFAULT_MODEL).iterdir()}
    assert sum(path.stat().st_size for path in files.values()) < 12_000_000
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "README.md"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    assert model.dtype.itemsize == 4
    assert model.config.prompts == "learned"


def test_its_prompt_words_match_its_tokenizer():
    config, tokenizer = (
        AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL).config,
        AutoTokenizer.from_pretrained(DEFAULT_MODEL),
    )
    assert [tokenizer(words)["input_ids"] for words in config.prompt_words] == [
        config.normal_token_ids,
        config.abnormal_token_ids,
    ]


def test_it_is_the_default_of_the_task(pipe):
    assert PIPELINE_REGISTRY.check_task("anomaly-detection")[1]["default"]["model"] == (DEFAULT_MODEL, None)
    assert pipe.model.name_or_path == DEFAULT_MODEL


@pytest.mark.parametrize(
    "name", ["capsule_contaminated", "corrugated_stained", "foam_holed", "gear_scratched", "solar_cell_cracked"]
)
def test_it_marks_the_defects_of_the_samples(pipe, name):
    """The mean of the map is higher inside the defect than outside."""
    values = np.asarray(pipe(EXAMPLES / "images" / f"{name}.png")["anomaly_map"])
    defect = np.asarray(Image.open(EXAMPLES / "masks" / f"{name}.png")) > 0
    assert values[defect].mean() > 2 * values[~defect].mean()


def test_the_card_is_one_the_hub_reads():
    card = ModelCard.load(Path(DEFAULT_MODEL) / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag
    assert card.data.license == "apache-2.0"
    for part in ("ball_screw", "pcb", "`ensemble` prompts", "DPAM off", "no smoothing", "GPL", "CC-BY-SA"):
        assert part in card.text


def test_readme_docs_card_and_note_give_the_same_metrics():
    """Image AUROC on the two real sets is measured once and quoted in several places."""
    quoted = DEMONSTRATION_NOTE.split("image AUROC ")[1].split(" on the")[0]
    root = Path(__file__).parents[1]
    for path in (root / "README.md", root / "docs" / "default_model.md", Path(DEFAULT_MODEL) / "README.md"):
        assert quoted in " ".join(path.read_text().split()), path
