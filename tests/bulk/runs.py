# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Fixtures of the tests of bulk scoring; test modules name them in `pytest_plugins`."""

from pathlib import Path

import pytest
from bulk.rows import write_images

from anomalyclip_hf import AnomalyCLIPProcessor, AnomalyScorer, score_dataset
from conftest import tiny_model


@pytest.fixture(scope="session")
def bulk_model(tmp_path_factory) -> str:
    """Folder of the tiny model with its processor."""
    folder = tmp_path_factory.mktemp("bulk_model")
    model = tiny_model()
    model.save_pretrained(folder)
    AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Folder with 40 images in three folders; tests must not change it."""
    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder, 40)
    return folder


@pytest.fixture(scope="session")
def expected(pictures, bulk_model) -> dict[str, float]:
    """Score of each picture by the engine alone."""
    paths = [str(path) for path in sorted(pictures.rglob("*.png"))]
    return {result.source: result.score for result in AnomalyScorer(bulk_model, batch_size=8).score(paths)}


@pytest.fixture
def score(bulk_model, tmp_path):
    """Score into `tmp_path / "out"` with the tiny model, in parts of about 8 images."""

    def run(inputs, **options):
        options = {"output_dir": tmp_path / "out", "model": bulk_model, "part_size": 8} | options
        return score_dataset(inputs, **options)

    return run
