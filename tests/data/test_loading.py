# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import warnings

import datasets
import numpy as np
import pytest
from data.miniatures import BRIGHT, DARK, MINIATURES, SIZE, draw, mark, squares

from anomalyclip_hf import load_anomaly_dataset


COLUMNS = ["image", "mask", "label", "category", "defect_type", "path"]
PLAIN = ("label", "category", "defect_type", "path")


@pytest.fixture
def load(tmp_path):
    """Load into a cache of one's own; that miniatures are not whole is no news."""

    def load_quietly(*args, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*(half-unpacked|are expected|have no mask)")
            return load_anomaly_dataset(*args, **{"cache_dir": tmp_path / "cache"} | options)

    return load_quietly


@pytest.fixture
def own(tmp_path):
    return MINIATURES["folder-types_and_masks"].build(tmp_path / "own")


def plain(rows):
    return [tuple(row[column] for column in PLAIN) for row in rows]


def assert_image(image, number):
    assert (image.mode, image.size) == ("RGB", SIZE)
    difference = np.asarray(image).astype(int) - np.where(squares(number), BRIGHT, DARK)[..., None]
    assert np.abs(difference).max() <= 8


def assert_mask(mask, number):
    assert (mask.mode, mask.size) == ("L", SIZE)
    np.testing.assert_array_equal(np.asarray(mask), squares(number) * np.uint8(255))


@pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)
def test_every_layout_is_decoded(tmp_path, load, miniature):
    folder = miniature.build(tmp_path / "own")
    for split in sorted({row.split for row in miniature.expected()}):
        rows = {row["path"]: row for row in load(miniature.dataset, folder, split)}
        expected = [row for row in miniature.expected() if row.split == split]
        assert sorted(rows) == sorted(row.image for row in expected)
        for row in expected:
            assert_image(rows[row.image]["image"], row.number)
            assert (rows[row.image]["label"], rows[row.image]["category"]) == (row.label, row.category)
            if row.mask is None:
                assert rows[row.image]["mask"] is None
            else:
                assert_mask(rows[row.image]["mask"], row.number)


@pytest.mark.parametrize(
    "name", ["kvasir-original", "endo-authors", "tn3k-authors", "clinicdb-original", "folder-types_and_masks"]
)
def test_jpeg_masks_as_the_paper_takes_them(tmp_path, load, name):
    miniature = MINIATURES[name]
    dataset = load(miniature.dataset, miniature.build(tmp_path / "own"), mask_rule="nonzero")
    masks = dict(zip(dataset["path"], dataset["mask"], strict=True))
    masked = [row for row in miniature.expected() if row.split != "train" and row.mask is not None]
    assert masked
    for row in masked:
        anomalous = np.asarray(masks[row.image]) == 255
        assert anomalous[squares(row.number)].all()
        assert anomalous[~squares(row.number)].any() == (row.mask_kind == "jpeg")


def test_the_mask_rule(tmp_path, load):
    folder = MINIATURES["kvasir-original"].build(tmp_path / "own")
    shares = [
        np.mean(np.asarray(load("kvasir", folder, mask_rule=rule)[0]["mask"]) > 0)
        for rule in ("nonzero", "auto", "nonzero")
    ]
    assert shares[0] == shares[2] > shares[1] > 0


def test_columns_and_their_types(own, load):
    dataset = load("folder", own)
    assert dataset.column_names == COLUMNS
    assert dataset.features["label"].names == ["normal", "anomalous"]
    assert isinstance(dataset.features["image"], datasets.Image)
    assert "a dataset in folders" in dataset.info.description
    theirs = dataset.cast_column("image", datasets.Image()).cast_column("mask", datasets.Image())
    assert theirs[0]["image"].size == SIZE


@pytest.mark.parametrize(
    "name", ["mvtec-original", "headct-original", "tn3k-authors", "clinicdb-original", "folder-flat"]
)
def test_streaming_gives_the_same_rows(tmp_path, load, name):
    miniature = MINIATURES[name]
    folder = miniature.build(tmp_path / "own")
    stream = load(miniature.dataset, folder, streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    streamed = list(stream)
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    rows = list(load(miniature.dataset, folder))
    assert plain(streamed) == plain(rows)
    for ours, theirs in zip(streamed, rows, strict=True):
        for column in ("image", "mask"):
            assert (ours[column] is None) == (theirs[column] is None)
            if ours[column] is not None:
                np.testing.assert_array_equal(np.asarray(ours[column]), np.asarray(theirs[column]))


class TestFiles:
    def test_nothing_is_cached(self, tmp_path, own, load):
        assert plain(load("folder", own)) == plain(load("folder", own))
        assert not list((tmp_path / "cache").rglob("*"))

    def test_images_stay_where_they_are(self, tmp_path, own, load):
        dataset = load("folder", own)
        assert dataset.cast_column("image", datasets.Image(decode=False))[0]["image"] == {
            "bytes": None,
            "path": str(own / dataset[0]["path"]),
        }

    def test_a_new_file_shows(self, own, load):
        before = load("folder", own)["path"][:]
        draw(own / "hole" / "new.png", 9)
        assert set(load("folder", own)["path"]) == {*before, "hole/new.png"}

    def test_a_removed_file_shows(self, own, load):
        before = load("folder", own)["path"][:]
        (own / "hole" / "a.jpg").unlink()
        assert set(load("folder", own)["path"]) == set(before) - {"hole/a.jpg"}

    def test_a_changed_file_shows(self, own, load):
        load("folder", own)
        mark(own / "Masks" / "scratch" / "a.png", 33)
        (row,) = (row for row in load("folder", own) if row["path"] == "scratch/a.jpg")
        assert_mask(row["mask"], 33)

    def test_a_new_mask_shows(self, own, load):
        load("folder", own)
        mark(own / "Masks" / "hole" / "a.png", 4)
        (row,) = (row for row in load("folder", own) if row["path"] == "hole/a.jpg")
        assert_mask(row["mask"], 4)

    def test_a_changed_label_shows(self, own, load):
        table = own / "list.csv"
        table.write_text("image,label\nhole/a.jpg,0\n")
        assert load("csv", table)["label"][:] == [0]
        table.write_text("image,label\nhole/a.jpg,1\n")
        assert load("csv", table)["label"][:] == [1]

    def test_two_folders_with_equal_names(self, tmp_path, load):
        for number, place in enumerate(("here", "there"), start=1):
            draw(tmp_path / place / "own" / "a.png", number)
        for number, place in enumerate(("here", "there"), start=1):
            assert_image(load("folder", tmp_path / place / "own")[0]["image"], number)

    def test_relative_folders_outlive_a_change_of_folder(self, tmp_path, own, load, monkeypatch):
        monkeypatch.chdir(tmp_path)
        dataset = load("folder", "own")
        monkeypatch.chdir(own)
        assert dataset[0]["image"].size == SIZE
        assert plain(load("folder", ".")) == plain(dataset)


def test_only_one_category(tmp_path, load):
    folder = MINIATURES["btad-original"].build(tmp_path / "own")
    assert set(load("btad", folder, category="02")["path"]) == {"02/test/ok/0000.png", "02/test/ko/0000.png"}
    with pytest.raises(ValueError, match="has no category '04'; expected one of 01, 02, 03"):
        load("btad", folder, category="04")
    with pytest.raises(ValueError, match=r"btad has no split 'train' in .*; expected one of test\."):
        load("btad", folder, "train", category="02")


@pytest.mark.parametrize("split", ["train", "validation", "Test", "all"])
def test_a_split_that_is_not_there(own, load, split):
    with pytest.raises(ValueError, match=f"folder has no split '{split}' in .*own; expected one of test"):
        load("folder", own, split)


def test_only_the_hub_takes_more_options(own, load):
    with pytest.raises(ValueError, match="unknown options revision, token; only hub takes more"):
        load("folder", own, revision="main", token="x")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mvtec-original", "has no images of cable, .*half-unpacked"),
        ("kvasir-original", "kvasir: 0 normal and 2 anomalous test images; 0 and 1000 are expected"),
    ],
)
def test_oddities_warn_and_do_not_fail(tmp_path, name, words):
    miniature = MINIATURES[name]
    with pytest.warns(UserWarning, match=words) as caught:
        dataset = load_anomaly_dataset(
            miniature.dataset, miniature.build(tmp_path / "own"), cache_dir=tmp_path / "cache"
        )
    assert len(dataset) > 1
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_mask_of_an_anomalous_image_is_named(tmp_path, load, streaming):
    folder = MINIATURES["endo-authors"].build(tmp_path / "own")
    mark(folder / "EndoTect_2020_Segmentation_Test_Dataset/masks/ckcu94ichw2xm0749z6k5l5tx.png", 1, "black")
    dataset = load("endo", folder, streaming=streaming)
    with pytest.warns(UserWarning, match=r"masks.ckcu94ichw2xm0749z6k5l5tx\.png is empty: it marks nothing") as caught:
        rows = list(dataset)
    assert len(caught) == 1
    assert [np.asarray(row["mask"]).any() for row in rows] == [True, False]


def test_a_damaged_image_is_named_when_its_row_is_read(own, load):
    (own / "hole" / "a.jpg").write_bytes(b"no image")
    dataset = load("folder", own)
    with pytest.raises(ValueError, match=r"hole.a\.jpg is not an image"):
        list(dataset)


def test_an_image_listed_twice_is_two_rows(own, load):
    (own / "list.csv").write_text("image,label\nhole/a.jpg,0\nhole/a.jpg,1\n")
    assert load("csv", own)["label"][:] == [0, 1]


RECORDS = {
    "ints": [0, 1, None],
    "floats": [0.0, 1.0, float("nan")],
    "strings": ["OK", "Anomaly", None],
    "blanks": ["0", "1", ""],
    "bools": [False, True, None],
    "classes": ["good", "defect", None],
    "hidden": [1, 0, -1],
}


def embedded(path):
    """An image as `datasets` holds it; the file itself goes, so that nobody reads it by its path."""
    content = path.read_bytes()
    path.unlink()
    return {"bytes": content, "path": path.name}


@pytest.fixture
def stored(tmp_path):
    """Write a Parquet file with its images in it; columns are called as the `names` say."""

    def store(path, labels=(0, 1, None), names=COLUMNS[:3], classes=None, **more):
        for number in (1, 2, 3):
            draw(tmp_path / f"{number}.png", number)
        mark(tmp_path / "m.jpg", 2, "jpeg")
        images = [embedded(tmp_path / f"{number}.png") for number in (1, 2, 3)]
        mask = embedded(tmp_path / "m.jpg")
        columns = [images, [mask, mask, None], list(labels)]
        table = datasets.Dataset.from_dict(dict(zip(names, columns, strict=True)) | more)
        for name in names[:2]:
            table = table.cast_column(name, datasets.Image())
        if classes:
            table = table.cast_column(names[2], datasets.ClassLabel(names=classes))
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
        return path

    return store


class TestParquet:
    @pytest.mark.parametrize("kind", RECORDS)
    def test_labels_of_any_type(self, tmp_path, stored, load, kind):
        classes = ["defect", "good"] if kind in ("classes", "hidden") else None
        dataset = load("parquet", stored(tmp_path / "shop.parquet", RECORDS[kind], classes=classes))
        assert plain(dataset) == [
            (0, "shop", "good", "1.png"),
            (1, "shop", "anomaly", "2.png"),
            (None, "shop", None, "3.png"),
        ]

    @pytest.mark.parametrize("streaming", [False, True])
    def test_images_and_masks_are_in_the_file(self, tmp_path, stored, load, streaming):
        rows = list(load("parquet", stored(tmp_path / "shop.parquet"), streaming=streaming))
        assert [list(row) for row in rows] == [COLUMNS] * 3
        for number, row in enumerate(rows, start=1):
            assert_image(row["image"], number)
        assert [row["mask"] is None for row in rows] == [True, False, True]
        assert_mask(rows[1]["mask"], 2)

    def test_the_paper_s_threshold(self, tmp_path, stored, load):
        mask = load("parquet", stored(tmp_path / "shop.parquet"), mask_rule="nonzero")[1]["mask"]
        assert np.asarray(mask)[~squares(2)].any()

    def test_columns_of_any_name(self, tmp_path, stored, load):
        path = stored(
            tmp_path / "shop.parquet",
            names=["photo", "gt", "bad"],
            part=["bolt", "nut", "nut"],
            kind=["", "rust", None],
        )
        columns = {"image": "photo", "mask": "gt", "label": "bad", "category": "part", "defect_type": "kind"}
        dataset = load("parquet", path, columns=columns)
        assert plain(dataset) == [
            (0, "bolt", "good", "1.png"),
            (1, "nut", "rust", "2.png"),
            (None, "nut", None, "3.png"),
        ]
        assert_mask(dataset[1]["mask"], 2)
        assert load("parquet", path, columns=columns, category="nut")["path"][:] == ["2.png", "3.png"]
        with pytest.raises(ValueError, match="has no category 'screw'; expected one of bolt, nut"):
            load("parquet", path, columns=columns, category="screw")

    def test_categories_may_be_classes(self, tmp_path, stored, load):
        path = stored(tmp_path / "shop.parquet", category=["bolt", "nut", "nut"])
        table = datasets.Dataset.from_parquet(str(path), cache_dir=tmp_path / "cache")
        table.cast_column("category", datasets.ClassLabel(names=["nut", "bolt"])).to_parquet(path)
        assert load("parquet", path)["category"][:] == ["bolt", "nut", "nut"]

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({}, r"shop\.parquet lacks image, label; it has photo, mask, bad\. Map them with columns="),
            ({"image": "photo"}, "lacks label"),
            ({"image": "photo", "label": "worse"}, "lacks worse; it has"),
            ({"image": "photo", "label": "bad", "mask": "gt"}, "lacks gt"),
            (
                {"image": "photo", "label": "bad", "picture": "photo"},
                "columns= names 'picture'; expected some of image",
            ),
        ],
    )
    def test_columns_that_are_not_there(self, tmp_path, stored, load, columns, words):
        path = stored(tmp_path / "shop.parquet", names=["photo", "mask", "bad"])
        with pytest.raises(ValueError, match=words):
            load("parquet", path, columns=columns)

    def test_a_label_that_nobody_knows(self, tmp_path, stored, load):
        path = stored(tmp_path / "shop.parquet", ["ok", "ok", "odd"])
        with pytest.raises(ValueError, match=r"shop\.parquet, row 2: label 'odd' is unknown"):
            load("parquet", path)

    def test_a_folder_with_splits(self, tmp_path, stored, load):
        stored(tmp_path / "shop" / "data" / "train-00000-of-00001.parquet", [0, 0, 0])
        stored(tmp_path / "shop" / "data" / "test-00000-of-00001.parquet", [0, 1, 1])
        assert load("parquet", tmp_path / "shop", "train")["label"][:] == [0, 0, 0]
        assert load("parquet", tmp_path / "shop")["label"][:] == [0, 1, 1]
        with pytest.raises(ValueError, match="has no split 'validation'; expected one of test, train"):
            load("parquet", tmp_path / "shop", "validation")

    def test_a_folder_without_splits_is_all_test(self, tmp_path, stored, load):
        stored(tmp_path / "test_shop" / "latest_contest.parquet", [0, 0, 0])
        stored(tmp_path / "test_shop" / "other.parquet", [1, 1, 1])
        assert load("parquet", tmp_path / "test_shop")["label"][:] == [0, 0, 0, 1, 1, 1]

    def test_nothing_there(self, tmp_path, load):
        with pytest.raises(FileNotFoundError, match=r"no \.parquet"):
            load("parquet", tmp_path)
        with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet does not exist"):
            load("parquet", tmp_path / "nowhere.parquet")

    def test_damaged_files_are_named(self, load, tmp_path):
        (tmp_path / "shop.parquet").write_bytes(b"PAR1 and nothing more")
        with pytest.raises(ValueError, match=r"shop\.parquet cannot be read as Parquet"):
            load("parquet", tmp_path / "shop.parquet")

    @pytest.mark.parametrize("options", [{"encoding": "utf-16"}, {"allow_outside": True}, {"mask_rule": "red"}])
    def test_options_of_other_datasets_are_refused(self, stored, load, tmp_path, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            load("parquet", stored(tmp_path / "shop.parquet"), **options)

    def test_ours_written_and_read_again(self, tmp_path, own, load):
        dataset = load("folder", own)
        dataset.to_parquet(tmp_path / "own.parquet")
        again = load("parquet", tmp_path / "own.parquet")
        assert plain(again) == plain(dataset)
        for ours, theirs in zip(dataset, again, strict=True):
            np.testing.assert_array_equal(np.asarray(ours["image"]), np.asarray(theirs["image"]))
            assert (ours["mask"] is None) == (theirs["mask"] is None)
            if ours["mask"] is not None:
                np.testing.assert_array_equal(np.asarray(ours["mask"]), np.asarray(theirs["mask"]))

    def test_the_cache_is_where_it_was_asked_to_be(self, tmp_path, stored, load, monkeypatch):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "elsewhere")
        load("parquet", stored(tmp_path / "shop.parquet"))
        assert list((tmp_path / "cache").rglob("*.arrow"))
        assert not list((tmp_path / "elsewhere").rglob("*.arrow"))


class TestHub:
    """Repositories are folders to `datasets` when they are on this machine."""

    def test_a_repository_with_parquet_files(self, tmp_path, stored, load):
        stored(tmp_path / "repo" / "data" / "test-00000-of-00001.parquet", [0, 1, 1], ["photo", "gt", "bad"])
        columns = {"image": "photo", "mask": "gt", "label": "bad"}
        for streaming in (False, True):
            rows = list(load("hub", tmp_path / "repo", columns=columns, streaming=streaming))
            assert plain(rows) == [(0, "repo", "good", "1.png"), *((1, "repo", "anomaly", f"{n}.png") for n in (2, 3))]
            assert_mask(rows[1]["mask"], 2)

    def test_a_repository_with_folders_of_classes(self, tmp_path, load):
        for number, kind in enumerate(("good", "bad"), start=1):
            draw(tmp_path / "repo" / "test" / kind / "a.png", number)
        rows = sorted(load("hub", tmp_path / "repo"), key=lambda row: row["label"])
        assert [(row["label"], row["defect_type"], row["mask"]) for row in rows] == [
            (0, "good", None),
            (1, "anomaly", None),
        ]
        for number, row in enumerate(rows, start=1):
            assert_image(row["image"], number)

    def test_options_go_to_datasets(self, tmp_path, stored, load):
        stored(tmp_path / "repo" / "a.parquet", [0, 0, 0])
        stored(tmp_path / "repo" / "b.parquet", [1, 1, 1])
        assert load("hub", tmp_path / "repo", data_files={"test": "b.parquet"})["label"][:] == [1, 1, 1]

    def test_a_split_that_is_not_there(self, tmp_path, stored, load):
        stored(tmp_path / "repo" / "train.parquet")
        with pytest.raises(ValueError, match="test"):
            load("hub", tmp_path / "repo")
