# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The same images and masks give the same numbers through every door: processor, pipeline, engine, predict, evaluate,
exported graphs, Trainer, demo and handler."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from anomalyclip_hf import (
    AnomalyCLIPModel,
    AnomalyCLIPProcessor,
    AnomalyCLIPTrainer,
    AnomalyCLIPTrainingArguments,
    AnomalyDetectionMetric,
    AnomalyDetectionPipeline,
    AnomalyScorer,
    evaluate_model,
    load_anomaly_dataset,
)
from anomalyclip_hf.cli import main
from anomalyclip_hf.image_processing_anomalyclip import load_mask


pytest_plugins = ["export.exports"]
IMAGE_TOLERANCE, MAP_TOLERANCE, HALF_PRECISION = 1e-5, 1e-5, 1e-3


@pytest.fixture
def folder(parts_folder) -> Path:
    """Two categories; one pair is rotated by EXIF, one mask is empty, one is a JPEG, one image is 16-bit."""
    bolt, nut = parts_folder / "bolt", parts_folder / "nut"
    rotation = Image.Exif()
    rotation[ExifTags.Base.Orientation] = 6
    for path in (bolt / "test" / "scratch" / "000.png", bolt / "ground_truth" / "scratch" / "000_mask.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, exif=rotation)
    mask = nut / "ground_truth" / "scratch" / "001_mask.png"
    Image.new("L", Image.open(mask).size).save(mask)
    mask = nut / "ground_truth" / "scratch" / "002_mask.png"
    Image.open(mask).save(mask.with_suffix(".jpg"), quality=40)
    mask.unlink()
    deep = nut / "test" / "good" / "003.png"
    Image.fromarray(np.asarray(Image.open(deep).convert("L")).astype(np.uint16) * 257).save(deep)
    return parts_folder


@pytest.fixture
def dataset(folder):
    return load_anomaly_dataset("folder", folder)


@pytest.fixture
def by_hand(model_folder, folder, dataset) -> dict:
    """Scores, maps and metrics from the model and the processor alone."""
    model, processor = (
        AnomalyCLIPModel.from_pretrained(model_folder),
        AnomalyCLIPProcessor.from_pretrained(model_folder),
    )
    paths = [str(folder / row["path"]) for row in dataset]
    truths = []
    for path, label in zip(paths, dataset["label"], strict=True):
        found = [*Path(path.replace("/test/", "/ground_truth/")).parent.glob(f"{Path(path).stem}_mask.*")]
        truths.append(load_mask(str(found[0])) if label else None)
    inputs = processor(images=paths, masks=truths)
    with torch.no_grad():
        outputs = model(pixel_values=inputs["pixel_values"])
    results = processor.post_process_anomaly_detection(outputs)
    is_empty = [label == 1 and not truth.any() for label, truth in zip(dataset["label"], truths, strict=True)]
    assert sum(is_empty) == 1
    metric = AnomalyDetectionMetric()
    metric.add_batch(
        image_scores=[result["score"] for result in results],
        labels=dataset["label"],
        anomaly_maps=[result["anomaly_map"] for result in results],
        masks=[None if empty else mask for empty, mask in zip(is_empty, inputs["masks"], strict=True)],
        categories=dataset["category"],
    )
    maps = [result["anomaly_map"].numpy() for result in results]
    return {"paths": paths, "scores": outputs.image_scores.numpy(), "maps": maps, "metrics": metric.compute()}


def check_maps(maps, by_hand, tolerance=MAP_TOLERANCE):
    for anomaly_map, expected in zip(maps, by_hand["maps"], strict=True):
        np.testing.assert_allclose(np.asarray(anomaly_map), expected, atol=tolerance)


def check_metrics(found, by_hand):
    names = [name for name, value in by_hand["metrics"].items() if isinstance(value, float)]
    assert len(names) >= 7
    for name in names:
        assert found[name] == pytest.approx(by_hand["metrics"][name], abs=1e-4), name


def test_pipeline(model_folder, by_hand):
    pipe = AnomalyDetectionPipeline(
        model=AnomalyCLIPModel.from_pretrained(model_folder),
        processor=AnomalyCLIPProcessor.from_pretrained(model_folder),
    )
    results = pipe(by_hand["paths"], batch_size=3)
    np.testing.assert_allclose([result["score"] for result in results], by_hand["scores"], atol=IMAGE_TOLERANCE)
    for result, small in zip(results, by_hand["maps"], strict=True):
        height, width = np.asarray(result["anomaly_map"]).shape
        resized = torch.nn.functional.interpolate(torch.tensor(small)[None, None], (height, width), mode="bilinear")
        np.testing.assert_allclose(np.asarray(result["anomaly_map"]), resized[0, 0].numpy(), atol=MAP_TOLERANCE)


def test_engine(model_folder, by_hand):
    results = list(AnomalyScorer(model_folder, resolution="model", batch_size=3).score(by_hand["paths"]))
    np.testing.assert_allclose([result.score for result in results], by_hand["scores"], atol=IMAGE_TOLERANCE)
    check_maps([result.anomaly_map for result in results], by_hand)


def test_predict(model_folder, by_hand, tmp_path, monkeypatch):
    command = ["anomalyclip", "predict", *by_hand["paths"], "--model", str(model_folder)]
    monkeypatch.setattr(sys, "argv", [*command, "--output-dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == by_hand["paths"]
    np.testing.assert_allclose([row["score"] for row in rows], by_hand["scores"], atol=IMAGE_TOLERANCE)
    maps = [np.load(tmp_path / "out" / f"{row['output']}_map.npz")["anomaly_map"] for row in rows]
    check_maps(maps, by_hand, HALF_PRECISION)


def test_evaluate(model_folder, by_hand, dataset):
    result = evaluate_model(model_folder, dataset, batch_size=3, show_progress=False)
    np.testing.assert_allclose([row["score"] for row in result.rows], by_hand["scores"], atol=IMAGE_TOLERANCE)
    check_metrics(result.metrics, by_hand)


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_exported_graphs(exports, by_hand, dataset, kind):
    folder = exports(kind)
    results = list(AnomalyScorer(folder, resolution="model", batch_size=3).score(by_hand["paths"]))
    np.testing.assert_allclose([result.score for result in results], by_hand["scores"], atol=IMAGE_TOLERANCE)
    check_maps([result.anomaly_map for result in results], by_hand, 1e-4)
    check_metrics(evaluate_model(folder, dataset, batch_size=3, show_progress=False).metrics, by_hand)


@pytest.mark.parametrize("cache_features", [False, True])
def test_trainer(model_folder, by_hand, dataset, tmp_path, cache_features):
    args = AnomalyCLIPTrainingArguments(
        str(tmp_path / "run"), cache_features=cache_features, cache_dtype="float32", per_device_eval_batch_size=3
    )
    processor = AnomalyCLIPProcessor.from_pretrained(model_folder)
    model = AnomalyCLIPModel.from_pretrained(model_folder)
    metrics = AnomalyCLIPTrainer(model, args, eval_dataset=dataset, processing_class=processor).evaluate()
    check_metrics({name.removeprefix("eval_"): value for name, value in metrics.items()}, by_hand)


def test_demo(model_folder, by_hand):
    pytest.importorskip("gradio")
    from anomalyclip_hf.serving.demo_scoring import DemoModel

    demo = DemoModel(str(model_folder))
    for path, score in zip(by_hand["paths"], by_hand["scores"], strict=True):
        scored = demo.score(path, 10**8)
        result, _ = demo.draw(scored, 0.5, 0.5, 0.7)
        assert result["score"] == pytest.approx(float(score), abs=IMAGE_TOLERANCE)


def test_handler(model_folder, by_hand):
    from anomalyclip_hf.serving.handler import EndpointHandler

    handler = EndpointHandler(str(model_folder))
    content = base64.b64encode(Path(by_hand["paths"][0]).read_bytes()).decode()
    (answer,) = handler({"inputs": content})
    assert answer["score"] == pytest.approx(float(by_hand["scores"][0]), abs=IMAGE_TOLERANCE)
    with Image.open(io.BytesIO(base64.b64decode(answer["anomaly_map"]))) as picture:
        assert picture.size == (64, 48)
