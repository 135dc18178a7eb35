# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import collections
import shutil

import pytest
import torch
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.training import feature_cache
from anomalyclip_hf.training.examples import TrainingImages, collate
from anomalyclip_hf.training.feature_cache import cache_features
from conftest import tiny_model


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(feature_cache, "IMAGES_PER_FILE", 6)  # three files for 16 images


@pytest.fixture
def computed(monkeypatch):
    """How many images were sent through the tower."""
    counts = []
    encode = feature_cache.encode_image

    def count(clip, pixel_values, **settings):
        counts.append(len(pixel_values))
        return encode(clip, pixel_values, **settings)

    monkeypatch.setattr(feature_cache, "encode_image", count)
    return counts


def losses(model, examples) -> torch.Tensor:
    batch = collate([examples[index] for index in range(len(examples))])
    batch.pop("indices")
    return model(**batch).loss.detach()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("layers", [[4], [2, 4]])
def test_losses_equal_those_without_the_cache(images, tmp_path, dtype, tolerance, layers):
    model = tiny_model(feature_layers=layers)
    cached = cache_features(model, images, tmp_path, dtype)
    assert len(cached) == len(images)
    torch.testing.assert_close(losses(model, cached), losses(model, images), rtol=tolerance, atol=0)


def test_the_next_run_reuses_the_features(model, images, tmp_path, computed):
    cache_features(model, images, tmp_path)
    assert sum(computed) == 16
    cache_features(model, images, tmp_path)
    assert sum(computed) == 16


@pytest.mark.parametrize("change", ["weights", "layers", "dtype", "size"])
def test_features_of_another_model_are_not_used(model, images, parts, tmp_path, computed, change):
    cache_features(model, images, tmp_path)
    dtype = "float16"
    if change == "weights":
        model.clip.vision_model.encoder.layers[0].mlp.fc1.weight.data[0, 0] += 0.01
    elif change == "layers":
        model.config.feature_layers = [3]
    elif change == "dtype":
        dtype = "float32"
    else:
        images.processor.image_processor.size = {"height": 48, "width": 40}
    cache_features(model, images, tmp_path, dtype)
    assert sum(computed) == 32


def test_a_changed_image_replaces_one_file(model, images, parts_folder, processor, tmp_path, computed):
    cache_features(model, images, tmp_path)
    path = parts_folder / "bolt" / "test" / "good" / "001.png"
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    changed = TrainingImages(load_anomaly_dataset("folder", parts_folder), processor)
    cached = cache_features(model, changed, tmp_path)
    assert sum(computed) == 16 + 6
    torch.testing.assert_close(losses(model, cached), losses(model, changed), rtol=1e-3, atol=0)


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_file_is_computed_again(model, images, tmp_path, computed, damage):
    expected = losses(model, cache_features(model, images, tmp_path))
    path = sorted(tmp_path.glob("*.arrow"))[0]
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    torch.testing.assert_close(losses(model, cache_features(model, images, tmp_path)), expected)
    assert 16 < sum(computed) <= 22


def test_an_interrupted_run_leaves_complete_files_only(model, images, tmp_path, monkeypatch, computed):
    write, written = feature_cache.ArrowWriter.write, []

    def stop(self, row):
        written.append(row)
        if len(written) == 9:
            raise KeyboardInterrupt
        return write(self, row)

    monkeypatch.setattr(feature_cache.ArrowWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        cache_features(model, images, tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_file()]) == 1
    before = sum(computed)
    cache_features(model, images, tmp_path)
    assert sum(computed) - before == 10


def test_too_little_disk_space_is_noticed_before_computing(model, images, tmp_path, monkeypatch, computed):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1000))
    with pytest.raises(OSError, match="cache_dir"):
        cache_features(model, images, tmp_path)
    assert not computed
    assert not list(tmp_path.glob("*.arrow"))


def test_an_image_of_the_papers_model_takes_about_2_mb():
    vectors = 1 + 37 * 37  # ViT-L/14 at 518 px, one layer selected
    assert vectors * 768 * 2 + 518 * 518 / 8 < 2.2e6
