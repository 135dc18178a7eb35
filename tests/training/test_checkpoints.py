# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.training.checkpoints import is_complete, latest_complete_checkpoint, mark_complete


def make(folder, content="prompts"):
    folder.mkdir()
    (folder / "prompts.safetensors").write_text(content)
    return folder


def test_the_newest_whole_one_is_found(tmp_path):
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


def test_a_damaged_seal_is_no_seal(tmp_path):
    folder = make(tmp_path / "checkpoint-1")
    mark_complete(folder)
    assert is_complete(folder)
    (folder / "complete.json").write_text("{")
    assert not is_complete(folder)
    (folder / "complete.json").write_text("[]")
    assert not is_complete(folder)
