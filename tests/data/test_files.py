# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from anomalyclip_hf.data.files import (
    is_image_name,
    list_folders,
    list_images,
    pair_masks,
    path_inside,
    split_mask_folders,
    split_masks,
)


def test_images_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "a.Tiff", "._a.jpg", ".hidden.png", "Thumbs.db", "meta.json", "a.png.txt", "png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")  # an image that cannot be read, not no image
    assert [path.name for path in list_images(tmp_path)] == ["a.Tiff", "a.jpg", "b.PNG", "gone.png"]
    assert list_images(tmp_path / "nowhere") == list_images(tmp_path / "a.jpg") == []


def test_folders_of_a_folder(tmp_path):
    for name in ("b", "a", ".git", "__MACOSX", "__MACOSX 2", "x.png"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert [path.name for path in list_folders(tmp_path)] == ["a", "b", "x.png"]
    assert list_folders(tmp_path / "nowhere") == list_folders(tmp_path / "file") == []


@pytest.mark.parametrize("name", ["a.bmp", "a.JPEG", "a.b.png", "a.TIF", "a.webp", "a.jfif"])
def test_names_of_images(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["._a.bmp", ".png", "png", "a.npy", "a.png~", "a.png.part"])
def test_names_of_no_images(name):
    assert not is_image_name(name)


def paths(folder, *names):
    return [Path(folder, name) for name in names]


@pytest.mark.parametrize(
    ("images", "masks", "ending", "pairs"),
    [
        (["0.png", "2.png"], ["0_mask.png", "1_mask.png", "2_mask.png"], "_mask", ["0_mask.png", "2_mask.png"]),
        (["000.bmp", "001.bmp"], ["000.png", "001.PNG"], None, ["000.png", "001.PNG"]),
        (["1.png", "2.png"], ["2.png"], None, [None, "2.png"]),
        (["000.png", "001.png"], ["000.png", "001_mask.png"], None, ["000.png", "001_mask.png"]),
        (["1.png", "1.jpg"], [], None, [None, None]),
        (["1.png", "01.png"], ["1.png", "01.png"], None, ["1.png", "01.png"]),
        (["a.b.png"], ["a.b_mask.png", "a_mask.png"], "_mask", ["a.b_mask.png"]),
        (["1.png", "1_mask.png"], ["1_mask.png", "1_mask_mask.png"], "_mask", ["1_mask.png", "1_mask_mask.png"]),
        (["1.png", "1_mask.png"], ["1_mask.png", "1_mask_mask.png"], None, ["1_mask.png", "1_mask_mask.png"]),
        (
            ["a.png", "B.png", "c.png"],
            ["A_GT.png", "b-mask.PNG", "c_Seg.bmp"],
            None,
            ["A_GT.png", "b-mask.PNG", "c_Seg.bmp"],
        ),
        (["x_1.png"], ["x_1_label.png", "x_label.png"], None, ["x_1_label.png"]),
        (["1.png", "2.png"], ["1", "3"], None, ["1", None]),
    ],
)
def test_masks_are_paired_by_stem(images, masks, ending, pairs):
    found = pair_masks(paths("images", *images), paths("masks", *masks), ending)
    assert {image.name: mask.name for image, mask in found.items()} == {
        image: mask for image, mask in zip(images, pairs, strict=True) if mask
    }


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (["1.png", "1.jpg"], ["1.png"], r"1\.jpg and 1\.png differ only in their ending"),
        (["1.png"], ["1.png", "1.jpg"], r"1\.png has two masks, 1\.png and 1\.jpg"),
        (["1.png"], ["1.png", "1_mask.png"], r"1\.png has two masks, 1\.png and 1_mask\.png; keep one"),
    ],
)
def test_masks_that_anybody_could_own_are_refused(images, masks, words):
    with pytest.raises(ValueError, match=words):
        pair_masks(paths("images", *images), paths("masks", *masks))


@pytest.mark.parametrize("name", ["a/b.png", "a\\b.png", "./a/b.png", ".\\a\\b.png", "a//b.png", "a/./b.png"])
def test_paths_below_a_folder(name):
    assert path_inside(Path("root"), name, Path("list.csv")) == Path("root/a/b.png")


def test_dots_in_names_lead_nowhere():
    assert path_inside(Path("root"), "a..b/..c.png", Path("list.csv")) == Path("root/a..b/..c.png")


@pytest.mark.parametrize(
    "name", ["..", "../a.png", "a/../../b.png", "a\\..\\b.png", "/a.png", "\\a.png", "C:/a.png", "c:a.png", "\\\\s\\a"]
)
def test_paths_that_lead_out_are_refused(name):
    with pytest.raises(ValueError, match=r"^list\.csv names .* leads out of root; .*--allow-outside"):
        path_inside(Path("root"), name, Path("list.csv"))


def test_absolute_paths_below_the_folder_and_paths_that_are_allowed(tmp_path):
    assert path_inside(tmp_path, f"{tmp_path}/a.png", Path("list.csv")) == tmp_path / "a.png"
    with pytest.raises(ValueError, match="allow_outside"):
        path_inside(tmp_path / "b", f"{tmp_path}/a.png", Path("list.csv"))
    assert path_inside(tmp_path / "b", f"{tmp_path}/a.png", Path("list.csv"), allow_outside=True) == tmp_path / "a.png"


def test_masks_beside_images_are_no_images():
    images, masks = split_masks(paths("x", "a.png", "A_mask.png", "b.png", "c_mask.png", "label.png"))
    assert [path.name for path in masks] == ["A_mask.png"]
    assert [path.name for path in images] == ["a.png", "b.png", "c_mask.png", "label.png"]


def test_folders_of_masks_are_no_types():
    kinds, masks = split_mask_folders(paths("x", "NG", "NG_masks", "Ground Truth", "label", "dent-mask", "masks"))
    assert [path.name for path in kinds] == ["NG", "label", "dent-mask"]
    assert [path.name for path in masks] == ["NG_masks", "Ground Truth", "masks"]
