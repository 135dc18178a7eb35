# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf import AnomalyCLIPProcessor, load_anomaly_dataset
from anomalyclip_hf.evaluation.scoring import Scorer


@pytest.fixture
def make_scorer(model, parts_folder):
    """A scorer of the tiny model on the parts, as they lie on disk when it is called."""

    def make(**options) -> Scorer:
        processor = AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0)
        return Scorer(model, processor, load_anomaly_dataset("folder", parts_folder), **options)

    return make
