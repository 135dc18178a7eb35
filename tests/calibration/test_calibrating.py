# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import math

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import f1_score

from anomalyclip_hf import Calibration, calibrate
from anomalyclip_hf.calibration import calibrating
from anomalyclip_hf.calibration.calibrating import conformal_rank, images_needed, just_above, thin_scores


SPLITS = 1000
ALLOWED = [(19, 0.05), (40, 0.05), (199, 0.05), (199, 0.01)]


@pytest.fixture(scope="module")
def population() -> tuple[np.ndarray, np.ndarray]:
    """Scores and anomaly maps of 1,200 normal images."""
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 5, 1200).astype(np.float32)
    maps = ndimage.gaussian_filter(rng.random((1200, 24, 24)), (0, 2, 2)).astype(np.float32)
    return scores, maps * (0.5 + scores[:, None, None])


@pytest.mark.parametrize(("images", "alpha"), ALLOWED)
def test_false_alarm_rates_over_random_splits(population, images, alpha):
    scores, maps = population
    maxima = maps.max(axis=(1, 2))
    rng, rates = np.random.default_rng(images), []
    for _ in range(SPLITS):
        order = rng.permutation(len(scores))
        known, new = order[:images], order[images:]
        found = calibrate(scores[known], alpha=alpha, map_maxima=maxima[known])
        any_region = (maps[new[:50]] >= found.pixel_threshold).any(axis=(1, 2))
        assert (any_region == (maxima[new[:50]] >= found.pixel_threshold)).all()
        rates.append([(scores[new] >= found.threshold).mean(), (maxima[new] >= found.pixel_threshold).mean()])
    error = 3 * np.std(rates, axis=0) / math.sqrt(SPLITS)
    assert (np.mean(rates, axis=0) <= alpha + error).all()
    assert (np.mean(rates, axis=0) > alpha / 3).all()


@pytest.mark.parametrize(("images", "alpha"), [*ALLOWED, (57, 0.1)])
def test_the_rate_of_a_calibration_follows_the_beta_law(images, alpha):
    rng = np.random.default_rng(images)
    rates = [1 - calibrate(rng.random(images, dtype=np.float32), alpha=alpha).threshold for _ in range(SPLITS)]
    rank = math.ceil(round((images + 1) * (1 - alpha), 9))
    law = stats.beta(images + 1 - rank, rank)
    assert stats.kstest(rates, law.cdf).pvalue > 0.01
    assert law.mean() <= alpha + 1e-12
    assert calibrate(rng.random(images), alpha=alpha).rate_interval == pytest.approx(law.interval(0.95))


@pytest.mark.parametrize(("images", "alpha"), [(18, 0.05), (98, 0.01), (19, 0.01), (40, 0.01), (8, 0.1)])
def test_too_few_images_are_refused_with_the_number_needed(images, alpha):
    with pytest.raises(ValueError, match=rf"got {images} .* at least {math.ceil(round(1 / alpha, 9)) - 1}\b"):
        calibrate(np.linspace(0, 1, images), alpha=alpha)


def test_the_rank_is_computed_with_the_decimal_that_is_written():
    for images in range(1, 400):
        for percent in (1, 5, 7, 10, 29, 33, 57):  # 100 * 0.07 is 7.000000000000001
            exact = -((-(images + 1) * (100 - percent)) // 100)
            assert conformal_rank(images, percent / 100) == exact
            assert (exact <= images) == (images >= images_needed(percent / 100))


def test_an_equal_score_is_not_anomalous():
    scores = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    found = calibrate(scores, alpha=0.1, map_maxima=scores)
    highest = float(scores[-1])
    assert not highest >= found.threshold
    assert not (scores >= found.threshold).any()  # compared in float32
    assert np.nextafter(scores[-1], np.float32(1)) >= found.threshold
    assert not (scores >= found.pixel_threshold).any()
    assert found.pixel_threshold == pytest.approx(highest, rel=2e-6)
    assert found.decide(highest) == "accept"
    assert found.p_value(highest) == 0.2


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.0, 1.0, 0.7, 1e-9, 0.1 + 1e-12, -0.25])
def test_the_next_float32_is_above_in_both_precisions(value):
    above = just_above(value)
    assert above > value
    assert float(np.float32(above)) == above
    assert float(np.nextafter(np.float32(above), np.float32(-np.inf))) <= value


def test_ties_do_not_break_the_guarantee():
    rng = np.random.default_rng(5)
    scores = np.round(rng.beta(2, 5, 3000), 1).astype(np.float32)
    rates = []
    for _ in range(300):
        order = rng.permutation(len(scores))
        found = calibrate(scores[order[:40]], map_maxima=scores[order[:40]])
        assert found.threshold == just_above(np.sort(scores[order[:40]])[38])
        rates.append((scores[order[40:]] >= found.threshold).mean())
    assert np.mean(rates) <= 0.05


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_scores(value):
    scores = np.full(30, value, np.float32)
    found = calibrate(scores, map_maxima=scores)
    assert not (scores >= found.threshold).any()
    assert not (scores >= found.pixel_threshold).any()
    assert found.p_value(float(scores[0])) == 1.0
    assert len(found.notes) == 2
    assert any("equal" in line for line in found.describe())


def test_p_values_and_decisions_agree(population):
    known, new = population[0][:120], population[0][120:]
    found = calibrate(known, alpha=0.05, review_alpha=0.2)
    for score in (*new.tolist(), *known.tolist()):
        p_value = found.p_value(score)
        assert p_value == (1 + (known >= score).sum()) / 121
        decision = "reject" if p_value <= 0.05 else "look" if p_value <= 0.2 else "accept"
        assert found.decide(score) == decision
        assert (score >= found.threshold) == (decision == "reject")


def test_few_scores_are_stored_of_many_images(monkeypatch):
    monkeypatch.setattr(calibrating, "MAX_KEPT", 40)
    rng = np.random.default_rng(1)
    normal = rng.random(700)
    found = calibrate(normal, alpha=0.3, review_alpha=0.6)
    assert len(found.normal_scores) <= 42
    assert sum(found.normal_counts) == 700
    for score in rng.random(500).tolist():
        exact = (1 + (normal >= score).sum()) / 701
        assert exact <= found.p_value(score) <= exact + 0.06
        assert (found.p_value(score) <= 0.3) == (exact <= 0.3)
        assert (found.p_value(score) <= 0.6) == (exact <= 0.6)
    assert found.p_value(float(np.sort(normal)[-3])) == 4 / 701
    assert thin_scores(np.array([0.5, 0.5, 0.7]), [1])[1].tolist() == [2, 1]


def test_categories_have_thresholds_of_their_own():
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.random(40) * 0.2, rng.random(40) * 0.2 + 0.6, [0.9]])
    categories = ["bolt"] * 40 + ["nut"] * 40 + [None]
    found = calibrate(scores, categories=categories, map_maxima=scores)
    assert list(found.categories) == ["bolt", "nut"]
    nut = calibrate(scores[40:80], map_maxima=scores[40:80])
    assert (found.categories["nut"].threshold, found.categories["nut"].pixel_threshold) == (
        nut.threshold,
        nut.pixel_threshold,
    )
    assert (found.normal, found.categories["nut"].normal) == (81, 40)
    assert found.decide(0.5, "bolt") == "reject"
    assert found.decide(0.5, "nut") == found.decide(0.5, "washer") == found.decide(0.5) == "accept"
    assert found.p_value(0.5, "bolt") == 1 / 41
    with pytest.raises(ValueError, match="nut"):
        calibrate(scores, categories=["bolt"] * 70 + ["nut"] * 11)


def test_quantile_takes_any_number_of_images():
    scores = np.arange(10) / 10
    found = calibrate(scores, method="quantile", alpha=0.2)
    assert found.threshold == just_above(0.7)
    assert found.metrics["false_alarm_rate"][0] == 0.2
    assert found.rate_interval is None
    assert calibrate([0.5], method="quantile", alpha=0.01).threshold == just_above(0.5)


def test_best_f1_and_its_interval(population):
    rng = np.random.default_rng(7)
    scores = np.concatenate([population[0][:100], population[0][100:160] + 0.3])
    labels = np.repeat([0, 1], [100, 60])
    found = calibrate(scores, method="f1", labels=labels, map_maxima=scores)
    best = max(f1_score(labels, scores >= threshold) for threshold in scores)
    value, low, high = found.metrics["f1"]
    assert value == pytest.approx(best)
    assert found.pixel_threshold == found.threshold
    assert found.alpha is None
    resampled = []
    for _ in range(1000):
        drawn = np.concatenate([rng.integers(0, 100, 100), rng.integers(100, 160, 60)])
        called, actual = scores[drawn] >= found.threshold, labels[drawn] > 0
        resampled.append(2 * (called & actual).sum() / (called.sum() + actual.sum()))
    assert [low, high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.02)
    assert found.metrics["recall"][0] == (scores[100:] >= found.threshold).mean()


def test_anomalous_images_do_not_move_a_conformal_threshold(population):
    normal = population[0][:50]
    scores, labels = np.concatenate([normal, [0.9, 0.95]]), [0] * 50 + [1, 1]
    found = calibrate(scores, labels=labels)
    assert found.threshold == calibrate(normal).threshold
    assert (found.normal, found.anomalous, found.metrics["recall"][0]) == (50, 2, 1.0)


def test_a_calibration_survives_json(population):
    scores = population[0][:60]
    found = calibrate(scores, review_alpha=0.1, categories=["a"] * 30 + ["b"] * 30, map_maxima=scores, data="parts")
    again = Calibration.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert "5 %" in repr(again)
    assert "60 normal" in repr(again)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"threshold": None}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"pixel_threshold": float("inf")}, "pixel_threshold"),
        ({"review_threshold": []}, "review_threshold"),
        ({"normal_scores": [0.1]}, "normal_scores"),
        ({"normal_counts": [0.5] * 25}, "normal_counts"),
        ({"normal_counts": "many"}, "normal_counts"),
        ({"categories": None}, "categories"),
        ({"categories": {"bolt": {}}}, "bolt"),
        ({"categories": {"bolt": 3}}, "bolt"),
    ],
)
def test_a_stored_calibration_that_makes_no_sense(change, name):
    stored = calibrate(np.linspace(0, 1, 25)).to_dict()
    with pytest.raises(ValueError, match=name):
        Calibration.from_dict(stored | change)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"alpha": 0}, "alpha"),
        ({"alpha": 1}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"review_alpha": 1.5}, "review_alpha"),
        ({"review_alpha": 0.05}, "review_alpha"),
        ({"method": "best"}, "method"),
        ({"method": "f1"}, "f1"),
        ({"method": "f1", "labels": [0] * 29 + [1], "review_alpha": 0.1}, "review_alpha"),
        ({"labels": [0] * 29}, "labels"),
        ({"labels": [2] * 30}, "labels"),
        ({"labels": [1] * 30}, "0 normal"),
        ({"categories": ["bolt"]}, "categories"),
        ({"map_maxima": [0.1]}, "map_maxima"),
        ({"map_maxima": [float("nan")] * 30}, "map_maxima"),
        ({"scores": [[0.1]]}, "scores"),
        ({"scores": []}, "scores"),
        ({"scores": [0.1] * 29 + [float("nan")]}, "index 29"),
        ({"scores": [float("inf")] + [0.1] * 29}, "index 0"),
    ],
)
def test_wrong_arguments(options, name):
    arguments = {"scores": np.linspace(0, 1, 30), **options}
    with pytest.raises(ValueError, match=name):
        calibrate(arguments.pop("scores"), **arguments)
