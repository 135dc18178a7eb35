# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import math

import numpy as np
import pytest
import torch

from anomalyclip_hf.losses_anomalyclip import dice_loss, focal_loss, glocal_loss, pixel_loss


def slow_focal(maps: np.ndarray, masks: np.ndarray) -> float:
    """Two-class focal loss spelled out pixel by pixel in float64."""
    total = 0.0
    for probability, label in zip(maps.ravel().tolist(), masks.ravel().tolist(), strict=True):
        one_hot = [min(max(value, 1e-5), 1 - 1e-5) for value in (1 - label, label)]
        true_probability = one_hot[0] * (1 - probability) + one_hot[1] * probability + 1e-5
        total -= (1 - true_probability) ** 2 * math.log(true_probability)
    return total / maps.size


def slow_dice(maps: np.ndarray, masks: np.ndarray) -> float:
    dice = [(2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) for p, t in zip(maps, masks, strict=True)]
    return 1 - float(np.mean(dice))


@pytest.fixture
def maps_and_masks():
    rng = np.random.default_rng(0)
    return rng.random((3, 7, 9)), (rng.random((3, 7, 9)) > 0.7).astype(float)


def test_parts_match_a_slow_reference(maps_and_masks):
    maps, masks = maps_and_masks
    tensors = [torch.tensor(array) for array in (maps, masks)]
    assert focal_loss(*tensors).item() == pytest.approx(slow_focal(maps, masks), rel=1e-6)
    assert dice_loss(*tensors).item() == pytest.approx(slow_dice(maps, masks), rel=1e-6)
    expected = slow_focal(maps, masks) + slow_dice(maps, masks) + slow_dice(1 - maps, 1 - masks)
    assert pixel_loss([tensors[0]] * 2, tensors[1]).item() == pytest.approx(2 * expected, rel=1e-5)


def test_parts_match_the_authors(parity):
    name, reference, _ = parity
    tolerance = 2e-3 if "as_published" in name else 1e-5
    layers = sorted(key for key in reference if key.startswith("similarity_map"))
    masks = reference["masks"]
    abnormal = [reference[layer][:, 1] for layer in layers]
    sums = {
        "focal": sum(focal_loss(layer, masks) for layer in abnormal),
        "dice_abnormal": sum(dice_loss(layer, masks) for layer in abnormal),
        "dice_normal": sum(dice_loss(1 - layer, 1 - masks) for layer in abnormal),
    }
    for part, value in sums.items():
        assert value.item() == pytest.approx(reference[f"step0.{part}"].item(), rel=tolerance), part


def test_weights_and_absent_masks(maps_and_masks):
    maps, masks = (torch.tensor(array, dtype=torch.float32) for array in maps_and_masks)
    logits, labels = torch.tensor([[2.0, 0.0]] * 3), torch.tensor([0, 1, 0])
    image_only = glocal_loss(logits, labels)
    assert image_only.pixel is None
    assert image_only.total.item() == image_only.image.item()
    both = glocal_loss(logits, labels, [maps], masks, pixel_loss_weight=4.0)
    assert both.total.item() == pytest.approx((both.image + 4 * both.pixel).item())


def test_perfect_and_wrong_maps():
    masks = torch.zeros(1, 8, 8)
    masks[:, :4] = 1
    assert pixel_loss([masks], masks).item() == pytest.approx(0, abs=1e-4)
    assert pixel_loss([1 - masks], masks).item() > 10


def test_half_precision_maps_stay_finite():
    masks = torch.zeros(1, 4, 4)
    loss = pixel_loss([torch.ones(1, 4, 4, dtype=torch.float16)], masks)
    assert torch.isfinite(loss)


def test_weights_of_images_and_masks():
    """An image of weight 0 is as if it were not there; one without ground truth counts with its label alone."""
    generator = torch.Generator().manual_seed(5)
    logits, maps = torch.randn(4, 2, generator=generator), torch.rand(4, 6, 6, generator=generator)
    masks, labels = (torch.rand(4, 6, 6, generator=generator) > 0.7).float(), torch.tensor([0, 1, 1, 0])
    weights = torch.tensor([4 / 3, 4 / 3, 4 / 3, 0])
    weighted = glocal_loss(logits, labels, [maps], masks, image_weights=weights)
    without = glocal_loss(logits[:3], labels[:3], [maps[:3]], masks[:3])
    torch.testing.assert_close(weighted, without)

    unmasked = glocal_loss(logits, labels, [maps], masks, mask_weights=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    half = glocal_loss(logits[:2], labels[:2], [maps[:2]], masks[:2])
    torch.testing.assert_close(unmasked.pixel, half.pixel / 2)
    torch.testing.assert_close(unmasked.image, glocal_loss(logits, labels).image)


def test_either_loss_can_be_left_out():
    logits, maps, masks, labels = torch.randn(2, 2), torch.rand(2, 4, 4), torch.ones(2, 4, 4), torch.tensor([0, 1])
    loss = glocal_loss(logits, labels, [maps], masks, pixel_loss_weight=4.0, image_loss_weight=0.0)
    torch.testing.assert_close(loss.total, 4 * loss.pixel)
