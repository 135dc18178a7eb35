# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from anomalyclip_hf import AnomalyCLIPProcessor
from anomalyclip_hf.scoring.preprocessing import Preprocessing


@pytest.mark.parametrize(
    "settings", [{}, {"image_mean": [0.5, 0.4, 0.3], "resample": 2}, {"do_normalize": False}, {"do_rescale": False}]
)
def test_equals_the_processor(settings):
    image_processor = CLIPImageProcessorPil(size={"height": 42, "width": 56}, do_center_crop=False, **settings)
    processor = AnomalyCLIPProcessor(image_processor)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 33, 3), dtype=np.uint8)
    expected = processor(images=pixels)["pixel_values"][0].numpy()
    found = Preprocessing.from_processor(processor)(Image.fromarray(pixels))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
