# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf.training.synthetic import MIN_CHANGE, add_synthetic_defect


@pytest.mark.parametrize("size", [(64, 48), (300, 200), (8, 8)])
@pytest.mark.parametrize("plain", [True, False])
def test_defects_are_visible_and_marked(size, plain):
    pixels = np.random.default_rng(0).integers(90, 160, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.new("RGB", size, (128, 128, 128)) if plain else Image.fromarray(pixels)
    for seed in range(25):
        damaged, mask = add_synthetic_defect(image, seed)
        change = np.abs(np.asarray(damaged, float) - np.asarray(image, float))
        assert mask.shape == size[::-1]
        assert 0 < mask.mean() < 0.6
        assert change[mask].mean() > MIN_CHANGE - 1
        assert change[mask].mean() > 3 * change[~mask].mean()  # what is not marked hardly changes


def test_the_seed_determines_the_defect():
    image = Image.effect_noise((60, 40), 30).convert("RGB")
    first, again, other = (add_synthetic_defect(image, seed) for seed in (7, 7, 8))
    assert first[0].tobytes() == again[0].tobytes()
    assert (first[1] == again[1]).all()
    assert first[0].tobytes() != other[0].tobytes()
