# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from anomalyclip_hf.scoring import neighbours
from anomalyclip_hf.scoring.neighbours import PatchIndex, normalise, select_spread


ROWS, COLUMNS, WIDTH = 5, 7, 24


@pytest.fixture
def features() -> np.ndarray:
    """Four views whose neighbouring patches are alike, as those of real images are."""
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(4, ROWS, COLUMNS, WIDTH)).cumsum(2) + 3
    return normalise(smooth.reshape(4, ROWS * COLUMNS, WIDTH).astype(np.float32))


@pytest.fixture
def queries() -> np.ndarray:
    return normalise(np.random.default_rng(1).normal(size=(ROWS * COLUMNS, WIDTH)).astype(np.float32) + 0.5)


def textbook(queries: np.ndarray, features: np.ndarray) -> np.ndarray:
    return 1 - (queries @ features.reshape(-1, WIDTH).T).max(1)


@pytest.mark.parametrize("block", [neighbours.BLOCK, 200])
def test_distances_are_those_of_the_textbook(features, queries, monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    found = PatchIndex(features).distances(queries)
    np.testing.assert_allclose(found, textbook(queries, features), atol=1e-5)
    of_torch = PatchIndex(features).distances(torch.from_numpy(queries))
    assert isinstance(of_torch, torch.Tensor)
    np.testing.assert_allclose(of_torch.numpy(), found, atol=1e-5)


def test_one_index_serves_both_kinds_of_arrays(features, queries):
    index = PatchIndex(features.astype(np.float16))
    first = index.distances(torch.from_numpy(queries)).numpy()
    np.testing.assert_allclose(index.distances(queries), first, atol=1e-5)
    assert index.features.shape == features.shape


def test_the_search_in_principal_components_hardly_changes_distances(monkeypatch):
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(64, 64)) * np.geomspace(1, 0.02, 64)[:, None]  # a spectrum like that of real features
    features = normalise((rng.normal(size=(2, 400, 64)) @ mixing).astype(np.float32))
    queries = normalise((rng.normal(size=(300, 64)) @ mixing).astype(np.float32))
    exact = 1 - (queries @ features.reshape(-1, 64).T).max(1)
    monkeypatch.setattr(neighbours, "SEARCH_WIDTH", 32)
    found = PatchIndex(features)
    assert found.projected.shape[1] == 32
    distances = found.distances(queries)
    assert (distances >= exact - 1e-5).all()
    assert distances.mean() < 1.02 * exact.mean()


def test_views_can_be_left_out(features):
    index = PatchIndex(features)
    assert index.distances(features[2]).max() < 1e-6
    without = index.distances(features[2], without=slice(1, 3))
    np.testing.assert_allclose(without, textbook(features[2], features[[0, 3]]), atol=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 10])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_radius_compares_with_patches_nearby_only(features, queries, radius, kind):
    expected = []
    for number, query in enumerate(queries):
        row, column = divmod(number, COLUMNS)
        grid = features.reshape(4, ROWS, COLUMNS, WIDTH)[1:]
        near = grid[:, max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
        expected.append(textbook(query[None], near)[0])
    index = PatchIndex(features)
    found = index.distances(kind(queries), without=slice(0, 1), radius=radius, grid=(ROWS, COLUMNS))
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)


def test_selected_features_lie_far_apart():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, 8)).astype(np.float32) * 10
    features = np.repeat(centres, 50, 0) + rng.normal(size=(300, 8)).astype(np.float32) * 0.1
    chosen = select_spread(features, 6)
    assert sorted(chosen // 50) == list(range(6))  # one of each cluster
    assert select_spread(features[:3], 3).tolist() == [0, 1, 2]
    assert len(set(select_spread(np.ones((5, 2), np.float32), 4))) == 4  # also where all are the same
