# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.training.examples import EpochOrder, TrainingImages, WeightedIndex, collate


def test_an_example_matches_the_processor(images, parts, processor):
    for index in (0, 5):
        row = parts[index]
        expected = processor(images=row["image"], masks=[row["mask"]])
        example = images[index]
        torch.testing.assert_close(example["pixel_values"], expected["pixel_values"][0])
        torch.testing.assert_close(example["masks"], expected["masks"][0])
        assert (example["labels"], example["mask_weights"], example["image_weights"]) == (row["label"], 1.0, 1.0)


@pytest.mark.parametrize("how", ["missing", "empty", "vanishing"])
def test_an_anomalous_image_without_truth_has_only_a_label(parts_folder, processor, how):
    path = parts_folder / "nut" / "ground_truth" / "scratch" / "002_mask.png"
    mask = Image.new("L", (400, 400))
    if how == "vanishing":
        mask.putpixel((200, 200), 255)
    path.unlink() if how == "missing" else mask.save(path)
    images = TrainingImages(load_anomaly_dataset("folder", parts_folder), processor)
    weights = {images.name(index): images[index]["mask_weights"] for index in range(len(images))}
    assert [name for name, weight in weights.items() if not weight] == ["nut/test/scratch/002.png"]


def test_only_the_first_mask_that_vanishes_is_named(parts_folder, processor, caplog):
    paths = sorted(parts_folder.rglob("*_mask.png"))
    for path in paths:
        width, height = Image.open(path).size
        mask = Image.new("L", (10 * width, 10 * height))
        mask.putpixel((5 * width, 5 * height), 255)
        mask.save(path)
    images = TrainingImages(load_anomaly_dataset("folder", parts_folder), processor)
    assert sum(not images[index]["mask_weights"] for index in range(len(images))) == len(paths) > 1
    assert len([record for record in caplog.records if "vanish" in record.getMessage()]) == 1


def test_synthetic_defects_follow_the_normal_images(parts, processor):
    images = TrainingImages(parts, processor, synthetic=True)
    assert len(images) == 16
    assert [images[index]["labels"] for index in range(16)] == [0] * 8 + [1] * 8
    assert images[8]["masks"].any()
    torch.testing.assert_close(images[8]["pixel_values"], images[8]["pixel_values"])
    assert not torch.equal(images[8]["pixel_values"], images[0]["pixel_values"])
    assert images.digest(8) != images.digest(0)
    assert images.name(8) == "bolt/test/good/000.png (synthetic defect)"


def test_several_datasets(parts, tmp_path, processor, photo):
    for kind in ("good", "crack"):
        (tmp_path / "wood" / kind).mkdir(parents=True)
        photo.save(tmp_path / "wood" / kind / "0.png")
    joined = datasets.concatenate_datasets([parts, load_anomaly_dataset("folder", tmp_path / "wood")])
    images = TrainingImages(joined, processor)
    batch = collate([images[index] for index in (0, 4, 16, 17)])
    assert sorted(batch["labels"].tolist()) == [0, 0, 1, 1]
    assert batch["mask_weights"].tolist().count(0.0) == 1  # wood has no masks


def test_datasets_that_cannot_be_trained_on_are_named(parts, processor):
    normal = parts.filter(lambda label: label == 0, input_columns="label")
    anomalous = parts.filter(lambda label: label == 1, input_columns="label")
    for dataset, kind in ((normal, "anomalous"), (anomalous, "normal")):
        with pytest.raises(ValueError, match=f"of train_dataset is {kind}.*synthetic_anomalies"):
            TrainingImages(dataset, processor).check_labels(both=True)
        TrainingImages(dataset, processor).check_labels()
    with pytest.raises(ValueError, match="no normal images"):
        TrainingImages(anomalous, processor, synthetic=True)
    unlabelled = parts.map(lambda row: {"label": None})
    with pytest.raises(ValueError, match="16 images of eval_dataset"):
        TrainingImages(unlabelled, processor, argument="eval_dataset").check_labels()
    for dataset in ([], parts.rename_column("image", "photo"), parts.to_iterable_dataset(), {"test": parts}):
        with pytest.raises(ValueError, match="train_dataset") as caught:
            TrainingImages(dataset, processor)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("length", "step_size"), [(16, 8), (13, 4), (3, 8)])
def test_the_order_of_an_epoch(length, step_size):
    order = EpochOrder(length, step_size, seed=1)
    items = list(order)
    assert len(items) == len(order)
    assert len(order) % step_size == 0
    assert sorted(item.number for item in items if item.weight) == list(range(length))
    for start in range(0, len(items), step_size):  # weights of each step add up to its size
        assert sum(item.weight for item in items[start : start + step_size]) == pytest.approx(step_size)
    assert list(order) == items
    order.set_epoch(1)
    assert length < 5 or [item.number for item in order] != [item.number for item in items]


def test_a_batch_fits_forward(images, model):
    batch = collate([images[WeightedIndex(0)], images[WeightedIndex(4, 0.5)]])
    batch.pop("indices")
    assert batch["image_weights"].tolist() == [1.0, 0.5]
    assert model(**batch).loss.isfinite()


def test_the_range_of_deep_images_comes_from_the_processor(processor):
    deep = np.full((8, 8), 1000, dtype=np.uint16)
    row = {"image": deep, "label": 0}
    plain, processor.value_range = TrainingImages([row], processor), (0, 2000)
    ranged = TrainingImages([row], processor)
    assert ranged.read(0).image.getpixel((0, 0)) == (128, 128, 128)
    assert plain.read(0).image.getpixel((0, 0)) != (128, 128, 128)
    assert plain.digest(0) != ranged.digest(0)
