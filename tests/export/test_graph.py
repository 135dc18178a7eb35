# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The graph that exporters trace, run in PyTorch."""

import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf.export.graph import AnomalyGraph, ImageGraph
from anomalyclip_hf.modeling_anomalyclip import gaussian_smooth
from conftest import tiny_model


@pytest.mark.parametrize(
    "settings", [{}, {"feature_layers": [2, 4]}, {"dpam_attention": "qq"}, {"prompts": "ensemble"}]
)
def test_gives_what_the_model_gives(settings):
    model = tiny_model(**settings)
    if settings.get("prompts") == "ensemble":
        model.prompt_ensemble.text_embeds = torch.nn.functional.normalize(torch.randn(2, 24), dim=-1)
    pixel_values = torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        expected = model(pixel_values=pixel_values)
        scores, maps, patch_maps = AnomalyGraph(model, (40, 40), 2.0)(pixel_values)
    torch.testing.assert_close(scores, expected.image_scores)
    torch.testing.assert_close(maps, gaussian_smooth(expected.anomaly_maps, 2.0), atol=1e-5, rtol=0)
    resized = torch.nn.functional.interpolate(patch_maps[:, None], size=(40, 40), mode="bilinear")[:, 0]
    torch.testing.assert_close(resized, expected.anomaly_maps, atol=1e-5, rtol=0)


def test_gives_patch_features_and_image_embeddings_for_references():
    model, pixel_values = tiny_model(), torch.randn(2, 3, 40, 40)
    graph = AnomalyGraph(model, (40, 40), 4.0, feature_layers=[3, 1])
    assert graph.output_names[3:] == ["patch_features_3", "patch_features_1", "image_embeds"]
    with torch.no_grad():
        *_, third, first, embeds = graph(pixel_values)
        expected = model.get_patch_features(pixel_values, [3, 1])
        expected_embeds = model(pixel_values=pixel_values).image_embeds
    torch.testing.assert_close(third, expected[0])
    torch.testing.assert_close(first, expected[1])
    torch.testing.assert_close(embeds, expected_embeds)


def test_other_sizes_and_a_model_that_stays_as_it_is():
    model = tiny_model().to(torch.bfloat16)
    graph = AnomalyGraph(model, (32, 48), 4.0)
    with torch.no_grad():
        _, maps, patch_maps = graph(torch.randn(1, 3, 32, 48))
    assert maps.shape == (1, 32, 48)
    assert patch_maps.shape == (1, 4, 6)
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(50, 80), (40, 40), (19, 23), (640, 120)])
def test_resizes_as_pillow_does(size):
    """Shrinking, same size, enlarging, and both; an image with overshoot, which Pillow cuts off after each pass."""
    pixels = np.random.default_rng(0).integers(0, 2, (*size, 3), dtype=np.uint8) * 255
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    resized = np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC))
    expected = ((resized / 255 - mean) / std).transpose(2, 0, 1)

    class Recorder(torch.nn.Module):
        image_size = (40, 40)

        def forward(self, pixel_values):
            return pixel_values

    found = ImageGraph(Recorder(), mean, std)(torch.from_numpy(pixels)[None])
    # Pillow computes in integers: a value next to .5 may be rounded the other way.
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1.01 / 255 / min(std))
    assert np.mean(np.abs(found[0].numpy() - expected) > 1e-4) < 0.01
