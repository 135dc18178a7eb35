# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import subprocess
import sys

import datasets
import numpy as np
import pytest
from data.miniatures import SIZE, draw, mark, squares
from PIL import Image

from anomalyclip_hf.data.features import AnomalyImage, AnomalyMask


def as_path(path):
    return {"bytes": None, "path": str(path)}


def as_bytes(path):
    return {"bytes": path.read_bytes(), "path": "elsewhere.x"}


def as_nameless_bytes(path):
    return {"bytes": path.read_bytes(), "path": None}


SOURCES = [as_path, as_bytes, as_nameless_bytes]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("ending", "mode"), [("png", "RGBA"), ("JPG", "L"), ("bmp", "1"), ("tif", "minisblack")])
def test_images_become_rgb(tmp_path, source, ending, mode):
    draw(tmp_path / f"a.{ending}", 5, mode)
    image = AnomalyImage().decode_example(source(tmp_path / f"a.{ending}"))
    assert (image.mode, image.size) == ("RGB", SIZE)


def test_images_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", SIZE).save(tmp_path / "a.jpg", exif=exif)
    assert AnomalyImage().decode_example(as_path(tmp_path / "a.jpg")).size == SIZE[::-1]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("ending", "kind"), [("png", "ids"), ("png", "levels"), ("bmp", ""), ("tif", "minisblack"), ("jpg", "jpeg")]
)
def test_masks_become_0_and_255(tmp_path, source, ending, kind):
    mark(tmp_path / f"m.{ending}", 5, kind)
    mask = AnomalyMask(mask_rule="classes").decode_example(source(tmp_path / f"m.{ending}"))
    assert mask.mode == "L"
    np.testing.assert_array_equal(np.asarray(mask), squares(5) * np.uint8(255))


@pytest.mark.parametrize(("rule", "threshold"), [("classes", 127), ("nonzero", 0)])
def test_the_rule_of_jpegs(tmp_path, rule, threshold):
    levels = np.repeat(np.uint8([0, 56, 128, 201, 255, 255]), 8)[None].repeat(8, 0)
    for ending in ("jpg", "png"):
        Image.fromarray(levels).save(tmp_path / f"m.{ending}", **({"quality": 100} if ending == "jpg" else {}))
    feature = AnomalyMask(mask_rule=rule)
    jpeg, png = (np.asarray(feature.decode_example(as_path(tmp_path / f"m.{end}"))) for end in ("jpg", "png"))
    np.testing.assert_array_equal(jpeg > 0, levels > threshold)
    np.testing.assert_array_equal(png > 0, levels > 0)


@pytest.mark.parametrize(
    ("source", "name"), [(as_path, r"m\.png"), (as_bytes, r"elsewhere\.x"), (as_nameless_bytes, "a mask")]
)
def test_empty_masks_are_named(tmp_path, source, name):
    mark(tmp_path / "m.png", 5, "black")
    with pytest.warns(UserWarning, match=f"{name} is empty: it marks nothing"):
        mask = AnomalyMask().decode_example(source(tmp_path / "m.png"))
    assert not np.asarray(mask).any()


@pytest.mark.parametrize(
    ("feature", "source", "name"),
    [
        (AnomalyImage(), as_path, r"/.*a\.png"),
        (AnomalyImage(), as_bytes, r"elsewhere\.x"),
        (AnomalyMask(), as_path, r"/.*a\.png"),
    ],
)
def test_damaged_files_are_named(tmp_path, feature, source, name):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=f"^{name} is not an image"):
        feature.decode_example(source(tmp_path / "a.png"))
    with pytest.raises(FileNotFoundError, match=r"gone\.png does not exist"):
        feature.decode_example(as_path(tmp_path / "gone.png"))


def test_they_survive_a_table_on_disk(tmp_path):
    draw(tmp_path / "a.png", 5)
    mark(tmp_path / "m.jpg", 5, "jpeg")
    ours = datasets.Features({"image": AnomalyImage(), "mask": AnomalyMask(mask_rule="nonzero")})
    rows = {"image": [str(tmp_path / "a.png")] * 2, "mask": [str(tmp_path / "m.jpg"), None]}
    datasets.Dataset.from_dict(rows, features=ours).save_to_disk(tmp_path / "table")
    program = f"""
import anomalyclip_hf.data.features, datasets
table = datasets.load_from_disk({str(tmp_path / "table")!r})
print(table.features["mask"].mask_rule, table[0]["image"].mode, table[0]["mask"].getextrema(), table[1]["mask"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "nonzero RGB (0, 255) None"
