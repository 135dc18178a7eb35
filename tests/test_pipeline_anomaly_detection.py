# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import json
import os
import signal
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset
from transformers.utils import logging

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor, AnomalyDetectionPipeline
from anomalyclip_hf.data.features import AnomalyImage
from anomalyclip_hf.modeling_anomalyclip import AnomalyMapHead


@pytest.fixture
def pipe(model_folder) -> AnomalyDetectionPipeline:
    return pipeline("anomaly-detection", model=str(model_folder), device="cpu")


def same(first: dict, second: dict) -> bool:
    return first["score"] == pytest.approx(second["score"], abs=1e-5) and np.allclose(
        np.asarray(first["anomaly_map"]), np.asarray(second["anomaly_map"]), atol=1e-5
    )


def test_equals_model_and_processor_by_hand(pipe, model_folder, photo):
    model = AnomalyCLIPModel.from_pretrained(model_folder)
    processor = AnomalyCLIPProcessor.from_pretrained(model_folder)
    with torch.no_grad():
        outputs = model(**processor(images=photo))
    expected = processor.post_process_anomaly_detection(outputs, target_sizes=[(50, 80)])[0]
    result = pipe(photo)
    assert result["score"] == pytest.approx(expected["score"])
    assert result["label"] == expected["label"]
    assert (result["anomaly_map"].mode, result["anomaly_map"].size) == ("F", photo.size)
    np.testing.assert_allclose(np.asarray(result["anomaly_map"]), expected["anomaly_map"].numpy(), atol=1e-6)
    assert result["mask"] is None


def test_every_kind_of_input(pipe, photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    expected = pipe(photo)
    assert same(pipe(str(path)), expected)
    assert same(pipe(path), expected)
    assert same(pipe(path.read_bytes()), expected)
    assert same(pipe(bytearray(path.read_bytes())), expected)
    assert same(pipe(np.asarray(photo)), expected)
    assert same(pipe(torch.tensor(np.asarray(photo)).permute(2, 0, 1)), expected)
    for several in (
        [photo, str(path)],
        (photo, photo),
        Dataset.from_dict({"image": [photo, photo]})["image"],
        Dataset.from_dict({"image": [photo, photo]}).to_iterable_dataset()["image"],
        KeyDataset(Dataset.from_dict({"image": [photo, photo]}), "image"),
        np.stack([np.asarray(photo)] * 2),
        (image for image in (photo, photo)),
    ):
        results = list(pipe(several))
        assert len(results) == 2
        assert all(same(result, expected) for result in results)
    assert pipe([]) == pipe(()) == []


def test_datasets_give_their_image_column(pipe, photo):
    dataset = Dataset.from_dict({"path": ["nowhere.png"] * 2, "image": [photo] * 2})
    expected = pipe(photo)
    for images in (dataset, dataset.to_iterable_dataset()):
        results = list(pipe(images, batch_size=2))
        assert len(results) == 2
        assert all(same(result, expected) for result in results)
    assert isinstance(pipe(dataset), list)


class KillsItsWorker(io.BytesIO):
    """A file whose reader the system kills, unless it is the process of the test."""

    def read(self, *size: int) -> bytes:
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(*size)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_killed_worker_costs_no_result(pipe, photo, caplog, monkeypatch, batch_size):
    monkeypatch.setattr("anomalyclip_hf.pipeline_anomaly_detection.logger.propagate", True)
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    images = [photo.resize((30 + index, 20)) for index in range(7)]
    images[4] = KillsItsWorker(buffer.getvalue())
    results = pipe(images, num_workers=2, batch_size=batch_size)
    assert len(caplog.records) == 1
    monkeypatch.setattr("anomalyclip_hf.pipeline_anomaly_detection.logger.propagate", False)
    expected = pipe([*images[:4], photo, *images[5:]])
    assert all(same(*pair) for pair in zip(results, expected, strict=True))


def test_workers_share_a_dataset(pipe, photo):
    dataset = Dataset.from_dict({"image": [photo.resize((30 + index, 20)) for index in range(5)]})
    expected = pipe(dataset)
    results = pipe(dataset, num_workers=2)
    assert all(same(*pair) for pair in zip(results, expected, strict=True))


def test_prompts_and_smoothing_are_prepared_once_and_follow_changes(pipe, photo, monkeypatch):
    heads, embed = Mock(wraps=AnomalyMapHead), Mock(wraps=pipe.model.get_text_embeds)
    monkeypatch.setattr("anomalyclip_hf.pipeline_anomaly_detection.AnomalyMapHead", heads)
    monkeypatch.setattr(pipe.model, "get_text_embeds", embed)
    first = pipe([photo] * 3)[0]
    assert (heads.call_count, embed.call_count) == (0, 1)
    pipe.processor.smoothing_sigma += 1.5
    with torch.no_grad():
        for prompt in pipe.model.prompt_learner.parameters():
            prompt.neg_()
    changed, again = pipe([photo] * 2)
    assert (heads.call_count, embed.call_count) == (1, 2)
    assert not same(changed, first)
    assert same(changed, again)
    assert same(changed, AnomalyDetectionPipeline(model=pipe.model, processor=pipe.processor)(photo))


def test_file_objects(pipe, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    expected = pipe(photo)
    with (tmp_path / "photo.png").open("rb") as file:
        assert same(pipe(file), expected)
    assert same(pipe([io.BytesIO((tmp_path / "photo.png").read_bytes())])[0], expected)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_unreadable_images_cost_only_themselves_when_skipped(pipe, photo, tmp_path, batch_size):
    (tmp_path / "empty.png").touch()
    images = [photo, str(tmp_path / "empty.png"), photo, str(tmp_path / "gone.png"), photo]
    results = pipe(images, on_error="skip", batch_size=batch_size)
    assert [set(result) == {"error"} for result in results] == [False, True, False, True, False]
    assert "empty.png" in results[1]["error"]
    assert "gone.png" in results[3]["error"]
    assert all(same(results[index], pipe(photo)) for index in (0, 2, 4))
    with pytest.raises(ValueError, match="empty.png"):
        pipe(images)


def test_a_processor_of_another_size_is_refused(model_folder):
    model = AnomalyCLIPModel.from_pretrained(model_folder)
    processor = AnomalyCLIPProcessor.from_config(model.config)
    processor.image_processor.size = {"height": 48, "width": 48}
    with pytest.raises(ValueError, match="image_size"):
        AnomalyDetectionPipeline(model=model, processor=processor)


def test_the_demonstration_model_is_named_once(caplog, monkeypatch):
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    monkeypatch.setattr("anomalyclip_hf.pipeline_anomaly_detection.logger.propagate", True)
    logging.warning_once.cache_clear()
    for _ in range(2):
        pipeline("anomaly-detection")
    assert sum("demonstration model" in record.getMessage() for record in caplog.records) == 1


def test_a_model_in_memory_gets_the_processor_that_fits(model_folder, photo):
    model = AnomalyCLIPModel.from_pretrained(model_folder)
    own = AnomalyDetectionPipeline(model=model, threshold=0.2)
    processor = AnomalyCLIPProcessor.from_config(model.config)
    assert same(own(photo), pipeline("anomaly-detection", model=model, processor=processor)(photo))
    assert own(photo)["label"] == "anomalous"


def test_batches_of_different_sizes(pipe, photo):
    images = [photo.resize((30 + 7 * index, 60 - 5 * index)) for index in range(5)]
    one_by_one = pipe(images)
    for batch_size in (2, 5, 8):
        batched = pipe(images, batch_size=batch_size)
        assert [result["anomaly_map"].size for result in batched] == [image.size for image in images]
        assert all(same(*pair) for pair in zip(batched, one_by_one, strict=True))


def test_thresholds(pipe, photo):
    score = pipe(photo)["score"]
    assert pipe(photo, threshold=score / 2)["label"] == "anomalous"
    assert pipe(photo, threshold=(1 + score) / 2)["label"] == "normal"
    values = np.asarray(pipe(photo)["anomaly_map"])
    level = float(np.median(values))
    result = pipe(photo, pixel_threshold=level)
    assert result["mask"].mode == "L"
    np.testing.assert_array_equal(np.asarray(result["mask"]), (values >= level) * np.uint8(255))
    assert sum(region["area"] for region in result["regions"]) == (values >= level).sum()


def test_settings_of_the_pipeline_hold_for_every_call(model_folder, photo):
    pipe = pipeline("anomaly-detection", model=str(model_folder), pixel_threshold=0.0, output="json", batch_size=2)
    result = pipe(photo)
    assert isinstance(result["mask"], str)
    assert result["regions"][0]["area"] == 50 * 80


def test_json(pipe, photo):
    result = pipe(photo, output="json", pixel_threshold=0.5)
    again = json.loads(json.dumps(result))
    assert again == result
    picture = Image.open(io.BytesIO(base64.b64decode(result["anomaly_map"])))
    restored = np.asarray(picture).astype(float) / 65535 * result["anomaly_map_maximum"]
    np.testing.assert_allclose(restored, np.asarray(pipe(photo)["anomaly_map"]), atol=1 / 65535)
    assert Image.open(io.BytesIO(base64.b64decode(result["mask"]))).size == photo.size


def test_dtype(model_folder, photo):
    pipe = pipeline("anomaly-detection", model=str(model_folder), dtype=torch.bfloat16, device="cpu")
    assert pipe.model.dtype == torch.bfloat16
    assert 0 <= pipe(photo)["score"] <= 1


def test_saved_pipelines_load_and_hold_no_path_of_this_machine(pipe, photo, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "config.json",
        "model.safetensors",
        "processor_config.json",
    }
    assert "custom_pipelines" not in (tmp_path / "saved" / "config.json").read_text()
    for file in ("config.json", "processor_config.json"):
        assert str(tmp_path) not in (tmp_path / "saved" / file).read_text()
    again = pipeline("anomaly-detection", model=str(tmp_path / "saved"))
    assert same(again(photo), pipe(photo))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"output": "xml"}, "output is 'xml'"),
        ({"threshold": 7}, "threshold is 7"),
        ({"pixel_threshold": -1}, "is -1"),
        ({"pixel_threshold": 2.5}, "pixel_threshold is 2.5"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
    ],
)
def test_arguments_that_make_no_sense(pipe, photo, arguments, words):
    with pytest.raises(ValueError, match=words):
        pipe(photo, **arguments)


@pytest.mark.parametrize("kind", [str, lambda folder: folder, lambda folder: [folder / "good.png"]])
def test_references_have_to_be_a_memory(pipe, photo, tmp_path, kind):
    photo.save(tmp_path / "good.png")
    with pytest.raises(ValueError, match="^references is .*ReferenceMemory.from_images"):
        pipe(photo, references=kind(tmp_path))


def test_unreadable_images_are_named(pipe, tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        pipe(str(tmp_path / "empty.png"))
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        pipe(str(tmp_path / "gone.png"))


def test_an_unreadable_file_in_an_image_column_costs_only_itself(pipe, photo, tmp_path):
    photo.save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    paths = [str(tmp_path / name) for name in ("good.png", "bad.png", "good.png")]
    for feature in (ImageFeature(), AnomalyImage()):
        dataset = Dataset.from_dict({"image": paths}).cast_column("image", feature)
        first, second, third = pipe(dataset, on_error="skip")
        assert "bad.png" in second["error"]
        assert same(first, third)
        with pytest.raises(ValueError, match=r"bad\.png"):
            pipe(dataset)


def test_a_dataset_without_an_image_column_is_refused(pipe):
    with pytest.raises(ValueError, match="path, label"):
        pipe(Dataset.from_dict({"path": ["a.png"], "label": [0]}))
