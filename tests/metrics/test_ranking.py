# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from slow_metrics import KINDS, data, slow_aupro, slow_aupro_published, slow_score_metrics

from anomalyclip_hf.metrics import compute_score_metrics, ranking
from anomalyclip_hf.metrics import histogram as counts_module
from anomalyclip_hf.metrics.bounds import (
    aupro_error,
    auroc_error,
    average_precision_error,
    f1_max_error,
    largest_error,
)
from anomalyclip_hf.metrics.histogram import PixelCounts, RankedCounts


def rank(maps, masks) -> RankedCounts:
    counts = PixelCounts()
    for anomaly_map, mask in zip(maps, masks, strict=True):
        counts.add(anomaly_map, mask)
    return counts.ranked()


def metrics_of(ranked: RankedCounts, limit: float) -> np.ndarray:
    pair = ranked.positives, ranked.negatives
    precision = ranking.average_precision(*pair, mixed=ranked.lowest < ranked.highest)
    area = ranking.aupro(ranked.coverage, ranked.negatives, limit)
    return np.array([ranking.auroc(*pair), precision, ranking.f1_max(*pair), area])


@pytest.mark.parametrize("ties", [False, True])
def test_image_metrics_equal_those_of_scikit_learn(ties):
    rng = np.random.default_rng(3)
    labels = rng.random(500) > 0.6
    scores = rng.normal(size=500) + labels
    scores = np.round(scores, 1) if ties else scores
    assert list(compute_score_metrics(scores, labels).values()) == pytest.approx(
        slow_score_metrics(scores, labels), abs=1e-13
    )


@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_pixel_metrics_equal_those_of_single_pixels(kind, limit):
    maps, masks = data(kind)
    ranked = rank(maps, masks)
    expected = np.array([*slow_score_metrics(maps, masks), slow_aupro(maps, masks, limit)])
    error = np.abs(metrics_of(ranked, limit) - expected)
    assert error.max() < 1e-4
    assert error.max() <= largest_error(ranked, limit) + 1e-12


def test_the_bound_holds_where_values_crowd_below_one():
    maps, masks = data("sharp_softmax", size=(60, 70))
    ranked = rank(maps, masks)
    expected = np.array([*slow_score_metrics(maps, masks), slow_aupro(maps, masks, 0.02)])
    error = np.abs(metrics_of(ranked, 0.02) - expected)
    assert 1e-4 < error.max() <= largest_error(ranked, 0.02)


# "narrow" has fewer values than thresholds, "decades" nearly all of them under the first threshold.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"narrow", "decades"}))
def test_published_aupro_is_that_of_200_thresholds(kind):
    maps, masks = data(kind, size=(48, 60))
    ranked = rank(maps, masks)
    value = ranking.aupro_published(ranked.lowest, ranked.highest, ranked.coverage, ranked.negatives)
    assert value == pytest.approx(slow_aupro_published(maps, masks), abs=1e-4)
    assert abs(value - ranking.aupro(ranked.coverage, ranked.negatives)) > 1e-3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["signed", "negative", "softmax_with_zeros", "saturated"])
def test_bounds_hold_where_bins_are_far_too_few(kind, seed, monkeypatch):
    monkeypatch.setattr(counts_module, "BIN_BUDGET", 2**12)
    limit = 0.1 + 0.2 * seed
    maps, masks = data(kind, seed=seed)
    maps = (100 + maps) / 8 if seed % 2 else maps  # few pages more, or fewer
    ranked = rank(maps, masks)
    mixed = ranked.lowest < ranked.highest
    pair = ranked.positives, ranked.negatives, mixed
    bounds = [auroc_error(*pair), average_precision_error(*pair), f1_max_error(*pair)]
    bounds.append(aupro_error(ranked.coverage, ranked.negatives, mixed, limit))
    expected = np.array([*slow_score_metrics(maps, masks), slow_aupro(maps, masks, limit)])
    error = np.abs(metrics_of(ranked, limit) - expected)
    assert (error <= np.array(bounds) + 1e-12).all()
    assert largest_error(ranked, limit) == max(bounds) < 0.05


def orders_within_bins(seed: int):
    """Counts of three coarse bins, and the same scores told apart in a random order inside each."""
    rng = np.random.default_rng(seed)
    labels, bins = rng.random(12) > 0.5, np.sort(rng.integers(0, 3, 12))[::-1]
    labels[:2] = [True, False]
    coarse = np.array([[(labels & (bins == b)).sum(), (~labels & (bins == b)).sum()] for b in (2, 1, 0)]).T
    fine = np.concatenate([rng.permutation(labels[bins == b]) for b in (2, 1, 0)])
    return coarse[:, coarse.sum(0) > 0], fine.astype(int)


def test_bounds_hold_for_any_order_and_are_nearly_reached():
    shares = {"auroc": [], "average_precision": [], "f1_max": [], "aupro": []}
    for seed in range(3000):
        (positives, negatives), fine = orders_within_bins(seed)
        mixed = (positives + negatives) > 1
        for name, reached in shares.items():
            extra = (0.4,) if name == "aupro" else ()
            known = (mixed,) if name == "average_precision" else extra
            metric = getattr(ranking, name)
            bound = {"auroc": auroc_error, "average_precision": average_precision_error, "f1_max": f1_max_error,
                     "aupro": aupro_error}[name](positives, negatives, mixed, *extra)  # fmt: skip
            error = abs(metric(positives, negatives, *known) - metric(fine, 1 - fine, *extra))
            assert error <= bound + 1e-12, (name, seed)
            reached.append(error / bound if bound > 1e-9 else 0)
    for name, reached in shares.items():
        assert max(reached) > 0.6, name  # a bound that were far too wide would say nothing


def test_no_mixed_bin_no_error():
    positives, negatives = np.array([3, 0, 2]), np.array([1, 4, 2])
    single = np.zeros(3, dtype=bool)
    for bound in (auroc_error, average_precision_error, f1_max_error):
        assert bound(positives, negatives, single) == 0
    assert aupro_error(positives / 2, negatives, single, 0.3) == 0


def test_metrics_known_by_hand():
    perfect, inverted = (np.array([2, 0]), np.array([0, 3])), (np.array([0, 2]), np.array([3, 0]))
    for metric in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.aupro):
        assert metric(*perfect) == pytest.approx(1)
    assert ranking.auroc(*inverted) == ranking.aupro(*inverted) == 0
    assert ranking.auroc(np.array([5]), np.array([5])) == 0.5
    assert ranking.aupro(np.array([1.0]), np.array([5]), limit=0.3) == pytest.approx(0.15)


def test_undefined_metrics_are_none():
    some, none = np.array([1, 2]), np.array([0, 0])
    for metric in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.aupro):
        assert metric(some, none) is None
        assert metric(none, some) is None
    values = np.array([0.7, 0.2])
    assert ranking.aupro_published(values, values, some, none) is None
    assert ranking.aupro_published(np.array([0.5]), np.array([0.5]), some[:1], some[:1]) is None
    assert ranking.aupro_published(values, values, np.array([1.0, 0.0]), np.array([0, 4])) is None  # only the rate 0


def test_curves_are_thin_and_keep_their_area():
    maps, masks = data("signed", number=8, size=(60, 70))
    ranked = rank(maps, masks)
    for heights, exact in (
        (ranked.positives, ranking.auroc(ranked.positives, ranked.negatives)),
        (ranked.coverage, ranking.aupro(ranked.coverage, ranked.negatives, limit=1.0)),
    ):
        x, y = ranking.roc_curve(heights, ranked.negatives)
        assert len(x) == len(y) <= 1002 < len(ranked.lowest)
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert (np.diff(x) >= 0).all()
        assert ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() == pytest.approx(exact, abs=1e-3)
    recall, precision = ranking.precision_recall_curve(ranked.positives, ranked.negatives)
    assert len(recall) <= 1002
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(masks.mean())
