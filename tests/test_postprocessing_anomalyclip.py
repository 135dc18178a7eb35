# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from anomalyclip_hf import AnomalyMapHead
from anomalyclip_hf.modeling_anomalyclip import gaussian_smooth
from anomalyclip_hf.postprocessing_anomalyclip import (
    IMAGE_SCORES,
    add_legend,
    combine_scores,
    draw_overlay,
    find_regions,
)
from conftest import peak_map


def test_smoothed_map_is_that_of_the_authors(parity):
    name, reference, _ = parity
    smoothed = gaussian_smooth(reference["anomaly_map"], 4.0)
    torch.testing.assert_close(smoothed, reference["anomaly_map_smoothed"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 16), (70, 33)])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 4.0, 11.3])
def test_smoothing_equals_scipy(shape, sigma):
    maps = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = np.stack([ndimage.gaussian_filter(m.numpy().astype(np.float64), sigma) for m in maps])
    np.testing.assert_allclose(gaussian_smooth(maps, sigma).numpy(), expected, atol=2e-6)


def test_regions_equal_a_flood_fill():
    mask = torch.rand(30, 31, generator=torch.Generator().manual_seed(1)) > 0.7
    values = torch.rand(30, 31, generator=torch.Generator().manual_seed(2))
    left, expected = {tuple(place) for place in mask.nonzero().tolist()}, []
    while left:
        stack, members = [left.pop()], []
        while stack:
            row, column = stack.pop()
            members.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack.extend(near)
        rows, columns = zip(*members, strict=True)
        box = {"xmin": min(columns), "ymin": min(rows), "xmax": max(columns) + 1, "ymax": max(rows) + 1}
        expected.append((max(values[place].item() for place in members), box, len(members)))
    got = [(region["peak"], region["box"], region["area"]) for region in find_regions(values, mask)]
    assert got == sorted(expected, key=lambda region: region[0], reverse=True)


def test_the_head_sums_upsamples_and_smooths():
    grids = list(torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(5)))
    upsampled = [F.interpolate(grid[:, None].double(), (40, 32), mode="bilinear")[:, 0].numpy() for grid in grids]
    expected = np.stack([ndimage.gaussian_filter(summed, 2.0) for summed in sum(upsampled)])
    maps = AnomalyMapHead((40, 32), smoothing_sigma=2.0)(grids)
    np.testing.assert_allclose(maps.numpy(), expected, atol=2e-6)
    assert AnomalyMapHead((40, 32))([grid.bfloat16() for grid in grids]).dtype == torch.float32


def test_the_overlay_is_transparent_at_0_and_red_at_the_maximum():
    image = Image.new("RGB", (40, 40), (0, 200, 0))
    overlay = draw_overlay(image, peak_map() / 0.9, 1.0)
    assert overlay.size == (40, 40)
    assert overlay.getpixel((20, 25)) == (0, 200, 0)
    red, green, _ = overlay.getpixel((31, 31))
    assert red > 150 > green


def test_overlays_share_one_scale():
    image = Image.new("RGB", (40, 40), "grey")
    faint = np.asarray(draw_overlay(image, peak_map() * 1e-6))
    np.testing.assert_array_equal(faint, np.asarray(image))
    assert np.asarray(draw_overlay(image, peak_map()))[31, 31, 0] > 200


def test_the_middle_of_the_scale_is_yellow():
    image = Image.new("RGB", (9, 9), "black")
    for maximum, middle in ((1.0, None), (1.0, 0.2), (3.0, 0.1)):
        value = maximum / 2 if middle is None else middle
        red, green, blue = draw_overlay(image, np.full((9, 9), value), maximum, middle=middle, opacity=1).getpixel(
            (4, 4)
        )
        assert abs(red - green) <= 2
        assert red > 100
        assert blue < 5
    for middle in (0.0, 1.0):  # nothing lies below or above such a threshold
        assert draw_overlay(image, np.zeros((9, 9)), 1.0, middle=middle).getpixel((0, 0)) == (0, 0, 0)


def test_outlines_show_on_large_images_and_keep_the_inside():
    image = Image.new("RGB", (4000, 3000), (90, 90, 90))
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[1000:2000, 1500:2500] = True
    overlay = np.asarray(draw_overlay(image, np.zeros((30, 40)), mask=mask))
    assert (overlay[1500, 1500:1510] == 255).all()
    assert (overlay[1500, 1511:1519] == 0).all()
    assert (overlay[1500, 2000] == 90).all()
    assert (overlay[1500, 1499] == 90).all()


def test_a_mask_of_any_size_fits():
    image = Image.new("RGB", (80, 60), "grey")
    assert draw_overlay(image, torch.rand(20, 20), mask=torch.ones(20, 20) > 0).size == (80, 60)


def test_the_legend_is_a_strip_below_wide_images():
    wide, narrow = Image.new("RGB", (640, 100), "green"), Image.new("RGB", (50, 30))
    with_legend = add_legend(wide, "0.930 anomalous", maximum=2.0)
    assert with_legend.width == 640
    assert with_legend.height > 100
    assert with_legend.crop((0, 0, 640, 100)).tobytes() == wide.tobytes()
    assert add_legend(narrow, "0.930 anomalous") is narrow


@pytest.mark.parametrize(("height", "width"), [(7, 9), (10, 20), (40, 41)])
def test_image_scores_equal_those_of_sorted_maps(height, width):
    rng = np.random.default_rng(height)
    scores, maps = rng.random(3, dtype=np.float32), rng.random((3, height, width), dtype=np.float32) * 4
    assert combine_scores(scores, maps, 4.0).tolist() == scores.tolist()
    fusion, top = (combine_scores(scores, maps, 4.0, kind) for kind in ("fusion", "top1%"))
    for index, values in enumerate(maps):
        ordered = sorted(values.ravel().tolist(), reverse=True)
        highest = ordered[: -(-len(ordered) // 100)]
        assert fusion[index] == pytest.approx((scores[index] + ordered[0] / 4) / 2, abs=1e-6)
        assert top[index] == pytest.approx(sum(highest) / len(highest) / 4, abs=1e-6)


def test_image_scores_stay_in_their_range():
    scores, maps = np.ones(1, np.float32), np.full((1, 5, 5), 1 + 1e-6, np.float32)
    for kind in IMAGE_SCORES:
        assert combine_scores(scores, maps, kind=kind).tolist() == [1.0]
    with pytest.raises(ValueError, match="median"):
        combine_scores(scores, maps, kind="median")
