# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.data.samples import SampleReader


SIZE = (40, 60)  # height, width
BOX = np.zeros(SIZE, bool)
BOX[10:21, 20:41] = True
CORNERS = [[20, 10], [40, 10], [40, 20], [20, 20]]  # of labelme, whose corners belong to the box
OUTER_CORNERS = [20, 10, 41, 10, 41, 21, 20, 21]  # of COCO, where the first pixel is between 0 and 1
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]]


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
    segmentation = [OUTER_CORNERS]
    if kind == "runs":
        segmentation = {"size": list(SIZE), "counts": runs(BOX)}
    else:
        mask = pytest.importorskip("pycocotools.mask")
    if kind == "compressed":
        segmentation = mask.encode(np.asfortranarray(BOX.astype(np.uint8)))
        segmentation["counts"] = segmentation["counts"].decode()
    write_coco(shop, segmentation)
    dataset = load_anomaly_dataset("coco", shop)
    assert dataset["defect_type"][:] == ["scratch", "good"]
    found = masks_of(dataset)
    assert found["images/b.png"][0] == 0
    assert found["images/a.png"][0] == 1
    np.testing.assert_array_equal(found["images/a.png"][1], BOX)


def test_coco_polygons_are_filled_as_its_own_tools_do(shop):
    tools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    shapes = [[[10, 10, 20, 10, 20, 20, 10, 20]], [OUTER_CORNERS, [0, 0, 8, 0, 0, 8]], [[50, 30, 75, 33, 55, 60]]]
    shapes += [[(rng.random(2 * corners) * 60 - 5).tolist()] for corners in range(3, 9)]
    shapes += [[[5, 5, 50, 5, 50, 6]]]  # a thin one
    for polygons in shapes:
        write_coco(shop, polygons)
        drawn = masks_of(load_anomaly_dataset("coco", shop))["images/a.png"][1]
        expected = tools.decode(tools.merge(tools.frPyObjects(polygons, *SIZE))).astype(bool)
        assert expected.any()
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("polygon", [[5, 5.1, 50, 5.1, 50, 5.2, 5, 5.2], [5, 5.1, 50, 5.1]])
def test_coco_polygons_without_the_centre_of_a_pixel_give_their_outline(shop, polygon):
    pytest.importorskip("pycocotools.mask")
    write_coco(shop, [polygon])
    drawn = masks_of(load_anomaly_dataset("coco", shop))["images/a.png"][1]
    np.testing.assert_array_equal(drawn, (ROWS == 5) & (COLUMNS >= 5) & (COLUMNS <= 50))


def test_coco_polygons_name_the_package_that_they_need(shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    write_coco(shop, [OUTER_CORNERS])
    with pytest.raises(ValueError, match=r"anomalyclip-hf\[coco\]"):
        load_anomaly_dataset("coco", shop)


@pytest.mark.parametrize("image_id", ["7", 9])
def test_coco_annotations_of_images_that_are_not_listed_are_named(shop, image_id):
    write_coco(shop, [], image_id=image_id)
    with pytest.raises(ValueError, match=rf"instances_test\.json .*{image_id}"):
        load_anomaly_dataset("coco", shop)


def test_coco_images_that_two_files_list_are_named(shop):
    write_coco(shop, [])
    index = (shop / "annotations" / "instances_test.json").read_text()
    (shop / "annotations" / "captions_test.json").write_text(index)
    with pytest.raises(ValueError, match=r"instances_test\.json and .*captions_test\.json .*a\.png"):
        load_anomaly_dataset("coco", shop)


@pytest.mark.parametrize("segmentation", [[], [[]]])
def test_coco_boxes_and_categories_that_mean_normal(shop, segmentation):
    write_coco(shop, segmentation, bbox=[20, 10, 20, 10])
    assert masks_of(load_anomaly_dataset("coco", shop))["images/a.png"] == (1, None)
    write_coco(shop, [], category_id=4)
    assert masks_of(load_anomaly_dataset("coco", shop))["images/a.png"][0] == 0


@pytest.mark.parametrize(
    "segmentation",
    [
        [[20.0, 10.0, 40.0]],  # half a corner
        [[20.0, 10.0, 40.0, 10.0, float("nan"), 20.0]],
        [[20.0, 10.0, 1e9, 10.0, 40.0, 20.0]],  # far outside
        {"size": list(SIZE), "counts": [5, 5]},  # does not fill the image
        {"size": [10, 10], "counts": [50, 50]},  # of another size than the image
    ],
)
def test_coco_segmentations_that_cannot_be_drawn_name_file_and_annotation(shop, segmentation):
    write_coco(shop, segmentation)
    with pytest.raises(ValueError, match=r"instances_test\.json: annotation 1 cannot be drawn"):
        load_anomaly_dataset("coco", shop)


def write_labelme(shop, shape):
    index = {"imageWidth": SIZE[1], "imageHeight": SIZE[0], "shapes": [{"label": "scratch", **shape}]}
    (shop / "images" / "a.json").write_text(json.dumps(index | {"imagePath": "a.png"}))
    (shop / "images" / "b.json").write_text(json.dumps(index | {"imagePath": "b.png", "shapes": []}))


def bitmap(mask):
    """A PNG file of 0 and 1, as labelme writes it."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def disc(x, y, radius):
    return np.hypot(COLUMNS - x, ROWS - y) <= radius + 0.5


def box(left, top, right, bottom):
    mask = np.zeros(SIZE, bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


@pytest.mark.parametrize(
    ("shape", "expected", "tolerance"),
    [
        ({"points": CORNERS}, BOX, 0),
        ({"points": CORNERS, "shape_type": "polygon"}, BOX, 0),
        ({"points": CORNERS, "shape_type": "oriented_rectangle"}, BOX, 0),
        ({"points": [[20, 10], [40, 20]], "shape_type": "rectangle"}, BOX, 0),
        ({"points": [[40, 20], [20, 10]], "shape_type": "rectangle"}, BOX, 0),
        ({"points": [[20, 10], [40, 20]], "shape_type": "mask", "mask": bitmap(np.ones((11, 21)))}, BOX, 0),
        ({"points": [[30, 20], [30, 32]], "shape_type": "circle"}, disc(30, 20, 12), 8),
        ({"points": [[30, 20]], "shape_type": "point"}, disc(30, 20, 5), 8),
        ({"points": [[10, 20], [30, 20]], "shape_type": "points"}, disc(10, 20, 5) | disc(30, 20, 5), 16),
        # A line is 10 px wide, without one of the two outer rows.
        ({"points": [[10, 20], [50, 20]], "shape_type": "line"}, box(10, 15, 50, 25), 50),
        (
            {"points": [[10, 30], [30, 30], [30, 5]], "shape_type": "linestrip"},
            box(10, 25, 30, 35) | box(25, 5, 35, 30),
            60,
        ),
    ],
)
def test_labelme(shop, shape, expected, tolerance):
    write_labelme(shop, shape)
    found = masks_of(load_anomaly_dataset("labelme", shop))
    assert {name: label for name, (label, _) in found.items()} == {
        "images/a.png": 1,
        "images/b.png": 0,
        "images/c.png": 0,
    }
    assert (found["images/a.png"][1] != expected).sum() <= tolerance


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ({"points": CORNERS, "shape_type": "cuboid"}, "cuboid"),
        ({"points": CORNERS[:2]}, "polygon"),
        ({"points": CORNERS[:1], "shape_type": "circle"}, "circle"),
        ({"points": [], "shape_type": "point"}, "point"),
    ],
)
def test_labelme_shapes_that_cannot_be_drawn_are_named(shop, shape, named):
    write_labelme(shop, shape)
    with pytest.raises(ValueError, match=rf"a\.json .*{named}"):
        load_anomaly_dataset("labelme", shop)


def test_labelme_files_whose_image_is_missing_or_has_another_are_named(shop):
    write_labelme(shop, {"points": CORNERS})
    written = json.loads((shop / "images" / "a.json").read_text())
    (shop / "images" / "lost.json").write_text(json.dumps(written | {"imagePath": "lost.png"}))
    with pytest.warns(UserWarning, match=r"lost\.png"):
        load_anomaly_dataset("labelme", shop)
    (shop / "images" / "lost.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"lost\.json and .*a\.json"):
        load_anomaly_dataset("labelme", shop)


def test_labelme_files_belong_to_the_image_that_they_name_of_two_beside_them(shop):
    Image.new("L", SIZE[::-1], 90).save(shop / "images" / "a.bmp")
    write_labelme(shop, {"points": CORNERS})
    found = masks_of(load_anomaly_dataset("labelme", shop))
    assert (found["images/a.png"][0], found["images/a.bmp"][0]) == (1, 0)


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
