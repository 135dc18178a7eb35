# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from scipy import ndimage
from slow_metrics import KINDS, data

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
