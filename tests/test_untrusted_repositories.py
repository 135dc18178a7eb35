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

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from anomalyclip_hf.checkpoints_anomalyclip import PROMPTS_FILE, load_tokenizer


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
    assert load_tokenizer(folder)("object.")["input_ids"]
    change(folder / "tokenizer_config.json", **{name: "../../etc/passwd"})
    with pytest.raises(ValueError, match=f"as {name}; expected a path below its own folder"):
        load_tokenizer(folder)


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


def test_a_folder_that_looks_like_an_id_is_not_read(hub_prompts, clip_folder, tmp_path, monkeypatch):
    shutil.copytree(clip_folder, tmp_path / "here" / "openai" / "clip")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="names 'openai/clip' as base_model_name_or_path"):
        hub_prompts(base="openai/clip")


def test_the_user_may_name_a_folder(hub_prompts, clip_folder):
    assert hub_prompts(base_model_name_or_path=str(clip_folder)).config.prompts == "learned"


# --------------------------------------------------------------------------------------------------- the processor


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"smoothing_sigma": 1e9}, "smoothing_sigma is 1000000000.0; expected 0 to 256"),
        ({"smoothing_sigma": "4"}, "smoothing_sigma is '4'; expected a number"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"audio_tokenizer": {"audio_tokenizer_name_or_path": "x"}}, "holds 'audio_tokenizer'"),
        ({"size": {"height": 10**9, "width": 40}}, "'size' is {'height': 1000000000, 'width': 40}; expected sides"),
        ({"size": {"height": True, "width": 40}}, "'size' is"),
        ({"image_mean": [0.5, 0.5]}, "'image_mean' is [0.5, 0.5]; expected three numbers"),
        ({"image_std": [0, 1, 1]}, "'image_std' is [0, 1, 1]"),
        ({"image_std": [float("nan"), 1, 1]}, "'image_std' is [nan, 1, 1]"),
        ({"resample": 99}, "'resample' is 99"),
        ({"do_resize": "yes"}, "'do_resize' is 'yes'"),
        ({"preprocess": 1}, "'preprocess' is 1; expected no such setting"),
        ({"image_processor_type": "AutoModel"}, "image_processor_type' is 'AutoModel'; expected one of CLIPImage"),
    ],
)
def test_a_processor_with_values_that_make_no_sense(model_folder, settings, words):
    path = model_folder / "processor_config.json"
    content = json.loads(path.read_text())
    top = {"smoothing_sigma", "threshold", "audio_tokenizer"}
    for name, value in settings.items():
        (content if name in top else content["image_processor"])[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as caught:
        AnomalyCLIPProcessor.from_pretrained(model_folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_audio_tokenizer_is_not_loaded(model_folder):
    (model_folder / "audio_tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="expected no audio tokenizer"):
        AnomalyCLIPProcessor.from_pretrained(model_folder)
