# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The examples that run an exported model without this package, against the pipeline."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf import (
    AnomalyCLIPProcessor,
    AnomalyDetectionPipeline,
    AnomalyScorer,
    calibrate_model,
    store_calibration,
)
from conftest import tiny_model


pytest_plugins = ["export.exports"]
EXAMPLES = Path(__file__).parents[2] / "examples"
MINIMAL = EXAMPLES / "onnx_minimal.py"
CPP = EXAMPLES / "cpp"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def exported(exports) -> Path:
    return exports("onnxruntime")


@pytest.fixture(scope="module")
def processor(exported) -> AnomalyCLIPProcessor:
    return AnomalyCLIPProcessor.from_pretrained(exported)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Images that are reduced, enlarged, and both."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    for height, width in [(90, 130), (12, 17), (300, 20)]:
        blocks = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        blocks.resize((width, height)).save(folder / f"{height}x{width}.ppm")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(model, processor, pictures) -> list[dict]:
    return AnomalyDetectionPipeline(model, processor, device="cpu")([str(path) for path in pictures])


@pytest.fixture(scope="module")
def maps(model, processor, pictures) -> np.ndarray:
    """Maps at the model's size."""
    with torch.no_grad():
        outputs = model(**processor(images=[Image.open(path) for path in pictures]))
    results = processor.post_process_anomaly_detection(outputs)
    return np.stack([result["anomaly_map"] for result in results])


def run(command, **options) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300, **options)


def assert_scores_are(output: str, expected: list[dict], pictures: list[Path]) -> None:
    lines = [line.split(maxsplit=2) for line in output.splitlines()]
    assert [(label, path) for _, label, path in lines] == [
        (result["label"], str(path)) for result, path in zip(expected, pictures, strict=True)
    ]
    found = [float(score) for score, _, _ in lines]
    np.testing.assert_allclose(found, [result["score"] for result in expected], atol=1e-5)


def test_the_minimal_example_gives_the_scores_and_maps_of_the_pipeline(exported, pictures, expected, maps, tmp_path):
    # Nothing but its three packages can be imported.
    refuse = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'anomalyclip_hf']))"
    program = f"{refuse}; import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run([sys.executable, "-c", program, MINIMAL, exported, *pictures, "--maps", tmp_path / "maps"])
    assert done.returncode == 0, done.stderr
    assert_scores_are(done.stdout, expected, pictures)
    found = [np.load(tmp_path / "maps" / f"{path.stem}.npy") for path in pictures]
    np.testing.assert_allclose(found, maps, atol=1e-4)
    assert len(MINIMAL.read_text().splitlines()) <= 60


def test_the_minimal_example_names_what_it_cannot_score(exported, pictures, tmp_path):
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "cut.ppm").write_bytes(pictures[0].read_bytes()[:100])
    resizing = tmp_path / "resizing"
    shutil.copytree(exported, resizing)
    description = json.loads((exported / "anomalyclip.json").read_text())
    (resizing / "anomalyclip.json").write_text(json.dumps(description | {"input": "image"}))
    for arguments, name in [
        ([tmp_path / "nowhere", pictures[0]], "nowhere"),
        ([resizing, pictures[0]], "--preprocessing"),
        ([exported, tmp_path / "none.png"], "none.png"),
        ([exported, tmp_path / "cut.ppm"], "cut.ppm"),
        ([exported, tmp_path / "deep.png"], "deep.png"),
    ]:
        done = run([sys.executable, MINIMAL, *arguments])
        assert done.returncode == 1
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Compile the C++ example against the openvino wheel."""
    openvino = pytest.importorskip("openvino")
    if shutil.which("cmake") is None or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no CMake or no C++ compiler; install both to compile the example")
    build = tmp_path_factory.mktemp("build")
    packages = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    for command in (["cmake", "-S", CPP, "-B", build, packages], ["cmake", "--build", build]):
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "anomalyclip_score"


def test_the_cpp_example_gives_the_scores_and_maps_of_the_pipeline(
    program, exports, exported, processor, pictures, expected, maps, tmp_path
):
    lines = []
    for path in pictures:
        done = run([program, exported / "model.onnx", path, tmp_path / f"{path.stem}.pgm"])
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.strip())
    assert_scores_are("\n".join(lines), expected, pictures)
    done = run([program, exports("openvino") / "openvino_model.xml", pictures[0]])
    assert done.returncode == 0, done.stderr
    assert_scores_are(done.stdout, expected[:1], pictures[:1])
    found = [np.asarray(Image.open(tmp_path / f"{path.stem}.pgm")) for path in pictures]
    np.testing.assert_allclose(found, 255 * maps / processor.map_maximum, atol=0.51)
    assert len((CPP / "main.cpp").read_text().splitlines()) <= 150


def test_the_cpp_example_takes_the_calibration_that_came_after_the_export(program, exported, pictures, tmp_path):
    folder = tmp_path / "calibrated"
    shutil.copytree(exported, folder)
    found = calibrate_model(AnomalyScorer(folder, num_workers=1), list(map(str, pictures)), method="quantile")
    for threshold, label in [(0.0, "anomalous"), (1.0, "normal")]:
        store_calibration(replace(found, threshold=threshold), folder)
        (result,) = AnomalyScorer(folder, num_workers=1).score(pictures[:1])
        done = run([program, folder / "model.onnx", pictures[0]])
        assert done.stdout.split()[1] == result.label == label
    store_calibration(replace(found, image_score="fusion"), folder)
    done = run([program, folder / "model.onnx", pictures[0]])
    assert done.returncode == 1
    assert "image score" in done.stderr


def test_the_cpp_example_names_what_it_cannot_read(program, exported, pictures, tmp_path):
    (tmp_path / "short.ppm").write_bytes(pictures[0].read_bytes()[:100])
    Image.new("L", (4, 4)).save(tmp_path / "grey.pgm")
    model = exported / "model.onnx"
    for arguments, name in [
        ([tmp_path / "none.onnx", pictures[0]], "none.onnx"),
        ([model, tmp_path / "none.ppm"], "none.ppm"),
        ([model, tmp_path / "short.ppm"], "short.ppm"),
        ([model, tmp_path / "grey.pgm"], "grey.pgm"),
    ]:
        done = run([program, *arguments])
        assert done.returncode == 1
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1
