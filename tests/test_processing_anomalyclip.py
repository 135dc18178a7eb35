# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from scipy import ndimage
from transformers import AutoProcessor, CLIPImageProcessorPil

from anomalyclip_hf import AnomalyCLIPProcessor
from conftest import peak_map, tiny_config


@pytest.fixture
def processor() -> AnomalyCLIPProcessor:
    return AnomalyCLIPProcessor.from_config(tiny_config(), smoothing_sigma=1.0)


def outputs(*maps: torch.Tensor, scores: list[float] | None = None) -> dict:
    return {"image_scores": torch.tensor(scores or [0.7] * len(maps)), "anomaly_maps": torch.stack(maps)}


# ------------------------------------------------------------------------------------------------- images in


def test_pixels_are_those_of_clips_own_processor(processor, photo):
    reference = CLIPImageProcessorPil(size={"height": 40, "width": 40}, do_center_crop=False)
    expected = reference(photo, return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(images=photo)["pixel_values"], expected)


def test_a_processor_that_crops_is_refused():
    with pytest.raises(ValueError, match="crops the middle.*do_center_crop=False"):
        AnomalyCLIPProcessor(CLIPImageProcessorPil(size={"height": 40, "width": 40}))


@pytest.mark.parametrize(
    "settings",
    [{"crop_size": {"height": 40, "width": 40}}, {"do_center_crop": False, "crop_size": None}],
)
def test_a_crop_that_cuts_nothing_is_none(photo, settings, tmp_path):
    size = {"height": 40, "width": 40}
    AnomalyCLIPProcessor(CLIPImageProcessorPil(size=size, **settings)).save_pretrained(tmp_path)
    loaded = AnomalyCLIPProcessor.from_pretrained(tmp_path)
    expected = CLIPImageProcessorPil(size=size, do_center_crop=False)(photo, return_tensors="pt")["pixel_values"]
    assert torch.equal(loaded(images=photo)["pixel_values"], expected)


def test_one_list_and_masks(processor, photo):
    features = processor(images=[photo, photo], masks=[np.ones((50, 80)), None])
    assert features["pixel_values"].shape == (2, 3, 40, 40)
    assert features["masks"].sum((1, 2)).tolist() == [1600, 0]
    assert set(processor(images=photo)) == {"pixel_values"}


def test_columns_batches_of_masks_and_numpy(processor, photo):
    column = Dataset.from_dict({"image": [photo, photo]})["image"]
    features = processor(images=column, masks=np.ones((2, 50, 80)), return_tensors="np")
    assert features["pixel_values"].shape == (2, 3, 40, 40)
    assert isinstance(features["masks"], np.ndarray)
    assert features["masks"].shape == (2, 40, 40)


def test_an_array_of_three_axes_is_one_image_and_one_of_four_a_batch(processor):
    colour = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    expected = processor(images=Image.fromarray(colour))["pixel_values"]
    channels_first = torch.tensor(colour).permute(2, 0, 1)
    for one in (colour, channels_first, np.dstack([colour, np.full((50, 80), 255, np.uint8)])):
        assert torch.equal(processor(images=one)["pixel_values"], expected)
    for batch in (np.stack([colour] * 2), torch.stack([channels_first] * 2)):
        assert torch.equal(processor(images=batch)["pixel_values"], expected.repeat(2, 1, 1, 1))
    assert processor(images=colour[..., :1])["pixel_values"].shape == (1, 3, 40, 40)


def test_the_bytes_of_a_file_are_one_image(processor, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    content = (tmp_path / "photo.png").read_bytes()
    expected = processor(images=content)["pixel_values"]
    for same in (bytearray(content), memoryview(content)):
        assert torch.equal(processor(images=same)["pixel_values"], expected)


def test_masks_with_an_axis_for_their_channel(processor, photo):
    mask = np.zeros((50, 80))
    mask[:25] = 1
    expected = processor(images=[photo] * 2, masks=[mask, mask])["masks"]
    for masks in (np.stack([mask] * 2), np.stack([mask] * 2)[..., None], torch.tensor(np.stack([mask] * 2))[:, None]):
        assert torch.equal(processor(images=[photo] * 2, masks=masks)["masks"], expected)
    for masks in (mask, mask[None], mask[..., None], [mask[..., None]]):
        assert torch.equal(processor(images=photo, masks=masks)["masks"], expected[:1])


def test_processors_without_a_fixed_size_are_refused():
    with pytest.raises(ValueError, match="expected a height and a width"):
        AnomalyCLIPProcessor(CLIPImageProcessorPil())


def test_not_only_squares(photo):
    processor = AnomalyCLIPProcessor.from_config(tiny_config(image_size=[40, 64]))
    assert processor.size == (40, 64)
    features = processor(images=photo, masks=np.ones((50, 80)))
    assert features["pixel_values"].shape == (1, 3, 40, 64)
    assert features["masks"].shape == (1, 40, 64)


def test_bad_batches_are_named(processor, photo):
    with pytest.raises(ValueError, match="2 masks for 1 images"):
        processor(images=photo, masks=[None, None])
    with pytest.raises(ValueError, match="images is empty"):
        processor(images=[])
    with pytest.raises(ValueError, match="NaN"):
        processor(images=np.full((4, 4), np.nan))


# ------------------------------------------------------------------------------------------------- results out


def test_scores_labels_and_sizes(processor):
    results = processor.post_process_anomaly_detection(
        outputs(peak_map(), peak_map(), scores=[0.2, 0.5]), target_sizes=[(100, 30), (7, 9)]
    )
    assert [result["label"] for result in results] == ["normal", "anomalous"]
    assert [result["score"] for result in results] == pytest.approx([0.2, 0.5])
    assert [tuple(result["anomaly_map"].shape) for result in results] == [(100, 30), (7, 9)]
    assert results[0]["mask"] is results[0]["regions"] is None
    without_sizes = processor.post_process_anomaly_detection(outputs(peak_map()), threshold=0.8)[0]
    assert without_sizes["label"] == "normal"
    expected = ndimage.gaussian_filter(peak_map().numpy(), 1.0)
    np.testing.assert_allclose(without_sizes["anomaly_map"].numpy(), expected, atol=1e-6)


def test_masks_and_regions(processor):
    processor.smoothing_sigma = 0.0
    result = processor.post_process_anomaly_detection(outputs(peak_map()), pixel_threshold=0.5)[0]
    assert torch.equal(result["mask"], peak_map() >= 0.5)
    small, large = result["regions"]
    assert small["box"] == {"xmin": 30, "ymin": 30, "xmax": 32, "ymax": 34}
    assert (small["area"], small["peak"]) == (8, pytest.approx(0.9))
    assert large["box"] == {"xmin": 5, "ymin": 5, "xmax": 26, "ymax": 16}  # joined at a corner
    assert (large["area"], large["peak"]) == (201, pytest.approx(0.6))
    assert processor.post_process_anomaly_detection(outputs(peak_map()), pixel_threshold=1.0)[0]["regions"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": "0.5"}, "threshold is '0.5'"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"pixel_threshold": -1}, "pixel_threshold is -1"),
        ({"pixel_threshold": float("inf")}, "pixel_threshold is inf"),
        ({"pixel_threshold": 1.5}, "pixel_threshold is 1.5"),  # more than a map of one layer can reach
        ({"target_sizes": [(4, 4), (4, 4)]}, "2 target_sizes for 1 images"),
        ({"target_sizes": [(0, 5)]}, "target_sizes holds 0x5"),
    ],
)
def test_arguments_that_make_no_sense(processor, arguments, words):
    with pytest.raises(ValueError, match=words):
        processor.post_process_anomaly_detection(outputs(peak_map()), **arguments)


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), torch.tensor(0.5)])
def test_thresholds_may_be_what_a_quantile_is(processor, number):
    result = processor.post_process_anomaly_detection(outputs(peak_map()), threshold=number, pixel_threshold=number)[0]
    usual = processor.post_process_anomaly_detection(outputs(peak_map()), threshold=0.5, pixel_threshold=0.5)[0]
    assert (result["label"], result["regions"]) == (usual["label"], usual["regions"])
    own = AnomalyCLIPProcessor.from_config(tiny_config(), threshold=number, smoothing_sigma=number)
    assert (own.threshold, own.smoothing_sigma, type(own.threshold)) == (0.5, 0.5, float)


def test_nan_is_never_a_result(processor):
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor.post_process_anomaly_detection(outputs(torch.full((40, 40), float("nan"))))
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor.post_process_anomaly_detection(outputs(peak_map(), scores=[float("nan")]))


# ------------------------------------------------------------------------------------------------- on disk


def test_everything_is_in_one_file(processor, tmp_path):
    processor.threshold, processor.pixel_threshold = 0.4, 0.3
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]
    tiny_config().save_pretrained(tmp_path)
    for loaded in (AnomalyCLIPProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is AnomalyCLIPProcessor
        assert (loaded.smoothing_sigma, loaded.threshold, loaded.pixel_threshold) == (1.0, 0.4, 0.3)
        assert loaded.size == (40, 40)
        assert type(loaded.image_processor) is CLIPImageProcessorPil


def test_settings_given_at_load_hold_with_and_without_a_stored_processor(processor, tmp_path):
    tiny_config().save_pretrained(tmp_path)
    for _ in range(2):
        loaded = AnomalyCLIPProcessor.from_pretrained(
            tmp_path, threshold=0.3, smoothing_sigma=0.5, pixel_threshold=0.2
        )
        assert (loaded.threshold, loaded.smoothing_sigma, loaded.pixel_threshold) == (0.3, 0.5, 0.2)
        with pytest.raises(ValueError, match="threshold is 7"):
            AnomalyCLIPProcessor.from_pretrained(tmp_path, threshold=7)
        assert AnomalyCLIPProcessor.from_pretrained(tmp_path, pixel_threshold=None).threshold == 0.5
        processor.save_pretrained(tmp_path)


def test_a_damaged_processor_is_not_replaced_by_defaults(processor, tmp_path):
    tiny_config().save_pretrained(tmp_path)
    assert AnomalyCLIPProcessor.from_pretrained(tmp_path).smoothing_sigma == 4.0
    processor.save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(OSError, match="processor_config"):
        AnomalyCLIPProcessor.from_pretrained(tmp_path)


def test_another_backend_is_replaced_by_the_reference():
    class OtherBackend:
        """Stands for the torchvision one, with which a saved processor comes back where that is installed."""

        def to_dict(self):
            return CLIPImageProcessorPil(size={"height": 16, "width": 24}, do_center_crop=False).to_dict()

    processor = AnomalyCLIPProcessor(OtherBackend())
    assert type(processor.image_processor) is CLIPImageProcessorPil
    assert processor.size == (16, 24)


@pytest.mark.parametrize(
    "settings", [{"smoothing_sigma": -1.0}, {"threshold": 2.0}, {"pixel_threshold": -0.1}, {"map_maximum": 0}]
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        AnomalyCLIPProcessor.from_config(tiny_config(), **settings)


def test_the_scale_of_maps_is_that_of_the_selected_layers(tmp_path):
    AnomalyCLIPProcessor.from_config(tiny_config(feature_layers=[2, 4]), pixel_threshold=1.5).save_pretrained(tmp_path)
    loaded = AnomalyCLIPProcessor.from_pretrained(tmp_path)
    assert (loaded.map_maximum, loaded.pixel_threshold) == (2.0, 1.5)


def test_a_processor_of_another_size_is_refused():
    config = tiny_config()
    AnomalyCLIPProcessor.from_config(config).check_model(config)
    with pytest.raises(ValueError, match="image_size"):
        AnomalyCLIPProcessor.from_config(tiny_config(image_size=48)).check_model(config)


def test_arguments_of_the_image_processor_are_passed_on(processor, photo):
    plain = processor(images=photo, do_normalize=False)["pixel_values"]
    assert plain.min() >= 0
    assert plain.max() <= 1


def test_the_range_of_values_is_stored_and_used(tmp_path, processor):
    camera = np.rint(np.linspace(0, 4095, 64)).astype(np.uint16).reshape(8, 8)
    expected = processor(images=Image.fromarray(np.rint(camera / 4095 * 255).astype(np.uint8)))["pixel_values"]
    ranged = AnomalyCLIPProcessor(processor.image_processor, value_range=[0, 4095])
    ranged.save_pretrained(tmp_path)
    for one in (ranged, AnomalyCLIPProcessor.from_pretrained(tmp_path)):
        assert one.value_range == (0.0, 4095.0)
        torch.testing.assert_close(one(images=camera)["pixel_values"], expected)
    assert AnomalyCLIPProcessor.from_pretrained(tmp_path, value_range="auto").value_range == "auto"
    with pytest.raises(ValueError, match="value_range"):
        AnomalyCLIPProcessor(processor.image_processor, value_range=[4095, 0])


@pytest.mark.parametrize("size", [{"height": 4097, "width": 40}, {"height": 0, "width": 40}])
def test_sizes_of_stored_processors_are_capped(processor, tmp_path, size):
    processor.save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    stored = json.loads(path.read_text())
    stored["image_processor"]["size"] = size
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="size"):
        AnomalyCLIPProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(("image_size", "expected"), [((232, 568), (232, 568)), (64, (64, 64))])
def test_another_image_size_takes_the_place_of_the_stored_one(tmp_path, processor, image_size, expected):
    AnomalyCLIPProcessor(processor.image_processor, threshold=0.3).save_pretrained(tmp_path)
    loaded = AnomalyCLIPProcessor.from_pretrained(tmp_path, image_size=image_size)
    assert (loaded.size, loaded.threshold) == (expected, 0.3)
    assert loaded(images=Image.new("RGB", (50, 40)))["pixel_values"].shape == (1, 3, *expected)
    for wrong, name in ((0, "size"), ((-1, 4), "size"), ((40,), "image_size"), ("big", "image_size")):
        with pytest.raises(ValueError, match=f"^{name} is"):
            AnomalyCLIPProcessor.from_pretrained(tmp_path, image_size=wrong)
