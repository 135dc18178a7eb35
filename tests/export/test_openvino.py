# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Exported OpenVINO files against their models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf import AnomalyCLIPProcessor, export_openvino
from anomalyclip_hf.scoring.exported import read_exported
from anomalyclip_hf.scoring.runtimes import OpenVinoBackend
from anomalyclip_hf.scoring.torch_backends import TorchBackend
from conftest import tiny_model


pytest_plugins = ["export.exports"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(feature_layers=[2, 4])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).resize((60, 50)).save(folder / f"{index}.png")
    return folder


def compare(folder, model, count=3) -> tuple[float, float]:
    """Return the largest difference of scores, and of maps."""
    generator = torch.Generator().manual_seed(0)
    pixel_values = torch.randn(count, 3, 40, 40, generator=generator).numpy()
    sigma = AnomalyCLIPProcessor.from_pretrained(folder).smoothing_sigma
    found, expected = OpenVinoBackend(folder).run(pixel_values), TorchBackend(model, sigma).run(pixel_values)
    return (
        float(np.abs(found.image_scores - expected.image_scores).max()),
        float(np.abs(found.anomaly_maps - expected.anomaly_maps).max()),
    )


def test_float32_is_the_model_at_any_batch_size_and_describes_itself(exports):
    import openvino

    model, folder = tiny_model(), exports("openvino")
    for count in (1, 2, 5):
        scores, maps = compare(folder, model, count)
        assert scores < 1e-5
        assert maps < 1e-4
    program = openvino.Core().read_model(folder / "openvino_model.xml")
    description = json.loads((folder / "anomalyclip.json").read_text())
    assert sorted(description["files"]) == ["openvino_model.bin", "openvino_model.xml"]
    for name in ("threshold", "labels", "preprocessing", "map_maximum", "versions"):
        assert json.loads(str(program.get_rt_info(["model_info", name]).value)) == description[name]
    pixel_values = torch.randn(2, 3, 40, 40)
    outputs = OpenVinoBackend(folder).run(pixel_values.numpy(), [3])
    with torch.no_grad():
        expected = model.get_patch_features(pixel_values, [3])[0]
        embeds = model(pixel_values=pixel_values).image_embeds
    np.testing.assert_allclose(outputs.patch_features[0], expected, atol=1e-4)
    np.testing.assert_allclose(outputs.image_embeds, embeds, atol=1e-5)


def test_bfloat16_has_half_the_weights_and_stays_close(model, tmp_path):
    export_openvino(model, tmp_path / "out", precision="bfloat16")
    scores, maps = compare(tmp_path / "out", model)
    assert scores < 0.02
    assert maps < 0.02 * 2  # two layers


def test_int8_is_calibrated_on_images_and_quantises_the_layers_alone(model, images, tmp_path):
    processor = AnomalyCLIPProcessor.from_config(model.config)
    differences = export_openvino(
        model, tmp_path / "out", processor=processor, precision="int8", calibration_images=images
    )
    assert differences.maps_mean < 0.02
    text = (tmp_path / "out" / "openvino_model.xml").read_text()
    assert text.count('type="FakeQuantize"') >= 12
    assert read_exported(tmp_path / "out").precision == "int8"
