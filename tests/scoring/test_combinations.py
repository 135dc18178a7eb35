# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Tiles, references, comparison within a batch and other runtimes, in every combination."""

import itertools

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import AnomalyCLIPProcessor, AnomalyScorer
from conftest import tiny_model


pytest_plugins = ["export.exports"]
MEANS = ("tile", "references", "mutual")
COMBINATIONS = [*itertools.combinations(MEANS, 2), MEANS]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Plates larger than a tile and much alike; the last has a spot."""
    rng = np.random.default_rng(2)
    grain = rng.normal(140, 20, (70, 110, 3))
    plates = [(grain + rng.normal(0, 3, grain.shape)).clip(0, 255).astype(np.uint8) for _ in range(4)]
    plates[3][20:34, 60:74] = 10
    return [Image.fromarray(plate) for plate in plates]


@pytest.fixture(scope="module")
def models(tmp_path_factory, exports) -> dict[str, str]:
    """Folder of one model in PyTorch, and of its export in 8 bits."""
    folder, model = tmp_path_factory.mktemp("models"), tiny_model()
    processor = AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0)
    model.save_pretrained(folder / "torch")
    processor.save_pretrained(folder / "torch")
    return {"torch": str(folder / "torch"), "int8": str(exports("onnxruntime int8"))}


@pytest.fixture(scope="module")
def score(models, photos):
    """Score the photos with some means; returns the engine and the results."""

    def score_photos(runtime: str, means: tuple[str, ...], batch_size: int = 8):
        given = {"tile": 48, "references": photos[:2], "mutual": True}
        scorer = AnomalyScorer(models[runtime], batch_size=batch_size, **{name: given[name] for name in means})
        return scorer, list(scorer.score(photos))

    return score_photos


@pytest.mark.parametrize("runtime", ["torch", "int8"])
@pytest.mark.parametrize("means", COMBINATIONS, ids="+".join)
def test_any_two_combine(score, runtime, means):
    scorer, results = score(runtime, means)
    plain, expected = score(runtime, ())
    name = plain.backend.name
    for wrapper in ("references", "mutual"):
        name = f"{wrapper}({name})" if wrapper in means else name
    assert scorer.backend.name == name
    assert scorer.score_key != plain.score_key
    for result, without in zip(results, expected, strict=True):
        assert result.anomaly_map.shape == result.size == (70, 110)
        assert 0 <= result.score <= 1
        assert 0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= scorer.map_maximum
        assert np.abs(result.anomaly_map - without.anomaly_map).max() > 1e-4


def test_scores_do_not_depend_on_how_batches_form(score):
    (_, one), (_, many) = score("torch", MEANS, batch_size=1), score("torch", MEANS, batch_size=7)
    for single, result in zip(one, many, strict=True):
        assert result.score == pytest.approx(single.score, abs=2e-5)
        np.testing.assert_allclose(result.anomaly_map, single.anomaly_map, atol=2e-5)
