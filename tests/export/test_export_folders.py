# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What is refused before anything is exported, and what is left behind when exporting fails."""

import sys

import pytest
from PIL import Image

from anomalyclip_hf import AnomalyCLIPProcessor, export_onnx, export_openvino
from anomalyclip_hf.export.images import MOST_IMAGES, load_images


@pytest.mark.parametrize(
    ("export", "settings", "named"),
    [
        (export_onnx, {"precision": "bfloat16"}, "bfloat16"),
        (export_openvino, {"precision": "float16"}, "float16"),
        (export_openvino, {"precision": "int8"}, "calibration_images"),
        (export_onnx, {"image_size": 41}, "image_size"),
        (export_onnx, {"feature_layers": [0]}, "feature_layers"),
        (export_onnx, {"calibration_images": []}, "calibration_images"),
    ],
)
def test_wrong_arguments_are_named(model, tmp_path, export, settings, named):
    with pytest.raises(ValueError, match=named):
        export(model, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_processor_of_another_size_is_refused(model, tmp_path):
    processor = AnomalyCLIPProcessor.from_config(model.config)
    with pytest.raises(ValueError, match="image_size"):
        export_onnx(model, tmp_path / "out", processor=processor, image_size=48)


def test_a_folder_with_files_is_left_alone(model, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=tmp_path.name):
        export_onnx(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_missing_package_names_the_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"anomalyclip-hf\[export\]"):
        export_onnx(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_calibration_images_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        load_images(tmp_path / "empty")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png"):
        load_images(tmp_path)


def test_many_calibration_images_are_thinned_out(tmp_path):
    for index in range(MOST_IMAGES + 30):
        Image.new("L", (2, 2), index).save(tmp_path / f"{index:03}.png")
    shades = [image.getpixel((0, 0))[0] for image in load_images(tmp_path)]
    assert len(shades) == MOST_IMAGES
    assert shades[0] == 0
    assert shades[-1] >= MOST_IMAGES + 27
    assert shades == sorted(set(shades))
