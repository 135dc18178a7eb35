# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import shutil

import pytest
from data.miniatures import MINIATURES, draw, mark

from anomalyclip_hf.data.catalogue import CATALOGUE, PAPER_DATASETS
from anomalyclip_hf.data.listing import scan


@pytest.mark.parametrize("name", PAPER_DATASETS)
def test_a_missing_layout_says_what_was_looked_for_and_where_to_get_it(tmp_path, name):
    (tmp_path / "holiday").mkdir()
    draw(tmp_path / "holiday" / "beach.jpg", 1)
    with pytest.raises(FileNotFoundError) as error:
        scan(name, tmp_path)
    message, entry = str(error.value), CATALOGUE[name]
    for words in (f"{tmp_path} does not look like {entry.title}", entry.page, entry.license, "found holiday"):
        assert words in message
    for reader in entry.readers:
        assert reader.expects in message


@pytest.mark.parametrize("name", PAPER_DATASETS)
def test_a_missing_folder_says_where_to_get_it(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist") as error:
        scan(name, tmp_path / "nowhere")
    assert CATALOGUE[name].page in str(error.value)
    assert CATALOGUE[name].license in str(error.value)


def test_folders_of_ones_own_are_to_be_had_nowhere(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError) as error:
            scan("folder", folder)
        assert "is at" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["mvtec_anomaly_detection.tar.xz", "archive.zip", "VisA.tar", "Data.ZIP", "x.tgz", "y.7z"]
)
def test_an_archive_is_to_be_unpacked(tmp_path, name):
    (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(FileNotFoundError, match=f"found {name};.* Unpack {name} first"):
            scan("mvtec", path)


def test_many_files_are_not_all_listed(tmp_path):
    for number in range(100):
        (tmp_path / f"{number:03}.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"000\.txt, 001\.txt") as error:
        scan("mvtec", tmp_path)
    assert "050.txt" not in str(error.value)


def test_unknown_names_and_columns_that_no_folder_has(tmp_path):
    with pytest.raises(ValueError, match=r"dataset 'mvtek' is unknown; expected one of mvtec, .*folder, csv, jsonl"):
        scan("mvtek", tmp_path)
    with pytest.raises(ValueError, match="columns="):
        scan("folder", tmp_path, {"image": "file"})


def test_a_category_that_is_not_there(tmp_path):
    folder = MINIATURES["mvtec-original"].build(tmp_path)
    assert {row.category for row in scan("mvtec", folder, category="bottle").rows} == {"bottle"}
    with pytest.raises(ValueError, match=r"has no category 'nut'; expected one of bottle, metal_nut\."):
        scan("mvtec", folder, category="nut")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "should hold one .csv file, found none"),
        (["a.csv", "b.CSV"], r"found a\.csv, b\.CSV; name the file itself"),
    ],
)
def test_a_folder_with_no_table_or_two(tmp_path, names, words):
    for name in names:
        (tmp_path / name).write_text("image,label\na.png,0\n")
    with pytest.raises(FileNotFoundError, match=words):
        scan("csv", tmp_path)
    for name in names:
        assert len(scan("csv", tmp_path / name).rows) == 1


def test_a_table_without_records(tmp_path):
    (tmp_path / "list.csv").write_text("image,label\n")
    with pytest.raises(FileNotFoundError, match="image"):
        scan("csv", tmp_path)


def test_a_layout_without_images(tmp_path):
    (tmp_path / "bottle" / "test" / "good").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="looks like category tree of MVTec AD, but lists no image"):
        scan("mvtec", tmp_path)


HERE = ("mvtec", "headct", "brainmri", "br35h", "colondb", "clinicdb", "kvasir", "btad")


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("side_by_side")
    for miniature in MINIATURES.values():
        if miniature.dataset in HERE and miniature.meta:
            miniature.build(folder)
    MINIATURES["mvtec-original"].write_index(folder, MINIATURES["mvtec-original"].index())
    for number in (1, 2):
        draw(folder / "CVC-300" / "images" / f"{number}.png", number)
        mark(folder / "CVC-300" / "masks" / f"{number}.png", number)
    return folder


class TestDataSetsSideBySide:
    """Many look alike; the folder above them all leads to the one that was asked for, or to none."""

    @pytest.mark.parametrize("name", HERE)
    def test_those_that_are_here(self, side_by_side, name):
        (miniature,) = (one for one in MINIATURES.values() if one.dataset == name and one.meta)
        scanned = scan(name, side_by_side)
        assert scanned.root == side_by_side / miniature.root
        assert {scanned.path_of(row) for row in scanned.rows} == {row.image for row in miniature.expected()}

    @pytest.mark.parametrize("name", sorted({*PAPER_DATASETS} - {*HERE, "endo"}))
    def test_those_that_are_not(self, side_by_side, name):
        with pytest.raises(FileNotFoundError, match="does not look like"):
            scan(name, side_by_side)


def test_a_category_of_another_data_set_is_none_of_its_own(tmp_path):
    folder = MINIATURES["mvtec-original"].build(tmp_path) / "mvtec_anomaly_detection" / "bottle"
    assert len(scan("mvtec", folder).rows) == 4
    for name in ("visa", "headct", "brainmri", "sdd"):
        with pytest.raises(FileNotFoundError, match="does not look like"):
            scan(name, folder)


def test_two_images_with_one_stem_are_refused_where_a_mask_could_be_of_either(tmp_path):
    folder = MINIATURES["kvasir-original"].build(tmp_path)
    images = folder / "Kvasir-SEG" / "images"
    shutil.copy(images / "cju0qkwl35piu0993l0dewei2.jpg", images / "cju0qkwl35piu0993l0dewei2.png")
    with pytest.raises(ValueError, match="differ only in their ending or in case; keep one of them"):
        scan("kvasir", folder)


class TestProblems:
    def test_empty_folders_of_types(self, tmp_path):
        folder = MINIATURES["mvtec-original"].build(tmp_path)
        for image in (folder / "mvtec_anomaly_detection/bottle/test/good").glob("*.png"):
            image.unlink()
        problems = scan("mvtec", folder).problems
        assert len(problems) == 2
        assert "bottle/test/good hold no images: half-unpacked?" in problems[1]

    def test_missing_categories(self, tmp_path):
        miniature = MINIATURES["btad-original"]
        folder = miniature.build(tmp_path)
        shutil.rmtree(folder / miniature.root / "02")
        (problem,) = scan("btad", folder).problems
        assert problem == f"{folder / miniature.root} has no images of 02: half-unpacked?"

    def test_counts_are_those_of_the_test_split(self, tmp_path):
        folder = MINIATURES["tn3k-authors"].build(tmp_path)
        (problem,) = scan("tn3k", folder).problems
        assert problem == "tn3k: 0 normal and 2 anomalous test images; 0 and 614 are expected."

    def test_expected_counts_are_no_problem(self, tmp_path):
        for kind, images in (("good", 100), ("hemorrhage", 100)):
            for number in range(images):
                path = tmp_path / "brain" / "test" / kind / f"{number:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()  # nobody opens it here
        assert scan("headct", tmp_path).problems == []
        path.unlink()
        assert len(scan("headct", tmp_path).problems) == 1

    def test_missing_masks(self, tmp_path):
        folder = MINIATURES["endo-authors"].build(tmp_path)
        for mask in folder.glob("*/masks/*.*"):
            mask.unlink()
        (problem,) = scan("endo", folder).problems
        assert problem.startswith("2 anomalous images have no mask: ")
        assert "ckcu8ty6z00003b5yzfaezbs5.jpg" in problem

    def test_long_lists_are_cut(self, tmp_path):
        for number in range(1, 6):
            draw(tmp_path / "images" / f"{number}.png", number)
        mark(tmp_path / "masks" / "x.png", 1)
        (problem,) = scan("endo", tmp_path).problems
        assert "3.png and 2 more" in problem
        assert "4.png" not in problem

    @pytest.mark.parametrize("gone", ["a.png", "a_mask.png"])
    def test_files_that_a_table_lists_and_nobody_has(self, tmp_path, gone):
        (tmp_path / "list.csv").write_text("image,label,mask\na.png,1,a_mask.png\n")
        draw(tmp_path / "a.png", 1)
        mark(tmp_path / "a_mask.png", 1)
        assert scan("csv", tmp_path).problems == []
        (tmp_path / gone).unlink()
        (problem,) = scan("csv", tmp_path).problems
        assert problem == f"1 listed files do not exist: {tmp_path / gone}."
