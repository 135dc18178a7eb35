# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Exported models in their runtimes, in processes without PyTorch, and what is said of files that cannot be run."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from anomalyclip_hf import AnomalyScorer
from anomalyclip_hf.scoring.runtimes import OnnxRuntimeBackend, OpenVinoBackend
from conftest import tiny_model


pytest_plugins = ["export.exports"]
BACKENDS = {"onnxruntime": OnnxRuntimeBackend, "openvino": OpenVinoBackend}


@pytest.fixture(scope="module")
def folders(exports):
    """Exports by the name of their runtime."""
    return {name: exports(name) for name in BACKENDS}


@pytest.fixture(params=BACKENDS)
def name(request):
    return request.param


def rename(folder, fingerprint):
    path = folder / "anomalyclip.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": fingerprint}))


def test_features_come_in_the_order_asked_for(folders, name):
    backend, pixel_values = BACKENDS[name](folders[name]), np.ones((2, 3, 40, 40), np.float32)
    third, second = backend.run(pixel_values, [3, 2]).patch_features
    np.testing.assert_array_equal(backend.run(pixel_values, [2]).patch_features[0], second)
    assert third.shape == second.shape == (2, 25, 48)
    assert np.abs(third - second).max() > 0.01
    assert backend.run(pixel_values).patch_features == ()


def test_a_size_or_layer_that_the_graph_was_not_made_for(folders, name):
    backend = BACKENDS[name](folders[name])
    with pytest.raises(ValueError, match="40, 40"):
        backend.run(np.zeros((1, 3, 48, 48), np.float32))
    with pytest.raises(ValueError, match=r"\[1\]"):
        backend.run(np.zeros((1, 3, 40, 40), np.float32), [1, 2])
    with pytest.raises(ValueError, match="pixels"):
        backend.run_image(np.zeros((9, 9, 3), np.uint8))


def test_another_model_under_the_same_name(folders, name, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(folders[name], folder)
    rename(folder, "another")
    with pytest.raises(ValueError, match="another"):
        AnomalyScorer(folder)


@pytest.mark.parametrize("damage", ["noise", "cut"])
def test_a_damaged_file_is_named(folders, name, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(folders[name], folder)
    file = folder / json.loads((folder / "anomalyclip.json").read_text())["files"].popitem()[0]
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * len(content))
    with pytest.raises(OSError, match=file.name):
        AnomalyScorer(folder)


def test_a_runtime_that_is_not_installed_names_its_extra(folders, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    extra = {"onnxruntime": "onnx", "openvino": "openvino"}[name]
    with pytest.raises(ImportError, match=rf"anomalyclip-hf\[{extra}\]"):
        AnomalyScorer(folders[name])


def test_the_scorer_picks_the_runtime_and_can_be_told_another(folders):
    assert [AnomalyScorer(folders[name]).backend.name for name in BACKENDS] == list(BACKENDS)
    other = AnomalyScorer(folders["onnxruntime"], backend="openvino", device=torch.device("cpu"), dtype=torch.float32)
    assert other.backend.name == "openvino"
    with pytest.raises(ValueError, match="torch"):
        AnomalyScorer(folders["openvino"], backend="torch")
    with pytest.raises(ValueError, match="onnxruntime"):
        AnomalyScorer(folders["openvino"], backend="onnxruntime")


PROGRAM = """
import sys
from anomalyclip_hf import AnomalyScorer
scorer = AnomalyScorer(sys.argv[1], pixel_threshold=0.5)
(result,) = scorer.score([sys.argv[2]])
print(result.score, result.anomaly_map.shape, sorted({"torch", "transformers"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("way", ["python", "predict"])
def test_runs_without_pytorch_and_transformers(folders, name, way, tmp_path, photo):
    photo.save(tmp_path / "photo.png")
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"} if way == "predict" else None
    command = ["-c", PROGRAM, str(folders[name]), str(tmp_path / "photo.png")]
    if way == "predict":
        command = ["-m", "anomalyclip_hf.cli", "predict", str(tmp_path / "photo.png"), "--model", str(folders[name])]
        command += ["--output-dir", str(tmp_path / "out"), "--pixel-threshold", "0.5", "--json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=True)
    (expected,) = AnomalyScorer(tiny_model()).score([photo])
    if way == "python":
        score, *rest = done.stdout.split(maxsplit=1)
        assert rest == ["(50, 80) []\n"]
    else:
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import ")}
        assert not {"torch", "transformers"} & imported
        assert "anomalyclip_hf.scoring.runtimes" in imported
        score = json.loads(done.stdout)[0]["score"]
    assert float(score) == pytest.approx(expected.score, abs=1e-5)
