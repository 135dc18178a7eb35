# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from transformers.utils import logging

from anomalyclip_hf.scoring.backends import CompiledBackend, TorchBackend


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def check_equal(found, expected):
    for tensor, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, reference, atol=1e-5, rtol=0)


def test_the_torch_backend_equals_the_model(model, pixel_values):
    with torch.no_grad():
        outputs = model(pixel_values=pixel_values)
    check_equal(TorchBackend(model).run(pixel_values), (outputs.image_scores, outputs.anomaly_maps))


def test_a_backend_leaves_the_model_trainable(model, pixel_values):
    TorchBackend(model).run(pixel_values)
    assert all(prompt.requires_grad for prompt in model.prompt_learner.parameters())
    model(pixel_values=pixel_values, labels=torch.tensor([0, 1, 0])).loss.backward()


def test_the_compiled_backend_sees_one_shape(model, pixel_values, monkeypatch):
    shapes = []

    def compile_like(function, **options):
        assert options == {"fullgraph": True, "dynamic": False}
        return lambda pixels: shapes.append(tuple(pixels.shape)) or function(pixels)

    monkeypatch.setattr(torch, "compile", compile_like)
    backend, expected = CompiledBackend(model, 4), TorchBackend(model).run(pixel_values)
    check_equal(backend.run(pixel_values), expected)
    check_equal(backend.run(pixel_values[:1]), [tensor[:1] for tensor in expected])
    assert shapes == [(4, 3, 40, 40)] * 2


def test_without_a_compiler_it_goes_on_and_says_so_once(model, pixel_values, monkeypatch, caplog):
    def fails(pixels):
        raise BackendCompilerFailed(lambda: None, RuntimeError("no working C++ compiler"), None)

    monkeypatch.setattr(torch, "compile", lambda function, **options: fails)
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    monkeypatch.setattr("anomalyclip_hf.scoring.backends.logger.propagate", True)
    backend = CompiledBackend(model, 4)
    for _ in range(2):
        check_equal(backend.run(pixel_values), TorchBackend(model).run(pixel_values))
    assert sum("torch.compile" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.slow
def test_the_real_compiler_gives_the_same_numbers(model, pixel_values):
    check_equal(CompiledBackend(model, 4).run(pixel_values), TorchBackend(model).run(pixel_values))
