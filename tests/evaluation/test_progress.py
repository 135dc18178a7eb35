# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from anomalyclip_hf import AnomalyDetectionMetric, AnomalyScorer, load_anomaly_dataset
from anomalyclip_hf.data.samples import SampleReader
from anomalyclip_hf.evaluation.progress import Counted, Progress, evaluation_key


def count(indices) -> Counted:
    """Count some of ten images."""
    counted = Counted(AnomalyDetectionMetric())
    for index in indices:
        rng = np.random.default_rng(index)
        mask = np.eye(8) * (index % 2)
        counted.metric.add(image_score=rng.random(), label=index % 2, anomaly_map=rng.random((8, 8)), mask=mask)
        counted.rows.append({"index": index, "score": rng.random(), "error": None})
    return counted


def indices_of(counted: Counted) -> set[int]:
    return {row["index"] for row in counted.rows}


def test_counts_of_several_processes_are_loaded(tmp_path):
    Progress(tmp_path, "key").save(count([0, 5]))
    Progress(tmp_path, "key").save(count([3]))
    loaded, whole = Progress(tmp_path, "key").load(0.3), count([0, 5, 3])
    assert indices_of(loaded) == {0, 3, 5}
    assert sorted(map(str, loaded.rows)) == sorted(map(str, whole.rows))
    assert loaded.metric.compute()["pixel_auroc"] == whole.metric.compute()["pixel_auroc"]


def test_a_file_replaces_those_that_it_continues(tmp_path):
    Progress(tmp_path, "key").save(count([0, 5]))
    first = next(tmp_path.glob("*.npz"))
    content = first.read_bytes()
    second = Progress(tmp_path, "key")
    counted = second.load(0.3)
    counted.merge(count([7]))
    second.save(counted)
    assert not first.exists()
    first.write_bytes(content)  # as if the kill had come before it was deleted
    assert len(Progress(tmp_path, "key").load(0.3).metric) == 3


def test_progress_of_another_evaluation_is_refused(tmp_path):
    Progress(tmp_path, "key").save(count([0]))
    with pytest.raises(ValueError, match=r"--restart"):
        Progress(tmp_path, "other").load(0.3)


@pytest.mark.parametrize("damage", ["half-written", "cut", "empty", "text"])
def test_damaged_files_are_ignored(tmp_path, damage):
    Progress(tmp_path, "key").save(count([0, 5]))
    whole = next(tmp_path.glob("*.npz"))
    content = {"cut": whole.read_bytes()[:-200], "empty": b"", "text": b"no archive"}
    name = ".0.partial-7.npz" if damage == "half-written" else "0.npz"
    (tmp_path / name).write_bytes(content.get(damage, whole.read_bytes()[:300]))
    assert indices_of(Progress(tmp_path, "key").load(0.3)) == {0, 5}


def test_clear(tmp_path):
    progress = Progress(tmp_path / "progress", "key")
    progress.clear()
    progress.save(count([0]))
    progress.clear()
    assert not (tmp_path / "progress").exists()


def test_the_key_depends_on_weights_files_and_settings(model, processor, parts_folder):
    def key(limit: float = 0.3) -> str:
        reader = SampleReader(load_anomaly_dataset("folder", parts_folder))
        return evaluation_key(AnomalyScorer(model, processor), reader, {"aupro_limit": limit})

    keys = [key()]
    assert key() == keys[0]
    keys.append(key(0.2))
    processor.smoothing_sigma = 2.0
    keys.append(key())
    with torch.no_grad():
        next(model.prompt_learner.parameters()).data[0] += 1e-3
    keys.append(key())
    path = parts_folder / "nut" / "test" / "good" / "003.png"
    path.write_bytes(path.read_bytes() + b" ")
    keys.append(key())
    path.unlink()
    keys.append(key())
    assert len(set(keys)) == len(keys)
