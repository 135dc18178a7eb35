# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf import AnomalyScorer, EvaluationResult, evaluate_model, load_anomaly_dataset


@pytest.fixture
def evaluate(model, processor, parts_folder):
    """Evaluate the tiny model on the parts, as they lie on disk when it is called."""

    def evaluate_parts(batch_size: int = 8, **options) -> EvaluationResult:
        scorer = AnomalyScorer(model, processor, batch_size=batch_size)
        return evaluate_model(scorer, load_anomaly_dataset("folder", parts_folder), show_progress=False, **options)

    return evaluate_parts
