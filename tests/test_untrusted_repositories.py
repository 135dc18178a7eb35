# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Repositories that bring code or point elsewhere: nothing runs and nothing outside is read, unless it is allowed."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from transformers import AutoModel, AutoProcessor, pipeline

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.loading_anomalyclip import PROMPTS_FILE, load_tokenizer


def change(path, **settings) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def trap(ran: Path) -> str:
    """A module that leaves a file behind when it is imported."""
    return f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Trap: ...\n"


@pytest.fixture
def trapped_folder(model_folder):
    """A whole model whose files name a module that leaves a file behind when it is imported."""
    (model_folder / "trap.py").write_text(trap(model_folder / "ran"))
    names = ("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer")
    auto_map = dict.fromkeys(names, "trap.Trap")
    pipelines = {"anomaly-detection": {"impl": "trap.Trap", "pt": ["AutoModel"], "tf": [], "type": "image"}}
    change(model_folder / "config.json", auto_map=auto_map, custom_pipelines=pipelines)
    change(model_folder / "processor_config.json", auto_map=auto_map)
    return model_folder


@pytest.mark.parametrize(
    "load",
    [
        AnomalyCLIPModel.from_pretrained,
        AnomalyCLIPProcessor.from_pretrained,
        AutoModel.from_pretrained,
        AutoProcessor.from_pretrained,
        lambda folder: pipeline("anomaly-detection", model=str(folder)),
    ],
)
def test_code_in_a_repository_does_not_run(trapped_folder, load):
    load(trapped_folder)
    assert not (trapped_folder / "ran").exists()


def test_the_trap_works(trapped_folder):
    subprocess.run([sys.executable, str(trapped_folder / "trap.py")], check=True)
    assert (trapped_folder / "ran").exists()


def test_code_beside_a_tokenizer_does_not_run(clip_folder, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "trap.py").write_text(trap(tmp_path / "ran"))
    auto_map = {"AutoTokenizer": ["trap.Trap", None]}
    change(folder / "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Trap")
    change(folder / "config.json", auto_map={"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"})
    with suppress(OSError, ValueError):  # it may say that the tokenizer needs code
        AnomalyCLIPModel.from_clip_pretrained(str(folder), deep_prompt_depth=3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["vocab_file", "merges_file", "tokenizer_file"])
def test_a_tokenizer_reads_no_file_elsewhere(clip_folder, tmp_path, name):
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    expected = load_tokenizer(folder)("object.")["input_ids"]
    (tmp_path / "elsewhere").write_text("{}")
    change(folder / "tokenizer_config.json", **{name: "../elsewhere"})
    assert load_tokenizer(folder)("object.")["input_ids"] == expected


# ---------------------------------------------------------------------------------------------------- the base CLIP


@pytest.fixture
def hub_prompts(clip_folder, tmp_path):
    """Prompts in a cache as the Hub's client leaves it, and a function that makes them name a CLIP."""
    folder = tmp_path / "hub" / "models--someone--prompts"
    snapshot = folder / "snapshots" / ("a" * 40)
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3)
    model.save_pretrained(snapshot, prompts_only=True)
    assert (snapshot / PROMPTS_FILE).exists()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)

    def load(loader=AnomalyCLIPModel, base=None, **kwargs):
        if base is not None:
            change(snapshot / "config.json", base_model_name_or_path=base)
        return loader.from_pretrained("someone/prompts", cache_dir=str(tmp_path / "hub"), **kwargs)

    return load


@pytest.mark.parametrize("loader", [AnomalyCLIPModel, AutoModel])
@pytest.mark.parametrize("base", [None, "../clip", "file:///etc", "\\\\host\\share", "a/b/c", "..", "~/clip"])
def test_prompts_from_the_hub_name_no_folder_of_this_machine(hub_prompts, loader, base):
    with pytest.raises(ValueError, match=r"someone/prompts names .* as base_model_name_or_path, expected the id"):
        hub_prompts(loader, base)


def test_prompts_fetched_from_the_hub_name_no_folder_of_this_machine(hub, clip_folder, tmp_path):
    model = AnomalyCLIPModel.from_clip_pretrained(str(clip_folder), deep_prompt_depth=3)
    model.save_pretrained(tmp_path / "prompts", prompts_only=True)
    hub.storage.put("someone/prompts", {path.name: path.read_bytes() for path in (tmp_path / "prompts").iterdir()})
    with pytest.raises(ValueError, match=r"someone/prompts names .* as base_model_name_or_path, expected the id"):
        AnomalyCLIPModel.from_pretrained("someone/prompts")


def test_a_folder_that_looks_like_an_id_is_not_read(hub_prompts, clip_folder, tmp_path, monkeypatch):
    shutil.copytree(clip_folder, tmp_path / "here" / "openai" / "clip")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="names 'openai/clip' as base_model_name_or_path"):
        hub_prompts(base="openai/clip")


def test_the_user_may_name_a_folder(hub_prompts, clip_folder, tmp_path):
    assert hub_prompts(base_model_name_or_path=str(clip_folder)).config.prompts == "learned"
    elsewhere = shutil.copytree(clip_folder, tmp_path / "elsewhere")
    assert hub_prompts(AutoModel, base_model_name_or_path=str(elsewhere)).config.prompts == "learned"
    config = hub_prompts(AnomalyCLIPConfig, base_model_name_or_path=str(elsewhere))
    assert hub_prompts(config=config).config.base_model_name_or_path == str(elsewhere)
