# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from anomalyclip_hf.training.checkpoints import (
    check_output_dir,
    is_complete,
    latest_complete_checkpoint,
    mark_complete,
)


def make(folder, content="prompts"):
    folder.mkdir()
    (folder / "prompts.safetensors").write_text(content)
    return folder


def test_the_latest_complete_checkpoint_is_found(tmp_path):
    assert latest_complete_checkpoint(tmp_path) is None
    for step in (9, 10, 100, 200):
        make(tmp_path / f"checkpoint-{step}")
    assert latest_complete_checkpoint(tmp_path) is None
    for step in (9, 10, 100):
        mark_complete(tmp_path / f"checkpoint-{step}")
    assert latest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-100"  # 200 was never finished
    (tmp_path / "checkpoint-100" / "prompts.safetensors").write_text("promptz")
    assert latest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "prompts.safetensors").unlink()
    assert latest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_damaged_digests_do_not_mark_a_checkpoint_as_complete(tmp_path):
    folder = make(tmp_path / "checkpoint-1")
    mark_complete(folder)
    assert is_complete(folder)
    (folder / "complete.json").write_text("{")
    assert not is_complete(folder)
    (folder / "complete.json").write_text("[]")
    assert not is_complete(folder)


def test_an_output_folder_without_results_can_be_used(tmp_path):
    for resume in (True, False):
        check_output_dir(tmp_path / "missing", resume)
        check_output_dir(tmp_path, resume)
    (tmp_path / "notes.txt").write_text("mine")
    check_output_dir(tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "README.md", "training.json", "model.safetensors", "checkpoint-2/trainer_state.json"]
)
def test_results_without_a_complete_checkpoint_are_never_overwritten(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    for resume in (True, False):
        with pytest.raises(FileExistsError, match=name):
            check_output_dir(tmp_path, resume)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]


def test_results_with_a_complete_checkpoint_can_be_resumed(tmp_path):
    make(tmp_path / "checkpoint-2")
    with pytest.raises(FileExistsError, match="--resume"):
        check_output_dir(tmp_path)
    check_output_dir(tmp_path, resume=True)  # the first checkpoint was cut off
    (tmp_path / "config.json").write_text("{}")
    mark_complete(tmp_path / "checkpoint-2")
    check_output_dir(tmp_path, resume=True)
    with pytest.raises(FileExistsError, match="config.json"):
        check_output_dir(tmp_path)
