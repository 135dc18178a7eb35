# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest
from transformers import CLIPImageProcessor

from anomalyclip_hf import AnomalyCLIPProcessor


def change(path, **settings):
    """Replace settings in a file of JSON; `image_processor__size` stands for one within the image processor."""
    content = json.loads(path.read_text())
    for name, value in settings.items():
        outer, _, inner = name.partition("__")
        (content[outer] if inner else content)[inner or outer] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_processor__size": {"height": 10**9, "width": 1}}, "expected height and width, of 1 to 4096 pixels"),
        ({"image_processor__size": {"height": 8, "depth": 8}}, "expected height and width"),
        ({"image_processor__size": {"height": True, "width": 40}}, "'size' is {'height': True, 'width': 40}"),
        ({"image_processor__size": 0}, "'size' is 0; expected height and width"),
        ({"image_processor__crop_size": "big"}, "'crop_size' is 'big'"),
        ({"image_processor__crop_size": {}}, "'crop_size' is {}; expected height and width"),
        ({"image_processor__size": {"shortest_edge": 40}}, "expected height and width"),
        ({"image_processor__do_center_crop": True}, "'do_center_crop' is True; expected false, since a map shows"),
        ({"image_processor__rescale_factor": 0}, "'rescale_factor' is 0; expected a number above 0"),
        ({"image_processor__image_std": [0.5, 0.5, 0.0]}, "'image_std' is [0.5, 0.5, 0.0]; expected three numbers"),
        ({"image_processor__image_mean": [0.5]}, "'image_mean' is [0.5]; expected three numbers"),
        ({"image_processor__image_mean": [float("nan")] * 3}, "'image_mean' is [nan, nan, nan]"),
        ({"image_processor__resample": 99}, "'resample' is 99; expected a filter of Pillow"),
        ({"image_processor__rescale_factor": 1e300}, "'rescale_factor' is 1e+300"),
        ({"image_processor__do_resize": "yes"}, "'do_resize' is 'yes'; expected true or false"),
        ({"image_processor__image_processor_type": "Exec"}, "'image_processor_type' is 'Exec'; expected one of CLIP"),
        ({"image_processor__preprocess": 1}, "'preprocess' is 1; expected no such setting"),
        ({"image_processor": 5}, "image_processor is 5; expected an object with image_processor_type"),
        ({"audio_tokenizer": {"audio_tokenizer_name_or_path": "x"}}, "holds 'audio_tokenizer'"),
        ({"tokenizer": {}}, "holds 'tokenizer'; expected auto_map, image_processor"),
        ({"chat_template": "{{ x }}"}, "holds 'chat_template'"),
        ({"smoothing_sigma": 1e9}, "smoothing_sigma is 1000000000.0; expected 0 to 256 pixels"),
        ({"smoothing_sigma": "4"}, "smoothing_sigma is '4'; expected a number"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": True}, "threshold is True; expected a number"),
        ({"pixel_threshold": []}, "pixel_threshold is []; expected a number"),
    ],
)
def test_what_no_processor_has_is_refused_in_one_line(model_folder, settings, words):
    change(model_folder / "processor_config.json", **settings)
    with pytest.raises(ValueError) as caught:
        AnomalyCLIPProcessor.from_pretrained(model_folder)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


def test_a_crop_that_nobody_asked_for(model_folder):
    """Left out, it would be transformers' default, which cuts 224 pixels out of the middle."""
    path = model_folder / "processor_config.json"
    content = json.loads(path.read_text())
    del content["image_processor"]["do_center_crop"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"processor_config\.json: 'do_center_crop' is None; expected false"):
        AnomalyCLIPProcessor.from_pretrained(model_folder)


def test_no_other_model_comes_along(model_folder):
    (model_folder / "audio_tokenizer_config.json").write_text('{"audio_tokenizer_name_or_path": "someone/else"}')
    with pytest.raises(ValueError, match=r"audio_tokenizer_config\.json is there; expected no audio tokenizer"):
        AnomalyCLIPProcessor.from_pretrained(model_folder)


def test_an_image_processor_in_a_file_of_its_own(model_folder):
    """As CLIPs on the Hub have it, and as older transformers wrote it."""
    (model_folder / "processor_config.json").unlink()
    processor = CLIPImageProcessor(size={"height": 40, "width": 40}, do_center_crop=False)
    processor.save_pretrained(model_folder)
    path = model_folder / "preprocessor_config.json"
    pixels = AnomalyCLIPProcessor.from_pretrained(model_folder)(np.zeros((6, 5), np.uint8))["pixel_values"]
    assert pixels.shape == (1, 3, 40, 40)
    change(path, size={"height": 10**6, "width": 10**6})
    with pytest.raises(
        ValueError, match=r"preprocessor_config\.json: .*size.* expected height and width, of 1 to 4096 pixels"
    ):
        AnomalyCLIPProcessor.from_pretrained(model_folder)
