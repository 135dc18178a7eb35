# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.data.samples import SampleReader


SIZE = (40, 60)  # height, width
BOX = np.zeros(SIZE, bool)
BOX[10:21, 20:41] = True  # corners of a polygon belong to it
CORNERS = [[20, 10], [40, 10], [40, 20], [20, 20]]


@pytest.fixture
def shop(tmp_path):
    for name in ("images/a.png", "images/b.png", "images/c.png"):
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", SIZE[::-1], 90).save(tmp_path / "shop" / name)
    return tmp_path / "shop"


def masks_of(dataset):
    reader = SampleReader(dataset)
    return {sample.source: (sample.label, sample.mask) for sample in map(reader.read, range(len(reader)))}


def write_coco(shop, segmentation, **more):
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation} | more
    index = {
        "images": [
            {"id": 7, "file_name": "C:\\data\\images\\a.png", "width": SIZE[1], "height": SIZE[0]},
            {"id": 8, "file_name": "b.png", "width": SIZE[1], "height": SIZE[0]},
        ],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "scratch"}, {"id": 4, "name": "ok"}],
    }
    (shop / "annotations").mkdir(exist_ok=True)
    (shop / "annotations" / "instances_test.json").write_text(json.dumps(index))


def runs(mask):
    """Run lengths down the columns, the first of zeros."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    return [int(value) for value in np.diff([0, *ends, flat.size])]


@pytest.mark.parametrize("kind", ["polygon", "runs", "compressed"])
def test_coco(shop, kind):
    segmentation = [[float(value) for corner in CORNERS for value in corner]]
    if kind == "runs":
        segmentation = {"size": list(SIZE), "counts": runs(BOX)}
    elif kind == "compressed":
        mask = pytest.importorskip("pycocotools.mask")
        segmentation = mask.encode(np.asfortranarray(BOX.astype(np.uint8)))
        segmentation["counts"] = segmentation["counts"].decode()
    write_coco(shop, segmentation)
    dataset = load_anomaly_dataset("coco", shop)
    assert dataset["defect_type"][:] == ["scratch", "good"]
    found = masks_of(dataset)
    assert found["images/b.png"][0] == 0
    assert found["images/a.png"][0] == 1
    np.testing.assert_array_equal(found["images/a.png"][1], BOX)


def test_coco_boxes_and_categories_that_mean_normal(shop):
    write_coco(shop, [], bbox=[20, 10, 20, 10])
    assert masks_of(load_anomaly_dataset("coco", shop))["images/a.png"] == (1, None)
    write_coco(shop, [], category_id=4)
    assert masks_of(load_anomaly_dataset("coco", shop))["images/a.png"][0] == 0


@pytest.mark.parametrize(
    "segmentation",
    [
        [[20.0, 10.0, 40.0]],  # half a corner
        {"size": list(SIZE), "counts": [5, 5]},  # does not fill the image
        {"size": [10, 10], "counts": [50, 50]},  # of another size than the image
    ],
)
def test_coco_segmentations_that_cannot_be_drawn_name_file_and_annotation(shop, segmentation):
    write_coco(shop, segmentation)
    with pytest.raises(ValueError, match=r"instances_test\.json: annotation 1 cannot be drawn"):
        load_anomaly_dataset("coco", shop)


def bitmap(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "shape",
    [
        {"points": CORNERS},
        {"points": [[20, 10], [40, 20]], "shape_type": "rectangle"},
        {"points": [[40, 20], [20, 10]], "shape_type": "rectangle"},
        {"points": [[20, 10], [40, 20]], "shape_type": "mask", "mask": bitmap(np.ones((11, 21), bool))},
    ],
)
def test_labelme(shop, shape):
    index = {"imageWidth": SIZE[1], "imageHeight": SIZE[0], "shapes": [{"label": "scratch", **shape}]}
    (shop / "images" / "a.json").write_text(json.dumps(index | {"imagePath": "a.png"}))
    (shop / "images" / "b.json").write_text(json.dumps(index | {"imagePath": "b.png", "shapes": []}))
    found = masks_of(load_anomaly_dataset("labelme", shop))
    assert {name: label for name, (label, _) in found.items()} == {
        "images/a.png": 1,
        "images/b.png": 0,
        "images/c.png": 0,
    }
    np.testing.assert_array_equal(found["images/a.png"][1], BOX)


@pytest.mark.parametrize("text", ["{", '{"images": [{}], "annotations": []}', '{"shapes": [{}]}'])
def test_damaged_files_are_named(shop, text):
    (shop / "images" / "a.json").write_text(text)
    (shop / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        load_anomaly_dataset("coco" if "annotations" in text else "labelme", shop)


def test_nothing_there(shop):
    for name in ("coco", "labelme"):
        with pytest.raises(FileNotFoundError, match="json"):
            load_anomaly_dataset(name, shop)
