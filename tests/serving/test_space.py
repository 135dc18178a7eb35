# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import ast
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from huggingface_hub import RepoCard, SpaceCard

import anomalyclip_hf
from anomalyclip_hf.serving.space import export_space, write_handler


PACKAGE = Path(anomalyclip_hf.__file__).parent


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def model_of(space: Path) -> str:
    """The expression that the app gives as its model."""
    tree = ast.parse((space / "app.py").read_text())
    (value,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "MODEL"]
    return ast.unparse(value)


def test_with_the_demonstration_model(tmp_path):
    space = export_space(tmp_path / "space")
    assert model_of(space) == "None"
    own = {f"anomalyclip_hf/{name}" for name in files(PACKAGE) if "__pycache__" not in name}
    linked = {f"anomalyclip_hf/assets/example_images/{path.name}" for path in PACKAGE.glob("assets/example_images/*")}
    assert len(linked) == 10
    assert files(space) == {"app.py", "README.md", "requirements.txt"} | own | linked
    assert not any(path.is_symlink() for path in space.rglob("*"))


def test_samples_where_git_makes_no_links(tmp_path):
    """As on Windows: the link is a text file with the place to which it leads."""
    checkout = tmp_path / "checkout"
    left_out = shutil.ignore_patterns("__pycache__", "example_images")
    shutil.copytree(PACKAGE, checkout / PACKAGE.name, ignore=left_out)
    shutil.copytree(PACKAGE.parent / "examples" / "images", checkout / "examples" / "images")
    link = checkout / PACKAGE.name / "assets" / "example_images"
    link.write_text("../../examples/images")
    program = "from anomalyclip_hf.serving.space import export_space; export_space('space')"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
    samples = tmp_path / "space" / PACKAGE.name / "assets" / "example_images"
    assert files(samples) == files(checkout / "examples" / "images")


def test_the_card_is_one_that_the_hub_reads(tmp_path):
    space = export_space(tmp_path / "space", "owner/some-model")
    card = RepoCard.load(space / "README.md")
    data = SpaceCard(card.content).data
    assert (data.sdk, data.sdk_version, data.app_file) == ("gradio", version("gradio"), "app.py")
    assert (data.license, data.models, data.title) == (
        "apache-2.0",
        ["owner/some-model"],
        "Zero-shot anomaly detection",
    )
    fields = data.to_dict()
    colours = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
    assert fields["colorFrom"] in colours
    assert fields["colorTo"] in colours
    assert fields["pinned"] is False
    assert len(fields["emoji"]) == 1
    assert 0 < len(fields["short_description"]) <= 60  # the Hub's limit
    assert "models" not in SpaceCard.load(export_space(tmp_path / "other") / "README.md").data.to_dict()


def test_with_a_model_of_the_hub(tmp_path):
    space = export_space(tmp_path / "space", "owner/some-model")
    assert model_of(space) == "'owner/some-model'"
    assert not (space / "anomalyclip_hf" / "assets" / "default_model").exists()
    assert (space / "anomalyclip_hf" / "assets" / "__init__.py").exists()
    assert not (space / "model").exists()


def test_with_a_folder(tmp_path, model_folder):
    (model_folder / ".cache").mkdir()
    (model_folder / ".cache" / "token").write_text("secret")
    space = export_space(tmp_path / "space", model_folder)
    assert "'model'" in model_of(space)
    assert files(space / "model") == {name for name in files(model_folder) if not name.startswith(".cache")}
    assert not (space / "anomalyclip_hf" / "assets" / "default_model").exists()


def test_requirements_are_those_of_the_package(tmp_path):
    lines = (export_space(tmp_path / "space") / "requirements.txt").read_text().splitlines()
    assert lines == sorted(line for line in requires("anomalyclip-hf") if "extra ==" not in line)
    assert any(line.startswith("torch>=") for line in lines)


@pytest.mark.parametrize("content", ["file", "folder"])
def test_what_is_there_already_is_kept(tmp_path, content):
    place = tmp_path / "space"
    if content == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already and is not an empty folder"):
        export_space(place)
    assert (place if content == "file" else place / "mine.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["space"]


def test_whole_or_not_at_all(tmp_path, model_folder, monkeypatch):
    real = shutil.copyfile

    def disk_full(source, target, *args, **kwargs):
        if Path(target).parent.name == "model" and Path(target).suffix == ".safetensors":
            raise OSError(28, "No space left on device", str(target))
        return real(source, target, *args, **kwargs)

    monkeypatch.setattr(shutil, "copyfile", disk_full)
    (tmp_path / "here").mkdir()
    with pytest.raises(OSError, match="No space left"):
        export_space(tmp_path / "here" / "space", model_folder)
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("model", ["nowhere", "./nowhere/at/all", "owner/model/more", "owner/mo del", ""])
def test_models_that_are_none(tmp_path, model):
    with pytest.raises(ValueError, match="neither a folder with a config.json nor a Hub id"):
        export_space(tmp_path / "space", model)
    assert os.listdir(tmp_path) == []


def test_a_folder_without_a_model_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    with pytest.raises(ValueError, match="neither a folder"):
        export_space(tmp_path / "space", "owner/model")


def test_the_handler_goes_into_models_only(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        write_handler(tmp_path)
    assert not (tmp_path / "handler.py").exists()
    written = write_handler(model_folder)
    assert written.read_bytes() == (PACKAGE / "serving" / "handler.py").read_bytes()


def test_of_a_model_goes_along_what_belongs_to_it(tmp_path, model_folder):
    for stray in ("optimizer.pt", "training_args.bin"):
        (model_folder / stray).write_text("mine")
    (model_folder / "_features").mkdir()
    (model_folder / "checkpoint-3").mkdir()
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/home/me/clip"}))
    copied = export_space(tmp_path / "space", model_folder) / "model"
    assert {path.name for path in copied.iterdir()} == {"config.json", "model.safetensors", "processor_config.json"}
    assert "/home/me" not in (copied / "config.json").read_text()
    assert "/home/me" in (model_folder / "config.json").read_text()
