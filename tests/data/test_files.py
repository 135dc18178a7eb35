# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from anomalyclip_hf.data.files import is_image_name, list_folders, list_images, pair_masks, path_inside


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
    ("images", "masks", "endings", "pairs"),
    [
        (["0.png", "2.png"], ["0_mask.png", "1_mask.png", "2_mask.png"], ("_mask",), ["0_mask.png", "2_mask.png"]),
        (["000.bmp", "001.bmp"], ["000.png", "001.PNG"], ("",), ["000.png", "001.PNG"]),
        (["1.png", "2.png"], ["2.png"], ("",), [None, "2.png"]),
        (["000.png", "001.png"], ["000.png", "001_mask.png"], ("", "_mask"), ["000.png", "001_mask.png"]),
        (["1.png", "1.jpg"], [], ("",), [None, None]),
        (["1.png", "01.png"], ["1.png", "01.png"], ("",), ["1.png", "01.png"]),
        (["a.b.png"], ["a.b_mask.png", "a_mask.png"], ("_mask",), ["a.b_mask.png"]),
        (["1.png", "1_mask.png"], ["1_mask.png", "1_mask_mask.png"], ("_mask",), ["1_mask.png", "1_mask_mask.png"]),
    ],
)
def test_masks_are_paired_by_stem(images, masks, endings, pairs):
    found = pair_masks(paths("images", *images), paths("masks", *masks), endings)
    assert {image.name: mask.name for image, mask in found.items()} == {
        image: mask for image, mask in zip(images, pairs, strict=True) if mask
    }


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (["1.png", "1.jpg"], ["1.png"], r"1\.jpg and 1\.png differ only in their ending"),
        (["1.png"], ["1.png", "1.jpg"], r"1\.jpg and 1\.png differ only in their ending"),
        (["1.png"], ["1.png", "1_mask.png"], r"1\.png has two masks, 1\.png and 1_mask\.png; keep one"),
    ],
)
def test_masks_that_anybody_could_own_are_refused(images, masks, words):
    with pytest.raises(ValueError, match=words):
        pair_masks(paths("images", *images), paths("masks", *masks), ("", "_mask"))


@pytest.mark.parametrize("name", ["a/b.png", "a\\b.png", "./a/b.png", ".\\a\\b.png", "a//b.png", "a/./b.png"])
def test_paths_below_a_folder(name):
    assert path_inside(Path("root"), name, Path("list.csv")) == Path("root/a/b.png")


def test_dots_in_names_lead_nowhere():
    assert path_inside(Path("root"), "a..b/..c.png", Path("list.csv")) == Path("root/a..b/..c.png")


@pytest.mark.parametrize(
    "name", ["..", "../a.png", "a/../../b.png", "a\\..\\b.png", "/a.png", "\\a.png", "C:/a.png", "c:a.png", "\\\\s\\a"]
)
def test_paths_that_lead_out_are_refused(name):
    with pytest.raises(ValueError, match=r"^list\.csv names .* leads out of root; .* Correct or remove the file"):
        path_inside(Path("root"), name, Path("list.csv"))
