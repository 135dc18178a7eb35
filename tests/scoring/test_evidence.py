# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from scipy import stats

from anomalyclip_hf.scoring.evidence import (
    ANOMALOUS,
    TEXT_SCALE,
    ReferenceEvidence,
    image_distances,
    shift_odds,
)


def test_evidence_is_the_log_ratio_of_two_normal_densities():
    evidence = ReferenceEvidence.from_held_out([0.1, 0.14, 0.12, 0.1])
    normal = stats.norm(evidence.normal, evidence.deviation)
    anomalous = stats.norm(ANOMALOUS, evidence.deviation)
    distances = np.array([0.0, 0.1, 0.3, 0.49])
    expected = (anomalous.logpdf(distances) - normal.logpdf(distances)) / TEXT_SCALE
    np.testing.assert_allclose(evidence(distances), expected, atol=1e-6)


def test_evidence_grows_with_the_distance_up_to_that_of_an_anomaly():
    evidence = ReferenceEvidence.from_held_out([0.1, 0.2])
    values = evidence(np.linspace(0, 2, 50))
    assert (np.diff(values) >= 0).all()
    assert values[-1] == evidence(np.array([ANOMALOUS]))[0] > 0 > values[0]


@pytest.mark.parametrize("held_out", [[0.5, 0.6], [0.9, 0.4, 0.8, 0.7]])
def test_references_as_far_from_each_other_as_anomalies_say_nothing(held_out):
    evidence = ReferenceEvidence.from_held_out(held_out)
    assert evidence.weight == 0
    assert not evidence(np.array([0.0, 0.5, 3.0])).any()


def test_alike_references_weigh_more_than_different_ones_and_one_weighs_least():
    alike = ReferenceEvidence.from_held_out([0.1] * 8)
    different = ReferenceEvidence.from_held_out([0.02, 0.3, 0.1, 0.4, 0.2, 0.05, 0.3, 0.1])
    single = ReferenceEvidence.from_held_out([])
    assert alike.weight > 2 * different.weight > 2 * single.weight > 0


def test_image_distance_is_the_mean_of_the_most_distant_patches():
    distances = np.random.default_rng(0).random((3, 200))
    np.testing.assert_allclose(image_distances(distances), np.sort(distances, 1)[:, -4:].mean(1))
    assert image_distances(np.array([[0.2, 0.7]])).tolist() == [0.7]


def test_shifted_odds_stay_probabilities():
    probabilities = np.array([0, 1e-6, 0.3, 0.5, 1 - 1e-6, 1], np.float32)
    for shift in (-1000, -30, -1.5, 0, 2, 30, 1000):
        shifted = shift_odds(probabilities, np.full(6, float(shift)))
        assert shifted.dtype == np.float32
        assert ((shifted >= 0) & (shifted <= 1)).all()
        assert shifted[0] == 0
        assert shifted[-1] == 1
    expected = 1 / (1 + np.exp(-(np.log(0.3 / 0.7) + 2)))
    assert shift_odds(np.array([0.3]), np.array([2.0]))[0] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(shift_odds(probabilities, np.zeros(6)), probabilities, atol=2e-7)


@pytest.mark.parametrize("count", [200, 400, 10_000])
def test_many_alike_images_leave_scores_finite_and_in_order(count):
    evidence = ReferenceEvidence.from_held_out(np.random.default_rng(0).normal(0.03, 0.005, count))
    distances = np.linspace(0, 1, 50)
    scores = shift_odds(np.full(50, 0.5, np.float32), evidence(distances))
    assert np.isfinite(scores).all()
    below = distances < ANOMALOUS
    assert (np.diff(scores[below]) > 0).all()
    assert scores.max() < 1
    text = shift_odds(np.array([0.2, 0.4, 0.6, 0.8], np.float32), evidence(np.full(4, 1.0)))
    assert (np.diff(text) > 0).all()
