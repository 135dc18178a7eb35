# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import ast
import json
import os
import shutil
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

import anomalyclip_hf
from anomalyclip_hf.loading_anomalyclip import CODE_FILES
from anomalyclip_hf.serving.space import write_handler, write_space, write_static_space


PACKAGE = Path(anomalyclip_hf.__file__).parent


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def model_of(space: Path) -> str:
    """Return the expression that the app gives as its model."""
    tree = ast.parse((space / "app.py").read_text())
    (value,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "MODEL"]
    return ast.unparse(value)


def test_with_the_demonstration_model(tmp_path):
    space = write_space(tmp_path / "space")
    assert model_of(space) == "None"
    own = {f"anomalyclip_hf/{name}" for name in files(PACKAGE) if "__pycache__" not in name}
    linked = {f"anomalyclip_hf/assets/example_images/{path.name}" for path in PACKAGE.glob("assets/example_images/*")}
    assert len(linked) == 10
    assert files(space) == {"app.py", "README.md", "requirements.txt"} | own | linked
    assert not any(path.is_symlink() for path in space.rglob("*"))
    lines = (space / "requirements.txt").read_text().splitlines()
    assert lines == sorted(line for line in requires("anomalyclip-hf") if "extra ==" not in line)


def test_with_a_model_of_the_hub(tmp_path):
    space = write_space(tmp_path / "space", "owner/some-model")
    assert model_of(space) == "'owner/some-model'"
    assert not (space / "anomalyclip_hf" / "assets" / "default_model").exists()
    assert (space / "anomalyclip_hf" / "assets" / "__init__.py").exists()
    assert not (space / "model").exists()
    data = SpaceCard.load(space / "README.md").data
    assert (data.sdk, data.sdk_version, data.app_file) == ("gradio", version("gradio"), "app.py")
    assert (data.license, data.models) == ("apache-2.0", ["owner/some-model"])
    assert 0 < len(data.to_dict()["short_description"]) <= 60  # the Hub's limit


def test_with_a_folder(tmp_path, model_folder):
    for stray in ("optimizer.pt", "training_args.bin"):
        (model_folder / stray).write_text("mine")
    for stray in (".cache", "_features", "checkpoint-3"):
        (model_folder / stray).mkdir()
        (model_folder / stray / "model.safetensors").write_text("mine")
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/home/me/clip"}))
    space = write_space(tmp_path / "space", model_folder)
    assert "'model'" in model_of(space)
    assert files(space / "model") == {"config.json", "model.safetensors", "processor_config.json"}
    assert "/home/me" not in (space / "model" / "config.json").read_text()
    assert "/home/me" in (model_folder / "config.json").read_text()
    assert not (space / "anomalyclip_hf" / "assets" / "default_model").exists()


def test_a_static_space_is_the_page_with_a_card(tmp_path, model_folder, runtime_package):
    space = write_static_space(tmp_path / "space", model_folder, runtime_package)
    assert {"index.html", "service_worker.js", "model.onnx", "README.md"} <= files(space)
    data = SpaceCard.load(space / "README.md").data.to_dict()
    assert (data["sdk"], data["app_file"]) == ("static", "index.html")
    assert data["custom_headers"]["cross-origin-embedder-policy"] == "require-corp"
    assert data["custom_headers"]["cross-origin-opener-policy"] == "same-origin"


def test_a_static_space_that_cannot_be_written_leaves_nothing(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_static_space(tmp_path / "space", model_folder, tmp_path / "nowhere")
    assert not (tmp_path / "space").exists()
    with pytest.raises(ValueError, match="--model"):
        write_static_space(tmp_path / "space", tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["file", "folder"])
def test_existing_output_is_kept(tmp_path, content):
    place = tmp_path / "space"
    if content == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="space"):
        write_space(place)
    assert (place if content == "file" else place / "mine.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["space"]


def test_a_full_disk_leaves_nothing(tmp_path, model_folder, monkeypatch):
    real = shutil.copyfile

    def disk_full(source, target, *args, **kwargs):
        if Path(target).parent.name == "model" and Path(target).suffix == ".safetensors":
            raise OSError(28, "No space left on device", str(target))
        return real(source, target, *args, **kwargs)

    monkeypatch.setattr(shutil, "copyfile", disk_full)
    (tmp_path / "here").mkdir()
    with pytest.raises(OSError, match="No space left"):
        write_space(tmp_path / "here" / "space", model_folder)
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("model", ["nowhere", "./nowhere/at/all", "owner/model/more", "owner/mo del", "", "empty/dir"])
def test_names_that_are_no_model(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "dir").mkdir(parents=True)
    with pytest.raises(ValueError, match="--model"):
        write_space(tmp_path / "space", model)
    assert os.listdir(tmp_path) == ["empty"]


def test_the_handler_goes_into_the_folder_of_a_model_with_its_code(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        write_handler(tmp_path)
    assert not (tmp_path / "handler.py").exists()
    written = write_handler(model_folder)
    assert written.read_bytes() == (PACKAGE / "serving" / "handler.py").read_bytes()
    assert set(CODE_FILES) <= files(model_folder)
    needed = (model_folder / "requirements.txt").read_text().splitlines()
    assert [line for line in needed if line.startswith("transformers")]
    assert not [line for line in needed if line.startswith(("typer", "gradio", "datasets", "anomalyclip"))]
