# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from scipy import ndimage
from slow_metrics import KINDS, data

from anomalyclip_hf.metrics import AnomalyDetectionMetric, inputs
from anomalyclip_hf.metrics import histogram as counts_module
from anomalyclip_hf.metrics.histogram import BIN_BUDGET, PixelCounts, key_values, ordered_keys, region_shares


def count(maps, masks) -> PixelCounts:
    counts = PixelCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)
    return counts


def assert_same(one: PixelCounts, other: PixelCounts) -> None:
    assert one.bin_bits == other.bin_bits
    mine, theirs = one.state(), other.state()
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {"coverage"}:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    np.testing.assert_allclose(mine["coverage"], theirs["coverage"], rtol=1e-12, atol=1e-15)


@pytest.fixture
def wild() -> tuple[np.ndarray, np.ndarray]:
    """Finite float32 of any bits: they need nearly all pages; the first maps need few."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, size=(12, 120, 130), dtype=np.uint32).view(np.float32)
    maps = np.where(np.isfinite(bits), bits, 0)
    maps[:4] = rng.random((4, 120, 130))
    return maps, rng.random(maps.shape) > 0.95


def test_keys_keep_the_order_and_the_value():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, size=10_000, dtype=np.uint32).view(np.float32)
    extremes = np.array([0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38], dtype=np.float32)
    values = np.concatenate([extremes, values[np.isfinite(values)]])
    keys = ordered_keys(values)
    np.testing.assert_array_equal(np.argsort(keys, kind="stable"), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(key_values(keys), values.astype(np.float64))
    assert keys[0] == keys[1]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_of_every_value_while_there_are_few_pages(kind):
    maps, masks = data(kind)
    counts = count(maps, masks)
    ranked = counts.ranked()
    single = ranked.lowest == ranked.highest
    values, place = np.unique(maps, return_inverse=True)
    total = np.bincount(place.ravel())[::-1]
    anomalous = np.bincount(place.ravel(), weights=masks.ravel())[::-1]
    exact = np.isin(values[::-1], ranked.lowest[single])
    np.testing.assert_array_equal((ranked.positives + ranked.negatives)[single], total[exact])
    np.testing.assert_array_equal(ranked.positives[single], anomalous[exact])
    assert ranked.positives.sum() == masks.sum()
    assert ranked.highest[0] == maps.max()
    assert ranked.lowest[-1] == maps.min()
    if kind in ("narrow", "bfloat16", "eight_bits"):
        assert single.all()


@pytest.mark.parametrize("chunk", [2**16, 100])
def test_coarse_bins_hold_what_lies_between_their_ends(wild, monkeypatch, chunk):
    monkeypatch.setattr(counts_module, "CHUNK", chunk)
    maps, masks = wild
    counts = count(maps, masks)
    assert counts.bin_bits == 3
    ranked = counts.ranked()
    assert (ranked.highest[1:] < ranked.lowest[:-1]).all()
    ascending = np.sort(maps, axis=None).astype(np.float64)
    first = np.searchsorted(ascending, ranked.lowest, side="left")
    after = np.searchsorted(ascending, ranked.highest, side="right")
    np.testing.assert_array_equal(ranked.positives + ranked.negatives, after - first)
    anomalous = np.sort(maps[masks]).astype(np.float64)
    inside = np.searchsorted(anomalous, ranked.highest, "right") - np.searchsorted(anomalous, ranked.lowest, "left")
    np.testing.assert_array_equal(ranked.positives, inside)


def test_bins_are_as_fine_as_promised(wild):
    for maps in (wild[0], wild[0][:4]):
        counts = count(maps, np.zeros_like(maps))
        ranked = counts.ranked()
        normal = (ranked.lowest * ranked.highest > 0) & (np.abs(ranked.lowest) > 1e-30)
        width = (ranked.highest - ranked.lowest)[normal] / np.abs(ranked.lowest[normal])
        assert width.max() <= 2.0 ** -(7 + counts.bin_bits)


def test_neither_order_nor_division_matters(wild):
    maps, masks = wild
    whole = count(maps, masks)
    order = np.random.default_rng(1).permutation(len(maps))
    assert_same(count(maps[order], masks[order]), whole)
    parts = [count(maps[part], masks[part]) for part in (slice(0, 3), slice(3, 4), slice(4, 12))]
    assert parts[0].bin_bits > whole.bin_bits
    for sequence in ((0, 1, 2), (2, 0, 1)):
        merged = PixelCounts()
        for part in sequence:
            before = parts[part].state()
            merged.merge(parts[part])
            np.testing.assert_array_equal(parts[part].state()["pixels"], before["pixels"])
        assert_same(merged, whole)


def test_state_survives_a_file(wild, tmp_path):
    whole = count(*wild)
    np.savez(tmp_path / "counts.npz", **whole.state())
    with np.load(tmp_path / "counts.npz", allow_pickle=False) as file:
        restored = PixelCounts.from_state(file)
    assert_same(restored, whole)
    for counts in (restored, whole):
        counts.add(wild[0][0] * 2, wild[1][0])
    assert_same(restored, whole)
    assert_same(PixelCounts.from_state(PixelCounts().state()), PixelCounts())


def test_memory_does_not_grow_with_images():
    rng = np.random.default_rng(2)
    counts, sizes = PixelCounts(), []
    for _ in range(60):
        counts.add((rng.random((250, 250)) ** 2).astype(np.float32), rng.random((250, 250)) > 0.9)
        sizes.append(sum(array.nbytes for array in counts.state().values()))
    held = sum(value.nbytes for value in vars(counts).values() if isinstance(value, np.ndarray))
    assert held < 18e6
    assert max(sizes) <= BIN_BUDGET * 32 + 16
    assert counts.maps * 250 * 250 * 5 > max(sizes)  # pixels and mask would have taken more
    assert sizes[-1] - sizes[29] < 0.25 * sizes[29]


def test_region_shares():
    mask = np.zeros((40, 50), dtype=bool)
    mask[3:6, 4:9] = mask[6, 9] = mask[20:, 30] = mask[39, 49] = True
    shares, regions = region_shares(mask)
    labelled, expected = ndimage.label(mask, np.ones((3, 3)))
    assert regions == expected == 3
    areas = np.bincount(labelled.ravel())
    np.testing.assert_allclose(shares, 1 / areas[labelled[mask]])
    assert region_shares(np.zeros((3, 3), dtype=bool))[1] == 0


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "message"),
    [
        (np.zeros(4), None, r"\(4,\)"),
        (np.zeros((0, 4)), None, r"\(0, 4\)"),
        (np.array([[0, np.nan]]), None, "NaN"),
        (np.array([[0, -np.inf]]), None, "NaN"),
        (np.zeros((2, 2)), np.zeros((2, 3)), r"mask .*\(2, 3\).*\(2, 2\)"),
    ],
)
def test_refused_maps_leave_the_counts_alone(anomaly_map, mask, message):
    counts = PixelCounts()
    with pytest.raises(ValueError, match=message):
        counts.add(anomaly_map, mask)
    assert counts.maps == 0
    assert len(counts.state()["pixels"]) == 0


@pytest.fixture
def tensors_lie_on_a_gpu(monkeypatch):
    """Send all tensors the way of those on a GPU."""
    for module in (counts_module, inputs):
        monkeypatch.setattr(module, "is_on_gpu", torch.is_tensor)


def awkward_maps() -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Return maps with ties, both zeros, denormals and values of any size, and masks, of which some are empty."""
    rng = np.random.default_rng(3)
    zeros = np.array([[0.0, -0.0, 1e-45, -1e-45], [1e-39, -1e-39, 3.4e38, -3.4e38]], np.float32)
    ties = rng.integers(-3, 4, (40, 30)).astype(np.float32) / 4
    even = rng.uniform(0, 1, (518, 518)).astype(np.float32)
    bits = rng.integers(0, 2**32, (90, 70), dtype=np.uint32).view(np.float32)
    any_size = np.where(np.isfinite(bits), bits, np.float32(0))
    maps = [np.array([[0.5]], np.float32), zeros, ties, even, any_size, ties, even[::2, ::3]]
    masks: list[np.ndarray | None] = [(rng.uniform(size=one.shape) < 0.1).astype(np.uint8) for one in maps]
    masks[2], masks[5] = np.zeros_like(masks[2]), None
    return maps, masks


@pytest.mark.parametrize("order", [1, -1], ids=["coarser at the end", "coarser early"])
def test_maps_on_a_gpu_are_counted_like_arrays(tensors_lie_on_a_gpu, order):
    maps, masks = awkward_maps()
    arrays, tensors, mixed, parts = PixelCounts(), PixelCounts(), PixelCounts(), [PixelCounts(), PixelCounts()]
    for index, (one, mask) in list(enumerate(zip(maps, masks, strict=True)))[::order]:
        tensor = torch.from_numpy(one.copy())
        mask_tensor = None if mask is None else torch.from_numpy(mask)
        arrays.add(one, mask)
        tensors.add(tensor, mask_tensor)
        parts[index % 2].add(tensor, mask)
        mixed.add(one if index % 2 else tensor, mask)
    parts[0].merge(parts[1])
    assert arrays.bin_bits < 16
    for counts in (tensors, mixed):
        assert counts.bin_bits == arrays.bin_bits
        for name, values in arrays.state().items():
            np.testing.assert_array_equal(counts.state()[name], values, err_msg=name)
    assert_same(parts[0], arrays)


def test_metrics_of_maps_on_a_gpu(tensors_lie_on_a_gpu):
    maps, masks = data(next(iter(KINDS)))
    batch = {"image_scores": maps.max((1, 2)), "labels": masks.any((1, 2)), "masks": masks}
    expected = AnomalyDetectionMetric().compute(anomaly_maps=maps, **batch)
    assert AnomalyDetectionMetric().compute(anomaly_maps=torch.from_numpy(maps), **batch) == expected
    assert AnomalyDetectionMetric().compute(anomaly_maps=list(torch.from_numpy(maps)), **batch) == expected


def test_refused_maps_on_a_gpu_leave_the_counts_alone(tensors_lie_on_a_gpu):
    counts, good = PixelCounts(), torch.zeros(2, 2)
    for one, mask in [(good[0], None), (good[:0], None), (good / 0, None), (good, torch.zeros(2, 3))]:
        with pytest.raises(ValueError):
            counts.add(one, mask)
        with pytest.raises(ValueError, match="image 0"):
            AnomalyDetectionMetric().add(image_score=0.5, label=0, anomaly_map=one, mask=mask)
    assert counts.maps == 0
    assert len(counts.state()["pixels"]) == 0
