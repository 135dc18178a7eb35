# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
from data.miniatures import MINIATURES, draw, mark
from PIL import Image

from anomalyclip_hf.data.checking import check
from anomalyclip_hf.data.listing import scan


FINDINGS = ("empty_masks", "unpaired", "other_size", "unreadable", "unmatched", "unused", "full_masks")


@pytest.fixture
def endo(tmp_path):
    MINIATURES["endo-authors"].build(tmp_path)
    (tmp_path / "EndoTect_2020_Segmentation_Test_Dataset/masks/ckcu9.png").unlink()
    return tmp_path / "EndoTect_2020_Segmentation_Test_Dataset"


def findings(scanned):
    report = check(scanned)
    return {name: getattr(report, name) for name in FINDINGS if getattr(report, name)}


@pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)
def test_only_strays_are_found_in_what_is_whole(tmp_path, miniature):
    folder = miniature.build(tmp_path / "own")
    scanned = scan(miniature.dataset, folder)
    report = check(scanned)
    labels = [(row.split, row.category, row.label) for row in miniature.expected()]
    assert report.counts == {key: labels.count(key) for key in labels}
    strays = [(folder / stray.partition(":")[0]) for stray in miniature.strays if "/." not in stray]
    # Black masks of normal images are where they belong.
    strays = [path for path, stray in zip(strays, miniature.strays, strict=False) if not stray.endswith(":black")]
    found = sorted([*report.unmatched, *report.unused])
    assert found == sorted(str(path) for path in strays if path.is_relative_to(scanned.root))
    has_masks = any(row.mask for row in miniature.expected())
    unpaired = [row.image for row in miniature.expected() if has_masks and row.label and not row.mask]
    assert report.unpaired == [str(scanned.root / image) for image in unpaired]
    assert report.is_clean == (not unpaired and not report.unmatched)
    assert report.empty_masks == report.other_size == report.unreadable == []


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("file", ["images/ckcu8ty6z00003b5yzfaezbs5.jpg", "masks/ckcu94ichw2xm0749z6k5l5tx.png"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "is damaged or cut short"),
        (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is not an image"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "does not exist"),
    ],
)
def test_unreadable_files(endo, file, damage, words):
    damage(endo / file)
    report = check(scan("endo", endo))
    (line,) = report.unreadable
    assert line.startswith(f"{endo / file} {words}")
    assert len(line.splitlines()) == 1
    assert not report.is_clean
    assert report.counts.total() == 2


def test_files_that_a_table_lists_and_nobody_has(tmp_path):
    (tmp_path / "list.csv").write_text("image,label\na.png,0\nb.png,0\n")
    draw(tmp_path / "a.png", 1)
    assert findings(scan("csv", tmp_path)) == {
        "unreadable": [f"{tmp_path / 'b.png'} does not exist; expected an image file."]
    }


def test_empty_masks(endo):
    mask = endo / "masks" / "ckcu94ichw2xm0749z6k5l5tx.png"
    mark(mask, 1, "black")
    assert findings(scan("endo", endo)) == {"empty_masks": [str(mask)]}


def test_grey_of_jpeg_is_an_empty_mask(endo):
    mask = endo / "masks" / "ckcu8ty6z00003b5yzfaezbs5.jpg"
    Image.fromarray(np.full((16, 24), 100, np.uint8)).save(mask)
    assert findings(scan("endo", endo)) == {"empty_masks": [str(mask)]}


def test_masks_of_another_size(endo):
    mask = endo / "masks" / "ckcu94ichw2xm0749z6k5l5tx.png"
    other = Image.new("L", (16, 24))
    other.putpixel((3, 3), 255)
    other.save(mask)
    assert findings(scan("endo", endo)) == {"other_size": [f"{mask} (16x24, its image 24x16)"]}


def test_a_missing_mask_is_unpaired_and_its_neighbours_are_not(endo):
    (endo / "masks" / "ckcu8ty6z00003b5yzfaezbs5.jpg").unlink()
    assert findings(scan("endo", endo)) == {"unpaired": [str(endo / "images" / "ckcu8ty6z00003b5yzfaezbs5.jpg")]}


def test_sets_without_masks_have_none_unpaired(tmp_path):
    folder = MINIATURES["br35h-authors"].build(tmp_path)
    assert findings(scan("br35h", folder)) == {}


def test_other_folders_of_a_published_dataset_do_not_matter(endo):
    draw(endo / "images" / "old" / "a.png", 5)
    report = check(scan("endo", endo))
    assert report.unused == [str(endo / "images" / "old" / "a.png")]
    assert report.is_clean


def test_other_categories_are_not_unused(tmp_path):
    folder = MINIATURES["mvtec-original"].build(tmp_path)
    stray = folder / "mvtec_anomaly_detection" / "bottle" / "ground_truth" / "broken_large" / "001_mask.png"
    scanned = scan("mvtec", folder, category="metal_nut")
    assert findings(scanned) == {"unmatched": [str(stray)]}
    assert set(check(scanned).counts) == {
        ("test", "metal_nut", 0),
        ("test", "metal_nut", 1),
        ("train", "metal_nut", 0),
    }


def test_only_the_rows_that_are_given_are_opened(endo):
    scanned = scan("endo", endo)
    seen = []
    report = check(scanned, (seen.append(row) or row for row in scanned.rows))
    assert seen == scanned.rows
    assert report.counts.total() == 2


def test_masks_that_mark_everything_or_most_are_named(endo):
    for mask in (endo / "masks").glob("*.png"):
        Image.new("L", (24, 16), 255).save(mask)
    names = findings(scan("endo", endo))["full_masks"]
    assert str(endo / "masks" / "ckcu94ichw2xm0749z6k5l5tx.png") in names
    assert names[-1].startswith("colon: masks mark ")
    assert not check(scan("endo", endo)).is_clean
