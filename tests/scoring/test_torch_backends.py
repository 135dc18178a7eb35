# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from transformers.utils import logging

from anomalyclip_hf import AnomalyScorer
from anomalyclip_hf.modeling_anomalyclip import gaussian_smooth
from anomalyclip_hf.scoring.torch_backends import CompiledBackend, TorchBackend


@pytest.fixture
def pixel_values() -> np.ndarray:
    return np.random.default_rng(0).random((3, 3, 40, 40), dtype=np.float32)


def check_equal(found, expected):
    for array, reference in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(array, reference, atol=1e-5, rtol=0)


def test_the_torch_backend_equals_the_model(model, pixel_values):
    with torch.no_grad():
        outputs = model(pixel_values=torch.from_numpy(pixel_values))
    found = TorchBackend(model, 2.0).run(pixel_values)
    check_equal(found, (outputs.image_scores, gaussian_smooth(outputs.anomaly_maps, 2.0)))
    assert found.patch_features == ()


def test_patch_features_come_from_the_same_pass(model, pixel_values):
    layers = [2, 1]
    found = TorchBackend(model).run(pixel_values, layers)
    check_equal(found, TorchBackend(model).run(pixel_values))
    with torch.no_grad():
        expected = model.get_patch_features(torch.from_numpy(pixel_values), layers)
    for states, reference in zip(found.patch_features, expected, strict=True):
        torch.testing.assert_close(states, reference, atol=1e-5, rtol=0)
    assert found.image_embeds.norm(dim=-1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_fingerprint_tells_weights(model):
    before = TorchBackend(model).fingerprint
    assert TorchBackend(model).fingerprint == before
    with torch.no_grad():
        next(model.prompt_learner.parameters()).add_(1)
    assert TorchBackend(model).fingerprint != before


def test_a_backend_leaves_the_model_trainable(model, pixel_values):
    TorchBackend(model).run(pixel_values)
    assert all(prompt.requires_grad for prompt in model.prompt_learner.parameters())
    model(pixel_values=torch.from_numpy(pixel_values), labels=torch.tensor([0, 1, 0])).loss.backward()


def test_the_compiled_backend_sees_one_shape(model, pixel_values, monkeypatch):
    shapes = []

    def compile_like(function, **options):
        assert options == {"fullgraph": True, "dynamic": False}
        return lambda pixels, layers: shapes.append(tuple(pixels.shape)) or function(pixels, layers)

    monkeypatch.setattr(torch, "compile", compile_like)
    backend, expected = CompiledBackend(model, 4.0, 4), TorchBackend(model).run(pixel_values)
    check_equal(backend.run(pixel_values), expected)
    check_equal(backend.run(pixel_values[:1]), [array[:1] for array in expected[:2]])
    assert shapes == [(4, 3, 40, 40)] * 2


def test_without_a_compiler_it_goes_on_and_says_so_once(model, pixel_values, monkeypatch, caplog):
    def fails(pixels, layers):
        raise BackendCompilerFailed(lambda: None, RuntimeError("no working C++ compiler"), None)

    monkeypatch.setattr(torch, "compile", lambda function, **options: fails)
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    monkeypatch.setattr("anomalyclip_hf.scoring.torch_backends.logger.propagate", True)
    backend = CompiledBackend(model, 4.0, 4)
    for _ in range(2):
        check_equal(backend.run(pixel_values), TorchBackend(model).run(pixel_values))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("compiling")
    assert "torch.compile" in second


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_is_a_memory_error_on_any_device(model, pixel_values, monkeypatch, error):
    backend = TorchBackend(model)
    monkeypatch.setattr(backend, "_compute", Mock(side_effect=error))
    with pytest.raises(MemoryError, match="memory"):
        backend.run(pixel_values)


def test_the_compiled_backend_goes_on_with_smaller_batches(model, monkeypatch):
    sizes, images = [], list(np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3), dtype=np.uint8))

    def compile_like(function, **options):
        def run(pixels, layers):
            sizes.append(pixels.shape[0])
            if pixels.shape[0] > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return function(pixels, layers)

        return run

    monkeypatch.setattr(torch, "compile", compile_like)
    scorer = AnomalyScorer(model, backend="compile", batch_size=4)
    expected = [result.score for result in AnomalyScorer(model).score(images)]
    found = [result.score for result in scorer.score(images)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert sizes == [4, 2, 2, 2]


@pytest.mark.slow
def test_the_real_compiler_gives_the_same_numbers(model, pixel_values):
    check_equal(CompiledBackend(model, 4.0, 4).run(pixel_values), TorchBackend(model).run(pixel_values))
