# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from transformers import pipeline

from anomalyclip_hf import AnomalyScorer, evaluate_model, load_anomaly_dataset
from anomalyclip_hf.data.samples import SampleReader
from anomalyclip_hf.evaluation import counting, evaluating
from anomalyclip_hf.image_processing_anomalyclip import masks_to_tensor
from anomalyclip_hf.io.locks import lock_folder
from anomalyclip_hf.metrics import histogram, inputs


def scores_of(result) -> list[float]:
    return [row["score"] for row in result.rows]


@pytest.mark.parametrize("resolution", ["model", "original"])
def test_metrics_equal_those_of_a_slow_loop(evaluate, model, processor, parts_folder, resolution):
    result = evaluate(batch_size=3, resolution=resolution)
    labels, scores, pixels, values = {}, {}, {}, {}
    for row in load_anomaly_dataset("folder", parts_folder):
        with torch.no_grad():
            outputs = model(**processor(images=row["image"]))
        size = [row["image"].size[::-1]] if resolution == "original" else None
        single = processor.post_process_anomaly_detection(outputs, target_sizes=size)[0]
        mask = np.asarray(row["mask"]) > 0 if row["mask"] else np.zeros(row["image"].size[::-1], bool)
        if resolution == "model":
            mask = masks_to_tensor([mask], tuple(single["anomaly_map"].shape))[0].numpy() > 0
        labels.setdefault(row["category"], []).append(row["label"])
        scores.setdefault(row["category"], []).append(single["score"])
        pixels.setdefault(row["category"], []).append(mask.ravel())
        values.setdefault(row["category"], []).append(single["anomaly_map"].numpy().ravel())
    assert set(result.metrics["per_category"]) == {"bolt", "nut"}
    for category, found in result.metrics["per_category"].items():
        assert found["image_auroc"] == pytest.approx(roc_auc_score(labels[category], scores[category]), abs=1e-12)
        exact = roc_auc_score(np.concatenate(pixels[category]), np.concatenate(values[category]))
        assert found["pixel_auroc"] == pytest.approx(exact, abs=1e-4)
    assert scores_of(result) == pytest.approx(scores["bolt"] + scores["nut"], abs=1e-6)
    assert [row["index"] for row in result.rows] == list(range(16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_equal_those_of_the_pipeline(model, processor, parts, dtype):
    model = model.to(dtype)
    result = evaluate_model(AnomalyScorer(model, processor, batch_size=1), parts, show_progress=False)
    pipe = pipeline("anomaly-detection", model=model, processor=processor)
    expected = [pipe(image)["score"] for image in parts["image"]]
    assert scores_of(result) == pytest.approx(expected, abs=1e-5)


def test_pixels_are_counted_on_the_gpu_of_the_model(evaluate, monkeypatch):
    expected, maps = evaluate().metrics, []
    monkeypatch.setattr(AnomalyScorer, "gpu", torch.device("cpu"))
    for module in (histogram, inputs):  # tensors go the way of those on a GPU
        monkeypatch.setattr(module, "is_on_gpu", torch.is_tensor)
    count = histogram.TensorCounts.add
    monkeypatch.setattr(histogram.TensorCounts, "add", lambda self, *keys: (maps.append(keys), count(self, *keys)))
    assert evaluate().metrics == expected
    assert len(maps) == 16


def test_the_batch_size_does_not_matter(evaluate):
    one, many = evaluate(batch_size=1).metrics, evaluate(batch_size=16).metrics
    assert one["pixel_auroc"] == pytest.approx(many["pixel_auroc"], abs=1e-4)
    assert one["image_auroc"] == many["image_auroc"]


def test_an_unreadable_image_is_skipped_or_raises(evaluate, parts_folder):
    (parts_folder / "nut" / "test" / "good" / "002.png").write_bytes(b"no image")
    result = evaluate()
    failed = [row for row in result.rows if row["error"]]
    assert [row["path"] for row in failed] == ["nut/test/good/002.png"]
    assert (failed[0]["label"], failed[0]["category"], failed[0]["score"]) == (0, "nut", None)
    assert [entry["path"] for entry in result.summary["skipped"]] == ["nut/test/good/002.png"]
    assert (result.summary["images"], result.summary["normal"], result.summary["anomalous"]) == (15, 7, 8)
    with pytest.raises(ValueError, match=r"002\.png"):
        evaluate(on_error="raise")


def test_masks_of_another_size_or_orientation(evaluate, parts_folder):
    expected = evaluate().metrics["per_category"]["bolt"]
    image_path = parts_folder / "bolt" / "test" / "scratch" / "001.png"
    mask_path = parts_folder / "bolt" / "ground_truth" / "scratch" / "001_mask.png"
    image, mask = Image.open(image_path).copy(), Image.open(mask_path).copy()

    rotated = Image.Exif()
    rotated[0x0112] = 6  # shown after a turn by 90 degrees
    for path, picture in ((image_path, image), (mask_path, mask)):
        picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=rotated)
    assert evaluate().metrics["per_category"]["bolt"] == pytest.approx(expected)

    image.save(image_path)
    mask.resize((128, 96)).save(mask_path)
    assert not any(row["error"] for row in evaluate().rows)
    mask.resize((48, 64)).save(mask_path)
    errors = [row["error"] for row in evaluate().rows if row["error"]]
    assert len(errors) == 1
    assert "bolt/test/scratch/001.png" in errors[0]


def test_empty_and_vanished_masks_are_left_out_and_reported(evaluate, parts_folder):
    masks = parts_folder / "bolt" / "ground_truth" / "scratch"
    empty, tiny = Image.new("L", (64, 48)), Image.new("L", (64, 48))
    tiny.putpixel((3, 3), 255)
    empty.save(masks / "000_mask.png")
    tiny.save(masks / "001_mask.png")
    result = evaluate()
    notes = {row["path"]: row["note"] for row in result.rows if row["note"]}
    assert list(notes) == ["bolt/test/scratch/000.png", "bolt/test/scratch/001.png"]
    assert "empty" in notes["bolt/test/scratch/000.png"]
    assert "vanishes" in notes["bolt/test/scratch/001.png"]
    assert "--resolution original" in notes["bolt/test/scratch/001.png"]
    assert result.summary["notes"] == list(notes.values())
    assert "2" in result.metrics["notes"]["masks"]["bolt"]
    original = evaluate(resolution="original")
    assert len(original.summary["notes"]) == 1
    assert "1" in original.metrics["notes"]["masks"]["bolt"]


def test_pixels_are_counted_only_when_asked_for(evaluate):
    result = evaluate(metrics=["image_auroc"])
    assert result.metrics["pixel_auroc"] is None
    assert result.metrics["image_ap"] is not None
    assert "image AP" not in repr(result)


def test_a_model_that_returns_nan_stops(evaluate, model):
    with torch.no_grad():
        model.clip.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"bolt/test/good/000\.png .*NaN"):
        evaluate()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"resolution": "huge"}, "resolution"),
        ({"metrics": ["image_auc"]}, "image_auc"),
        ({"on_error": "fail"}, "on_error"),
        ({"aupro_limit": 0}, "aupro_limit"),
        ({"recalls": [0.5, 0.0]}, "recalls"),
        ({"recalls": [float("nan")]}, "recalls"),
        ({"device": "cpu"}, "device"),
    ],
)
def test_wrong_arguments(evaluate, options, name):
    with pytest.raises(ValueError, match=name):
        evaluate(**options)


def test_images_without_labels_are_refused(model, photo):
    with pytest.raises(ValueError, match="1 images have no label"):
        evaluate_model(model, [photo])


def test_any_dataset_with_images_and_labels(model, processor, parts):
    plain = datasets.Dataset.from_dict(
        {"image": parts["image"][:], "label": parts["label"][:]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )
    scorer = AnomalyScorer(model, processor, resolution="original")
    result = evaluate_model(scorer, plain, dataset_name="parts", show_progress=False)
    assert scorer.resolution == "original"  # the caller's engine stays as it was
    assert result.metrics["per_category"] == {}
    assert result.metrics["image_auroc"] == pytest.approx(roc_auc_score(plain["label"][:], scores_of(result)))
    assert result.metrics["pixel_auroc"] is None
    assert result.rows[3]["path"] == "image 3"
    assert set(result.summary["thresholds"]) == {"all images"}
    assert result.summary["dataset"]["name"] == "parts"


def test_a_folder_as_the_model(model_folder, parts):
    result = evaluate_model(str(model_folder), parts, show_progress=False, batch_size=4, num_workers=1)
    assert result.summary["model"] == str(model_folder)
    assert repr(result).splitlines()[0] == "EvaluationResult of 16 images, 0 skipped"
    assert f"{100 * result.metrics['image_auroc']:.1f}" in repr(result)


def test_an_interrupted_evaluation_continues(evaluate, tmp_path, monkeypatch):
    whole = evaluate(output_dir=tmp_path / "whole")
    monkeypatch.setattr(counting, "SECONDS_BETWEEN_SAVES", 0)
    opened, read = [], SampleReader.read

    def read_until(self, index):
        if index == stop:
            raise KeyboardInterrupt
        opened.append(index)
        return read(self, index)

    monkeypatch.setattr(SampleReader, "read", read_until)
    stop = 6
    with pytest.raises(KeyboardInterrupt):
        evaluate(output_dir=tmp_path / "half", batch_size=2)
    assert not (tmp_path / "half" / "results.json").exists()
    stop, opened[:] = None, []
    monkeypatch.setattr(evaluating, "write_report", lambda *args: None)  # it opens images again
    resumed = evaluate(output_dir=tmp_path / "half", batch_size=2)
    assert 0 not in opened
    assert sorted(opened)[-10:] == list(range(6, 16))
    assert [row["index"] for row in resumed.rows] == list(range(16))
    assert scores_of(resumed) == pytest.approx(scores_of(whole), abs=1e-6)


def test_progress_of_another_evaluation_is_refused_or_deleted(evaluate, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as context:
        context.setattr(evaluating, "write_report", fail)
        with pytest.raises(OSError, match="disk full"):
            evaluate(output_dir=tmp_path)
    assert (tmp_path / "progress").exists()
    with pytest.raises(ValueError, match="restart"):
        evaluate(output_dir=tmp_path, resolution="original")
    evaluate(output_dir=tmp_path, resolution="original", restart=True)
    assert not (tmp_path / "progress").exists()


def test_results(tmp_path, evaluate):
    result = evaluate(output_dir=tmp_path, dataset_name="parts")
    assert {path.name for path in tmp_path.iterdir()} >= {"results.json", "scores.parquet", "report.html"}
    assert not (tmp_path / "progress").exists()
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["metrics"] == result.metrics
    assert (summary["images"], summary["normal"], summary["anomalous"]) == (16, 8, 8)
    low, high = summary["confidence_intervals"]["image_auroc"]
    assert low <= summary["metrics"]["image_auroc"] <= high
    assert summary["thresholds"]["bolt"]["image"] in scores_of(result)
    assert summary["decisions"] == result.summary["decisions"]
    for name, thresholds in summary["thresholds"].items():
        assert summary["decisions"][name]["best_f1"]["threshold"] == thresholds["image"]
        assert [count["asked_recall"] for count in summary["decisions"][name]["at_recall"]] == [0.9, 0.95, 1.0]
    rows = datasets.Dataset.from_parquet(str(tmp_path / "scores.parquet"), cache_dir=tmp_path / "cache")
    assert rows.to_list() == result.rows
    assert rows["path"][:2] == ["bolt/test/good/000.png", "bolt/test/good/001.png"]


def test_no_image_can_be_read(tmp_path, evaluate, parts_folder):
    for path in parts_folder.rglob("test/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 16 images .*bolt/test/good/000\.png"):
        evaluate()


def test_a_second_run_at_the_same_time_is_refused(evaluate, tmp_path):
    with lock_folder(tmp_path / "out"), pytest.raises(BlockingIOError, match="out"):
        evaluate(output_dir=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
