# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score, roc_curve

from anomalyclip_hf.evaluation.decisions import count_decisions, decisions_of, recall_threshold


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 80)
    return np.round(rng.normal(0.4 + 0.1 * labels, 0.1), 2), labels  # with ties


def rows_of(scores, labels, category=None) -> list[dict]:
    pairs = zip(scores.tolist(), labels.tolist(), strict=True)
    return [{"score": score, "label": label, "category": category, "error": None} for score, label in pairs]


def test_counts_equal_scikit_learn(scored):
    scores, labels = scored
    counts = count_decisions(scores, labels, 0.45)
    called = scores >= 0.45
    order = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    assert [counts[name] for name in order] == confusion_matrix(labels, called).ravel().tolist()
    assert counts["precision"] == pytest.approx(precision_score(labels, called))
    assert counts["recall"] == pytest.approx(recall_score(labels, called))
    assert counts["f1"] == pytest.approx(f1_score(labels, called))


@pytest.mark.parametrize("recall", [0.01, 0.5, 0.9, 0.95, 1.0])
def test_false_alarms_at_a_recall_are_those_of_the_roc_curve(scored, recall):
    scores, labels = scored
    rates, recalls, _ = roc_curve(labels, scores, drop_intermediate=False)
    counts = count_decisions(scores, labels, recall_threshold(scores, labels, recall))
    assert counts["recall"] >= recall
    assert counts["false_alarm_rate"] == pytest.approx(rates[recalls >= recall - 1e-12].min())


@pytest.mark.parametrize("images", [3, 7, 10, 20, 100])
def test_a_recall_that_is_a_whole_number_of_images_asks_for_no_more(images):
    scores = np.arange(images) / images
    for found in range(1, images + 1):
        threshold = recall_threshold(scores, np.ones(images), found / images)
        assert (scores >= threshold).sum() == found


def test_categories_and_all_images(scored):
    scores, labels = scored
    rows = rows_of(scores[:40], labels[:40], "nut") + rows_of(scores[40:], labels[40:], "bolt")
    rows.append({"score": None, "label": 1, "category": "bolt", "error": "unreadable"})
    found = decisions_of(rows, recalls=(0.8,))
    assert list(found) == ["bolt", "nut", "all images"]
    best = max(f1_score(labels, scores >= threshold) for threshold in scores)
    assert found["all images"]["best_f1"]["f1"] == pytest.approx(best)
    (at_recall,) = found["nut"]["at_recall"]
    assert at_recall["asked_recall"] == 0.8
    assert at_recall == {"asked_recall": 0.8, **count_decisions(scores[:40], labels[:40], at_recall["threshold"])}


def test_images_of_one_kind_have_no_decisions():
    scores = np.array([0.1, 0.2])
    assert decisions_of(rows_of(scores, np.zeros(2))) == {"all images": None}
    assert decisions_of([]) == {"all images": None}
    assert count_decisions(scores, np.zeros(2), 0.15)["recall"] is None
