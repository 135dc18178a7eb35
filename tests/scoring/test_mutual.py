# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import math

import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer
from anomalyclip_hf.data.samples import SampleReader
from anomalyclip_hf.scoring import mutual
from anomalyclip_hf.scoring.mutual import ComparisonSet, MutualBackend


GRID = (6, 7)


@pytest.fixture
def exact(monkeypatch):
    """Compare one size of neighbourhood, in all of the features' width."""
    monkeypatch.setattr(mutual, "NEIGHBOURHOODS", (3,))
    monkeypatch.setattr(mutual, "COMPONENTS", 16)


def features_of(count: int) -> np.ndarray:
    features = np.random.default_rng(3).normal(size=(count, 2, math.prod(GRID), 16)).astype(np.float32)
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def collected(features: np.ndarray, owners=None, radius=None) -> ComparisonSet:
    comparison = ComparisonSet(GRID, radius)
    embeds = np.random.default_rng(4).random((len(features), 8)).astype(np.float32)
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    for number, view in enumerate(features):
        owner = number if owners is None else owners[number]
        comparison.add(owner, bytes([number]), list(view), embeds[number])
    comparison.finish()
    return comparison


def average(layer: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    """Means over 3 x 3 patches, repeating the border, at some places; L2-normalised."""
    grid = np.pad(layer.reshape(*GRID, -1), ((1, 1), (1, 1), (0, 0)), mode="edge")
    means = np.stack([grid[row : row + 3, column : column + 3].mean((0, 1)) for row, column in places])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [2, 3, 9])
@pytest.mark.parametrize("radius", [None, 2])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_distances_equal_a_plain_computation(exact, count, radius, kind):
    features = features_of(count)
    comparison = collected(features, radius=radius)
    asked = [torch.from_numpy(layer) if kind == "torch" else layer for layer in features[0]]
    found = comparison.distances(asked, {0})
    places = [(row, column) for row in range(1, 6, 2) for column in range(1, 7, 2)]
    total = np.zeros(GRID)
    for layer in range(2):
        queries = average(features[0, layer], places)
        by_image = []
        for other in range(1, count):
            cosines = queries @ average(features[other, layer].astype(np.float16).astype(np.float32), places).T
            if radius is not None:
                far = np.abs(np.array(places)[:, None] - np.array(places)).max(-1) > radius
                cosines[far] = -np.inf
            by_image.append(1 - cosines.max(1))
        nearest = np.sort(by_image, axis=0)[: max(1, int(0.3 * (count - 1)))].mean(0)
        typical = comparison._axes[mutual.Scale(layer, 3)].typical
        coarse = torch.tensor(nearest.reshape(1, 1, 3, 3) / typical)
        total += torch.nn.functional.interpolate(coarse, size=GRID, mode="bilinear")[0, 0].numpy() / 2
    np.testing.assert_allclose(found, total.ravel(), atol=3e-3)  # the set is held in float16


def test_views_of_one_image_are_not_compared(exact):
    features = features_of(6)
    features[1] = features[0]  # a second view that shows the same
    alike, apart = collected(features, owners=[0, 0, 1, 1, 2, 2]), collected(features)
    assert alike.distances(list(features[0]), {0}).mean() > 0.3
    assert apart.distances(list(features[0]), {0}).mean() < 0.01


def test_scores_are_averaged_with_those_of_images_alike(exact):
    comparison = collected(features_of(4))
    comparison.embeds = np.eye(4, dtype=np.float32)
    comparison.embeds[1] = (0.8, 0.6, 0, 0)
    comparison.alone = np.array([9.0, 0.2, 0.6, 0.9], np.float32)
    embed = np.array([1, 0, 0, 0], np.float32)
    # window 1: itself; windows 2 and 3: with image 1, the only other one that is alike
    expected = (0.5 + 2 * (0.5 + 0.8 * 0.2) / 1.8) / 3
    assert comparison.average_score(0.5, embed, {0}) == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def plates(tmp_path_factory) -> list[str]:
    """Plates of the same grain; the last has a dark spot."""
    folder, rng = tmp_path_factory.mktemp("plates"), np.random.default_rng(8)
    paths = []
    for number in range(5):
        pixels = (rng.normal(140, 12, (64, 64, 3)) + 20 * np.sin(np.arange(64) / 3)[:, None]).clip(0, 255)
        if number == 4:
            pixels[30:40, 20:30] = 20
        path = folder / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).resize((256, 256)).save(path)
        paths.append(str(path))
    return paths


def test_the_odd_one_out_is_found(plates):
    scorer = AnomalyScorer(DEFAULT_MODEL, mutual=True, batch_size=2)
    results = list(scorer.score(plates))
    assert [result.source for result in results] == plates
    scores = np.array([result.score for result in results])
    assert scores.argmax() == 4
    assert scores.min() >= 0
    assert scores.max() <= 1
    row, column = np.unravel_index(results[4].anomaly_map.argmax(), (256, 256))
    assert abs(row - 140) < 40
    assert abs(column - 100) < 40
    assert all(0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= scorer.map_maximum for result in results)


def test_streams_pairs_and_batches_give_the_same(model_folder, plates):
    scorer = AnomalyScorer(model_folder, mutual=True)
    expected = [result.score for result in scorer.score(plates)]
    for other in (AnomalyScorer(model_folder, mutual=True, batch_size=2), scorer):
        np.testing.assert_allclose([result.score for result in other.score(iter(plates))], expected, atol=1e-5)
    assert all(math.isfinite(result.score) for result in scorer.score(plates[:2]))


def test_unreadable_images_and_copies_do_not_count(model_folder, plates, tmp_path):
    (tmp_path / "empty.png").touch()
    scorer = AnomalyScorer(model_folder, mutual=True)
    results = list(scorer.score([plates[0], str(tmp_path / "empty.png"), plates[1]]))
    assert [bool(result.error) for result in results] == [False, True, False]
    expected = [result.score for result in scorer.score(plates[:2])]
    assert [results[0].score, results[2].score] == pytest.approx(expected, abs=1e-5)
    assert all(result.error for result in scorer.score([str(tmp_path / "empty.png")]))


def test_exact_copies_get_the_text_scores_and_a_warning(model_folder, plates, caplog):
    text = next(AnomalyScorer(model_folder).score(plates[0]))
    for result in AnomalyScorer(model_folder, mutual=True).score([plates[0]] * 3):
        assert result.score == pytest.approx(text.score, abs=1e-6)
        np.testing.assert_allclose(result.anomaly_map, text.anomaly_map, atol=1e-5)
    assert sum("exact copies" in record.getMessage() for record in caplog.records) == 1


def test_copies_do_not_make_a_batch_look_more_alike(exact):
    features = features_of(4)
    comparison, doubled = (ComparisonSet(GRID) for _ in range(2))
    for copies, filled in ((1, comparison), (2, doubled)):
        for number in range(4 * copies):
            features_of_one = list(features[number % 4])
            filled.add(number, bytes([number % 4]), features_of_one, np.eye(4, dtype=np.float32)[number % 4])
        filled.finish()
    assert doubled.evidence.normal == pytest.approx(comparison.evidence.normal, rel=0.2)


def test_only_a_sample_is_compared(model_folder, plates):
    scorer = AnomalyScorer(model_folder, mutual=True, mutual_references=2, batch_size=1)
    assert len(list(scorer.score(plates))) == 5
    assert len(scorer.mutual.comparison) == 2
    assert scorer.score_key != AnomalyScorer(model_folder, mutual=True).score_key
    assert scorer.settings["mutual_references"] == 2
    tiled = AnomalyScorer(model_folder, mutual=True, mutual_references=2, batch_size=1, tile=200)
    assert len(list(tiled.score(plates))) == 5
    assert len(set(tiled.mutual.comparison.owners)) == 2


def test_categories_are_compared_apart(model_folder, plates):
    rows = [{"image": path, "label": 0, "category": category} for path, category in zip(plates, "ababa", strict=True)]
    scorer = AnomalyScorer(model_folder, mutual=True)
    mixed = {result.source: result.score for result in scorer.score_samples(SampleReader(rows))}
    for category in "ab":
        own = [row for row in rows if row["category"] == category]
        alone = {result.source: result.score for result in scorer.score_samples(SampleReader(own))}
        assert len(alone) == len(own)
    assert len(mixed) == 5
    with pytest.raises(ValueError, match="only has 1"):
        list(scorer.score_samples(SampleReader([*rows, {"image": plates[0], "label": 0, "category": "only"}])))


def test_what_cannot_be_compared_is_refused(model_folder, plates):
    with pytest.raises(ValueError, match="has 1 that can be read"):
        list(AnomalyScorer(model_folder, mutual=True).score(plates[0]))
    with pytest.raises(ValueError, match="^mutual_references is 1"):
        AnomalyScorer(model_folder, mutual=True, mutual_references=1)
    with pytest.raises(ValueError, match="^mutual_radius is -1"):
        AnomalyScorer(model_folder, mutual=True, mutual_radius=-1)
    with pytest.raises(ValueError, match="^mutual_radius is 3 and tile is 64"):
        AnomalyScorer(model_folder, mutual=True, mutual_radius=3, tile=64)
    scorer = AnomalyScorer(model_folder)
    backend, pixels = MutualBackend(scorer.backend, [4]), np.zeros((1, 3, 40, 40), np.float32)
    for _ in range(2):  # before anything is collected, and before the set is finished
        with pytest.raises(ValueError, match="nothing to compare with"):
            backend.run(pixels)
        backend.collect(pixels, [0])
