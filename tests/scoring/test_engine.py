# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import io
import threading
import weakref
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor, AnomalyDetectionPipeline, AnomalyScorer
from anomalyclip_hf.data.samples import SampleReader
from anomalyclip_hf.scoring.backends import Outputs
from anomalyclip_hf.scoring.tiling import TileMerger, Tiling
from anomalyclip_hf.scoring.torch_backends import TorchBackend


@pytest.fixture
def scorer(model_folder) -> AnomalyScorer:
    return AnomalyScorer(model_folder)


@pytest.fixture
def photos(tmp_path) -> list[str]:
    rng = np.random.default_rng(7)
    paths = []
    for number, (height, width) in enumerate(((30, 50), (61, 43), (40, 40), (25, 90), (33, 33))):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    return paths


def test_equals_the_pipeline(model_folder, scorer, photos):
    pipe = AnomalyDetectionPipeline(
        model=AnomalyCLIPModel.from_pretrained(model_folder),
        processor=AnomalyCLIPProcessor.from_pretrained(model_folder),
    )
    results = list(scorer.score(photos))
    for index, (result, expected) in enumerate(zip(results, pipe(photos), strict=True)):
        assert (result.index, result.source, result.error) == (index, photos[index], None)
        assert result.score == pytest.approx(expected["score"], abs=1e-6)
        assert result.label == expected["label"]
        assert result.size == expected["anomaly_map"].size[::-1] == result.anomaly_map.shape
        np.testing.assert_allclose(result.anomaly_map, np.asarray(expected["anomaly_map"]), atol=1e-6)
        assert result.mask is result.regions is result.image is None


@pytest.mark.parametrize("workers", [0, 2])
def test_order_errors_and_batches(model_folder, photos, tmp_path, workers):
    (tmp_path / "empty.png").touch()
    images = [photos[0], str(tmp_path / "empty.png"), *photos[1:], str(tmp_path / "gone.png")]
    undisturbed = AnomalyScorer(model_folder).score(photos)
    expected = {path: result.score for path, result in zip(photos, undisturbed, strict=True)}
    scorer = AnomalyScorer(model_folder, batch_size=2, num_workers=workers)
    results = list(scorer.score(images))
    assert [result.index for result in results] == list(range(7))
    assert [result.source for result in results] == images
    for result in results:
        if result.source in expected:
            assert result.score == pytest.approx(expected[result.source], abs=1e-5)
            assert result.error is None
        else:
            assert result.source in result.error
            assert result.score is result.anomaly_map is result.size is None


def test_every_kind_of_input(scorer, photos):
    picture = Image.open(photos[0])
    expected = next(scorer.score(photos[0])).score
    inputs = [picture, np.asarray(picture), open(photos[0], "rb").read(), io.BytesIO(open(photos[0], "rb").read())]  # noqa: SIM115
    dataset = Dataset.from_dict({"image": [picture] * 2, "path": ["a", "b"]})
    for images in (inputs, iter([picture]), dataset, dataset.to_iterable_dataset(), picture):
        for result in scorer.score(images):
            assert result.score == pytest.approx(expected, abs=1e-6)


def test_generators_are_read_as_they_are_needed(scorer, photos):
    asked = []

    def endless():
        for number in range(10**6):
            asked.append(number)
            yield np.asarray(Image.open(photos[0]))

    results = scorer.score(endless())
    assert [next(results).source for _ in range(9)] == [f"image {number}" for number in range(9)]
    assert len(asked) <= 9 + 3 * 8  # a batch, and two read ahead


def test_errors_of_generators_name_the_image(scorer, photos):
    fine, broken = scorer.score(iter([Path(photos[0]).read_bytes(), b"no image"]))
    assert (fine.source, broken.source, broken.index) == ("image 0", "image 1", 1)
    assert "image 1" in broken.error


def test_masks_come_back_with_the_results(scorer, photos):
    mask = np.zeros((30, 50), dtype=np.uint8)
    mask[3:9, 4:20] = 255
    first, second = scorer.score(photos[:2], masks=[mask, None])
    assert (first.sample.label, int(first.sample.mask.sum())) == (1, 96)
    assert (second.sample.label, int(second.sample.mask.sum())) == (0, 0)
    with pytest.raises(ValueError, match="1 masks for 2 images"):
        list(scorer.score(photos[:2], masks=[None]))


def test_resolution_and_thresholds(model_folder, photos):
    (result,) = AnomalyScorer(model_folder, resolution="model", pixel_threshold=0, threshold=0).score(photos[:1])
    assert result.anomaly_map.shape == result.mask.shape == (40, 40)
    assert result.size == (30, 50)
    assert result.label == "anomalous"
    assert result.regions[0]["area"] == 30 * 50  # in pixels of the image


def test_only_some_and_with_their_images(scorer, photos):
    results = list(scorer.score_samples(SampleReader(photos), [3, 1], keep_images=True))
    assert [result.index for result in results] == [3, 1]
    assert [result.image.size for result in results] == [(90, 25), (43, 61)]


def test_a_device_out_of_memory_gets_smaller_batches(model_folder, photos):
    sizes = []

    class Small(TorchBackend):
        def _compute(self, pixel_values, feature_layers):
            if pixel_values.shape[0] > 2:
                raise torch.OutOfMemoryError("out of memory")
            sizes.append(pixel_values.shape[0])
            return super()._compute(pixel_values, feature_layers)

    expected = list(AnomalyScorer(model_folder).score(photos))
    scorer = AnomalyScorer(model_folder, backend=Small(AnomalyCLIPModel.from_pretrained(model_folder)))
    for result, other in zip(scorer.score(photos * 2), expected * 2, strict=True):
        assert result.score == pytest.approx(other.score, abs=1e-5)
    assert max(sizes) == 2
    assert scorer.batch_size == 2


def test_a_gpu_computes_the_next_batch_while_results_are_taken(model_folder, photos, monkeypatch):
    started = [threading.Event() for _ in photos]

    class Counted(TorchBackend):
        def run(self, pixel_values, feature_layers=()):
            next(event for event in started if not event.is_set()).set()
            return super().run(pixel_values, feature_layers)

    expected = [result.score for result in AnomalyScorer(model_folder, batch_size=1).score([*photos, "missing.png"])]
    monkeypatch.setattr(AnomalyScorer, "gpu", torch.device("cpu"))
    backend = Counted(AnomalyCLIPModel.from_pretrained(model_folder))
    found = []
    for place, result in enumerate(
        AnomalyScorer(model_folder, backend=backend, batch_size=1).score([*photos, "missing.png"])
    ):
        found.append(result.score)
        if 0 < place < len(photos) - 1:
            assert started[place + 1].wait(timeout=30)  # while this loop holds the result before it
    assert found[:-1] == pytest.approx(expected[:-1], abs=1e-6)
    assert found[-1] is expected[-1] is None


def test_a_failed_pass_holds_no_memory_while_it_is_repeated(model_folder, photos):
    kept, alive = [], []

    class Small(TorchBackend):
        def _compute(self, pixel_values, feature_layers):
            states = torch.empty(1)
            alive.append([reference() is not None for reference in kept])
            if pixel_values.shape[0] > 2:
                kept.append(weakref.ref(states))
                raise torch.OutOfMemoryError("out of memory")
            return super()._compute(pixel_values, feature_layers)

    list(AnomalyScorer(model_folder, backend=Small(AnomalyCLIPModel.from_pretrained(model_folder))).score(photos))
    assert kept
    assert not any(map(any, alive))


def test_an_image_that_does_not_fit_into_memory_costs_only_itself(scorer, photos, monkeypatch):
    prepare = scorer.preprocessing

    def fails_once(image):
        if image.size == (90, 25):
            raise MemoryError("Unable to allocate 1. GiB")  # as NumPy's, without a name
        return prepare(image)

    monkeypatch.setattr(scorer, "preprocessing", Mock(wraps=prepare, side_effect=fails_once, size=prepare.size))
    results = list(scorer.score(photos))
    assert [bool(result.error) for result in results].count(True) == 1
    (failed,) = (result for result in results if result.error)
    assert failed.source in failed.error


def test_autocast_of_the_caller_changes_nothing(scorer, photos):
    expected = [result.score for result in scorer.score(photos)]
    with torch.autocast("cpu", torch.bfloat16):
        results = list(scorer.score(photos))
    assert all(result.anomaly_map.dtype == np.float32 for result in results)
    assert [result.score for result in results] == pytest.approx(expected, abs=0.02)


def test_nan_names_the_images(scorer, photos):
    with torch.no_grad():
        scorer.model.clip.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"0\.png.*4\.png"):
        list(scorer.score(photos))


def test_bfloat16_keeps_pixels_in_float32_until_the_patch_embedding(model_folder, photos):
    scorer = AnomalyScorer(model_folder, dtype="bfloat16")
    assert scorer.model.dtype == torch.bfloat16
    pipe = AnomalyDetectionPipeline(model=AnomalyCLIPModel.from_pretrained(model_folder, dtype=torch.bfloat16))
    for result, expected in zip(scorer.score(photos), pipe(photos), strict=True):
        assert result.score == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"resolution": "full"}, "resolution"),
        ({"batch_size": 0}, "batch_size"),
        ({"backend": "tpu"}, "backend"),
        ({"threshold": 2}, "threshold"),
        ({"pixel_threshold": 1.5}, "pixel_threshold"),
    ],
)
def test_arguments_out_of_range(model_folder, arguments, name):
    with pytest.raises(ValueError, match=name):
        AnomalyScorer(model_folder, **arguments)


def test_a_backend_of_ones_own(model, photos):
    class Constant:
        name, precision, fingerprint, input_size, map_maximum = "constant", "float32", "0", (40, 40), 1.0

        def run(self, pixel_values, feature_layers=()):
            count = len(pixel_values)
            return Outputs(np.full(count, 0.25, np.float32), np.full((count, 40, 40), 0.5, np.float32))

    for result in AnomalyScorer(model, backend=Constant()).score(photos):
        assert result.score == 0.25
        assert np.ptp(result.anomaly_map) == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> str:
    """A line scan, several tiles long."""
    path = tmp_path_factory.mktemp("scan") / "scan.png"
    pixels = np.random.default_rng(5).integers(90, 130, (50, 300, 3), dtype=np.uint8)
    pixels[20:26, 200:206] = 250
    Image.fromarray(pixels).save(path)
    return str(path)


def test_tiles_equal_scoring_and_blending_the_crops(model_folder, scan):
    scorer, single = AnomalyScorer(model_folder, tile=64, overlap=0.5, batch_size=3), AnomalyScorer(model_folder)
    result = next(scorer.score(scan))
    image = Image.open(scan)
    views = Tiling(64, 0.5).views((50, 300), (40, 40))
    assert len(views) > 8
    merger = TileMerger((50, 300), views)
    scores = []
    for number, view in enumerate(views):
        crop = next(single.score(image.crop(view)))
        scores.append(crop.score)
        merger.add(number, crop.score, crop.anomaly_map)
    assert result.score == pytest.approx(max(scores), abs=1e-5)
    assert result.anomaly_map.shape == result.size == (50, 300)
    np.testing.assert_allclose(result.anomaly_map, merger.merge()[1], atol=1e-2)  # here maps are resized twice
    assert np.abs(result.anomaly_map - next(single.score(scan)).anomaly_map).max() > 0.02


def test_tiled_images_keep_their_order_among_others(model_folder, photos, scan, tmp_path):
    (tmp_path / "empty.png").touch()
    images = [photos[0], scan, str(tmp_path / "empty.png"), photos[1], scan]
    scorer = AnomalyScorer(model_folder, tile=64, batch_size=4, num_workers=2)
    results = list(scorer.score(images))
    assert [result.source for result in results] == images
    assert [bool(result.error) for result in results] == [False, False, True, False, False]
    for index in (0, 3):
        alone = next(AnomalyScorer(model_folder, tile=64).score(images[index]))
        assert results[index].score == pytest.approx(alone.score, abs=1e-5)
    np.testing.assert_allclose(results[1].anomaly_map, results[4].anomaly_map, atol=1e-5)


def test_batches_of_tiles_form_across_images(model_folder, scan, monkeypatch):
    scorer = AnomalyScorer(model_folder, tile=64, batch_size=5)
    sizes, run = [], scorer.backend.run
    monkeypatch.setattr(scorer.backend, "run", lambda pixels, *rest: sizes.append(len(pixels)) or run(pixels, *rest))
    list(scorer.score([scan] * 3))
    assert set(sizes[:-1]) == {5}


@pytest.mark.parametrize("resolution", ["model", "original"])
def test_a_constant_image_gives_a_constant_map_in_tiles(model_folder, resolution):
    scorer = AnomalyScorer(model_folder, tile=64, resolution=resolution)
    whole = next(AnomalyScorer(model_folder, resolution=resolution).score(Image.new("RGB", (300, 200), "grey")))
    tiled = next(scorer.score(Image.new("RGB", (300, 200), "grey")))
    assert tiled.anomaly_map.shape == ((200, 300) if resolution == "original" else (125, 188))  # 40 / 64 of it
    assert tiled.score == pytest.approx(whole.score, abs=1e-6)
    assert np.ptp(tiled.anomaly_map) <= np.ptp(whole.anomaly_map) + 1e-6


@pytest.mark.parametrize("kind", ["fusion", "top1%"])
def test_scores_in_tiles_are_the_same_at_any_resolution(model_folder, scan, kind):
    scores = []
    for resolution in ("model", "original"):
        scorer = AnomalyScorer(model_folder, tile=64, resolution=resolution, image_score=kind)
        (result,) = scorer.score([scan])
        scores.append(result.score)
    assert result.anomaly_map.shape == (50, 300)
    assert scores[0] == scores[1]


def test_an_image_within_one_tile_is_scored_as_without_tiles(model_folder, photos):
    for image in photos:
        expected = next(AnomalyScorer(model_folder).score(image))
        result = next(AnomalyScorer(model_folder, tile=1000).score(image))
        assert result.score == expected.score
        np.testing.assert_array_equal(result.anomaly_map, expected.anomaly_map)


def test_tiles_change_the_keys_and_keep_reduced_images(model_folder, scan):
    scorer = AnomalyScorer(model_folder, tile=64)
    assert (
        len({scorer.score_key, AnomalyScorer(model_folder).score_key, AnomalyScorer(model_folder, tile=65).score_key})
        == 3
    )
    assert (scorer.settings["tile"], scorer.settings["overlap"]) == (64, 0.25)
    result = next(scorer.score_samples(SampleReader([scan]), keep_images=True, image_side=100))
    assert result.image.size == (100, 17)
    assert result.size == (50, 300)


def test_bad_tiles_are_refused_before_the_model_is_loaded():
    with pytest.raises(ValueError, match="^overlap is 1"):
        AnomalyScorer("no/model", tile=64, overlap=1.0)
    with pytest.raises(ValueError, match="^tile is 7"):
        AnomalyScorer("no/model", tile=7)
