# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import itertools

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyDetectionMetric, AnomalyScorer
from anomalyclip_hf.scoring.tiling import WHOLE_WEIGHT, TileMerger, Tiling, blend_weights


SIZES = [(512, 16000), (9000, 9000), (700, 1025), (513, 512), (40, 3000)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.25, 0.6])
@pytest.mark.parametrize("input_size", [(256, 256), (128, 256), (518, 259)])
def test_tiles_cover_the_image_and_overlap(size, overlap, input_size):
    whole, *tiles = Tiling(512, overlap).views(size, input_size)
    assert whole == (0, 0, size[1], size[0])
    for axis, length, side in ((0, size[1], input_size[1]), (1, size[0], input_size[0])):
        tile = min(length, round(512 * side / max(input_size)))
        spans = sorted({(box[axis], box[axis + 2]) for box in tiles})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(end - start == tile for start, end in spans)
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end - start >= np.floor(tile * overlap)
    assert len(set(tiles)) == len(tiles)


@pytest.mark.parametrize("size", [(512, 512), (100, 512), (3, 5)])
def test_an_image_that_fits_into_a_tile_is_scored_as_a_whole(size):
    assert Tiling(512).views(size, (256, 256)) == [(0, 0, size[1], size[0])]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((31,), "tile"),
        ((0,), "tile"),
        ((256.5,), "tile"),
        ((True,), "tile"),
        ((256, 1), "overlap"),
        ((256, 1.5), "overlap"),
        ((256, -0.1), "overlap"),
        ((256, float("nan")), "overlap"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} is "):
        Tiling(*arguments)


@pytest.mark.parametrize(("starts", "tile", "length"), [([0, 3, 7], 5, 12), ([0, 512, 700], 512, 1212), ([0], 9, 9)])
def test_weights_sum_to_one_and_favour_the_middle(starts, tile, length):
    total = np.zeros(length)
    for start, weights in zip(starts, blend_weights(starts, tile, length), strict=True):
        assert weights.min() > 0
        total[start : start + tile] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def merge(size, tile, read):
    """Merge the maps that `read(box)` gives; its score is the map's largest value."""
    views = Tiling(tile).views(size, (64, 64))
    merger = TileMerger(size, views)
    order = np.random.default_rng(0).permutation(len(views))  # views may come in any order
    for number in order:
        assert not merger.is_complete
        anomaly_map = read(views[number])
        merger.add(int(number), float(anomaly_map.max()), anomaly_map)
    assert merger.is_complete
    return merger.merge()


@pytest.mark.parametrize("size", [(300, 1000), (64, 500), (257, 99)])
def test_a_constant_image_gives_a_constant_map(size):
    score, merged = merge(size, 64, lambda box: np.full((64, 64), 0.37, np.float32))
    assert merged.shape == size
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, 0.37, atol=1e-6)
    assert score == pytest.approx(0.37, abs=1e-6)


def test_the_whole_image_is_mixed_in_without_seams_between_strips():
    rng = np.random.default_rng(1)
    whole, size = rng.random((64, 64), dtype=np.float32), (1500, 300)
    views = Tiling(250).views(size, (64, 64))
    merger = TileMerger(size, views)
    for number in range(len(views)):
        merger.add(number, 0.5 if number else 1.0, np.zeros((64, 64), np.float32) if number else whole)
    score, merged = merger.merge()
    assert score == 1
    expected = np.asarray(Image.fromarray(whole).resize((300, 1500), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(merged, WHOLE_WEIGHT * expected, atol=1e-6)


def test_missing_views_are_an_error():
    views = Tiling(32).views((64, 64), (64, 64))
    merger = TileMerger((64, 64), views)
    merger.add(0, 0.5, np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match=f"^1 of {len(views)} views"):
        merger.merge()


def test_a_smooth_map_comes_back_without_seams():
    rows, columns = np.mgrid[:300, :500].astype(np.float32)
    truth = 0.5 + 0.4 * np.sin(rows / 60) * np.cos(columns / 80)

    def read(box):
        left, top, right, bottom = box
        size = (64, 64)
        y = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0] - 0.5
        x = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1] - 0.5
        return (0.5 + 0.4 * np.sin(y / 60)[:, None] * np.cos(x / 80)).astype(np.float32)

    _, merged = merge((300, 500), 96, read)
    np.testing.assert_allclose(merged, truth, atol=0.02)
    steps = np.abs(np.diff(merged, n=2, axis=1)).max()  # a seam is a jump
    assert steps < 0.01


@pytest.mark.parametrize(
    ("tile", "input_size", "expected"),
    [(512, (256, 256), (150, 500)), (256, (512, 512), (300, 1000)), (500, (100, 250), (150, 500))],
)
def test_the_map_has_the_detail_that_the_model_sees(tile, input_size, expected):
    assert Tiling(tile).map_size((300, 1000), input_size) == expected


def test_small_defects_in_a_large_scene_are_found_in_tiles():
    rng = np.random.default_rng(6)
    grain = Image.fromarray(rng.normal(128, 30, (512, 512)).clip(0, 255).astype(np.uint8))
    pixels = np.array(grain.resize((2048, 2048), Image.Resampling.BICUBIC).convert("RGB"))
    truth = np.zeros((2048, 2048), dtype=bool)
    for top, left in rng.integers(50, 1990, (6, 2)):
        truth[top : top + 10, left : left + 9] = True
    pixels[truth] = 5
    average_precision = {}
    for tile in (None, 512):
        result = next(AnomalyScorer(DEFAULT_MODEL, tile=tile).score(Image.fromarray(pixels)))
        metric = AnomalyDetectionMetric()
        metric.add(image_score=result.score, label=1, anomaly_map=result.anomaly_map, mask=truth)
        average_precision[tile] = metric.compute()["pixel_ap"]
    assert average_precision[512] >= 2 * average_precision[None]
    assert average_precision[512] > 0.05
