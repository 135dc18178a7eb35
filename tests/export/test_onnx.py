# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The exported ONNX file against the model."""

import numpy as np
import pytest
import torch

from anomalyclip_hf import export_onnx
from anomalyclip_hf.modeling_anomalyclip import gaussian_smooth
from anomalyclip_hf.scoring.runtimes import OnnxRuntimeBackend, OpenVinoBackend
from conftest import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "exported"
    export_onnx(tiny_model(), path)
    return path


@pytest.mark.parametrize("runtime", [OnnxRuntimeBackend, OpenVinoBackend])
def test_scores_and_maps_are_those_of_the_model_for_any_batch(folder, runtime):
    backend, model = runtime(folder), tiny_model()
    for count in range(1, 6):
        pixel_values = torch.randn(count, 3, 40, 40)
        with torch.no_grad():
            expected = model(pixel_values=pixel_values)
        found = backend.run(pixel_values.numpy())
        np.testing.assert_allclose(found.image_scores, expected.image_scores, atol=1e-5)
        np.testing.assert_allclose(found.anomaly_maps, gaussian_smooth(expected.anomaly_maps, 4.0), atol=1e-4)
