# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pickle

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.data.samples import SampleReader


SIZE = (40, 60)  # height, width
BOX = np.zeros(SIZE, np.uint8)
BOX[8:24, 16:40] = 255


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """One category: two normal images, one with a box, one without its mask, one with an empty mask."""
    root = tmp_path / "bolt"
    for number, name in enumerate(("good/0", "good/1", "dent/0", "dent/1", "dent/2")):
        (root / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / f"test/{name}.png")
    (root / "ground_truth/dent").mkdir(parents=True)
    Image.fromarray(BOX).save(root / "ground_truth/dent/0_mask.png")
    Image.fromarray(BOX * 0).save(root / "ground_truth/dent/2_mask.png")
    return root


@pytest.fixture
def dataset(folder, tmp_path):
    return load_anomaly_dataset("folder", folder, cache_dir=tmp_path / "cache")


ORDER = ["test/dent/0.png", "test/dent/1.png", "test/dent/2.png", "test/good/0.png", "test/good/1.png"]


def assert_as_in_the_folder(reader: SampleReader) -> None:
    samples = [reader.read(index) for index in range(len(reader))]
    assert [sample.label for sample in samples] == [1, 1, 1, 0, 0] == reader.labels
    assert [None if sample.mask is None else int(sample.mask.sum()) for sample in samples] == [384, None, None, 0, 0]
    assert [bool(sample.note) for sample in samples] == [False, True, True, False, False]
    assert np.array_equal(samples[0].mask, BOX > 0)
    for number, sample in zip((2, 3, 4, 0, 1), samples, strict=True):
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(picture(number)))


def test_our_own_dataset(dataset):
    reader = SampleReader(dataset)
    assert_as_in_the_folder(reader)
    assert [reader.name(index) for index in range(5)] == ORDER
    assert [reader.read(0).category, reader.read(0).defect_type, reader.read(3).defect_type] == [
        "bolt",
        "dent",
        "good",
    ]
    assert reader.categories == ["bolt"] * 5
    assert reader.has_masks


CHANGES = {
    "map that leaves images alone": lambda ds: ds.map(lambda row: {"more": row["path"]}),
    "map that gives decoded images": lambda ds: ds.map(lambda row: {"image": row["image"], "mask": row["mask"]}),
    "cast to the feature of datasets": lambda ds: ds.cast_column("image", datasets.Image()).cast_column(
        "mask", datasets.Image()
    ),
    "images left undecoded": lambda ds: ds.cast_column("image", datasets.Image(decode=False)),
    "select and concatenate": lambda ds: datasets.concatenate_datasets([ds.select([0, 1]), ds.select([2, 3, 4])]),
    "format for torch": lambda ds: ds.with_format("torch"),
    "transform on the fly": lambda ds: ds.with_transform(lambda rows: {"nothing": rows["path"]}),
    "labels as integers": lambda ds: ds.cast_column("label", datasets.Value("int64")),
    "labels as words": lambda ds: ds.map(
        lambda row: {"label": "NG" if row["label"] else "OK"},
        features=datasets.Features(ds.features | {"label": datasets.Value("string")}),
    ),
    "classes in another order": lambda ds: ds.map(
        lambda row: {"label": 1 - row["label"]},
        features=datasets.Features(ds.features | {"label": datasets.ClassLabel(names=["defect", "good"])}),
    ),
    "rows as dicts": lambda ds: list(ds),
    "rows of paths": lambda ds: [
        {name: row[name] and row[name]["path"] for name in ("image", "mask")} | {"label": row["label"]}
        for row in ds.cast_column("image", datasets.Image(decode=False)).cast_column(
            "mask", datasets.Image(decode=False)
        )
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_datasets_of_any_form(dataset, change):
    assert_as_in_the_folder(SampleReader(change(dataset)))


def test_columns_of_paths_bytes_and_arrays(folder):
    path = str(folder / "test/dent/0.png")
    mask = str(folder / "ground_truth/dent/0_mask.png")
    pixels, content = np.asarray(picture(2)), (folder / "test/dent/0.png").read_bytes()
    tables = [
        {"image": [path], "mask": [mask], "label": [1]},
        {"image": [content], "mask": [mask], "label": [True]},
        {"image": [pixels.tolist()], "mask": [BOX.tolist()], "label": [1.0]},
    ]
    for table in map(datasets.Dataset.from_dict, tables):
        sample = SampleReader(table).read(0)
        np.testing.assert_array_equal(np.asarray(sample.image), pixels)
        assert (sample.label, int(sample.mask.sum()), sample.category) == (1, 384, None)


def test_the_rule_of_the_dataset_and_of_the_caller(dataset, folder):
    path = folder / "ground_truth/dent/0_mask.png"
    path.unlink()
    Image.fromarray(BOX // 8).save(path.with_suffix(".jpg"), quality=100)  # 31 of 255: below half
    dark = {"image": str(folder / "test/dent/0.png"), "mask": str(path.with_suffix(".jpg")), "label": 1}
    assert SampleReader([dark]).read(0).mask is None
    assert SampleReader([dark], mask_rule="nonzero").read(0).mask.sum() >= 384
    loaded = load_anomaly_dataset("folder", folder, mask_rule="nonzero")
    for kept in (loaded, loaded.map(lambda row: {"more": 1}), loaded.select([0]), pickle.loads(pickle.dumps(loaded))):
        assert SampleReader(kept).mask_rule == "nonzero"
        assert SampleReader(kept).read(0).mask.sum() >= 384
    assert SampleReader(datasets.concatenate_datasets([loaded, dataset])).read(0).mask.sum() >= 384
    with pytest.raises(ValueError, match="mask_rule"):
        SampleReader([dark], mask_rule="half")


def test_images_without_truth(folder):
    paths = sorted((folder / "test/dent").iterdir())
    reader = SampleReader([str(paths[0]), paths[1], picture(4), np.asarray(picture(0)), paths[2].read_bytes()])
    assert [reader.name(index) for index in range(5)] == [*map(str, paths[:2]), "image 2", "image 3", "image 4"]
    assert {reader.read(index).mask for index in range(5)} == {reader.read(0).label} == {None}
    assert reader.labels == [None] * 5
    assert not reader.has_masks


@pytest.mark.parametrize("label", [torch.tensor(1), torch.tensor(True), np.int64(1), np.array(1.0)])
def test_labels_may_be_tensors_and_arrays(label):
    assert SampleReader([{"image": picture(0), "label": label}]).labels == [1]


def test_a_mask_of_an_image_with_unknown_label():
    sample = SampleReader([{"image": picture(0), "mask": BOX}]).read(0)
    assert (sample.label, int(sample.mask.sum())) == (None, 384)


def test_masks_are_turned_as_their_images_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, to be turned by a quarter clockwise
    Image.fromarray(BOX).save(tmp_path / "mask.png", exif=exif)
    picture(0).save(tmp_path / "image.jpg", exif=exif)
    sample = SampleReader([{"image": tmp_path / "image.jpg", "mask": tmp_path / "mask.png", "label": 1}]).read(0)
    np.testing.assert_array_equal(sample.mask, np.rot90(BOX, -1) > 0)
    assert sample.image.size == SIZE


@pytest.mark.parametrize("size", [(80, 120), (20, 30), (27, 40), (13, 20)])
def test_masks_of_another_resolution_are_resized(size):
    mask = Image.fromarray(BOX).resize(size[::-1], Image.Resampling.NEAREST)
    sample = SampleReader([{"image": picture(0), "mask": mask, "label": 1}]).read(0)
    assert sample.mask.shape == SIZE
    assert int(sample.mask.sum()) == pytest.approx(384, rel=0.2)


@pytest.mark.parametrize("size", [SIZE[::-1], (40, 50), (80, 60)])
def test_masks_of_another_shape_are_refused(size):
    reader = SampleReader([{"image": picture(0), "mask": np.ones(size), "label": 1, "path": "a.png"}])
    with pytest.raises(ValueError, match=rf"a\.png is 60x40 px and its mask {size[1]}x{size[0]}"):
        reader.read(0)


def test_masks_at_the_size_of_the_model():
    line = np.zeros(SIZE, np.uint8)
    line[5] = 255
    kept, lost = map(
        SampleReader([{"image": picture(0), "mask": mask, "label": 1} for mask in (BOX, line)]).read, (0, 1)
    )
    assert kept.mask_at((20, 30)).sum() == 96
    assert kept.mask_at((20, 30)).dtype == np.uint8
    assert kept.note is None
    assert lost.mask_at((4, 6)).sum() == 0
    assert "image 1" in lost.note
    assert "--resolution original" in lost.note
    assert SampleReader([picture(0)]).read(0).mask_at((4, 6)) is None


def test_a_digest_changes_with_all_that_a_sample_depends_on(dataset, folder):
    def digests(**options):
        return [SampleReader(dataset, **options).digest(index) for index in range(5)]

    before = digests()
    assert len(set(before)) == 5
    assert before == digests()
    assert not set(before) & set(digests(mask_rule="nonzero"))
    Image.fromarray(BOX // 2).save(folder / "ground_truth/dent/0_mask.png")
    picture(9).save(folder / "test/good/0.png")
    assert [old == new for old, new in zip(before, digests(), strict=True)] == [False, True, True, False, True]
    row = {"image": picture(0), "mask": BOX, "label": 1}
    rows = [row, row | {"label": 0}, row | {"mask": None}, row | {"image": picture(1)}, row | {"mask": BOX // 2}]
    reader = SampleReader(rows)
    assert len({reader.digest(index) for index in range(5)}) == 5


def test_a_reader_travels_to_workers(dataset):
    assert_as_in_the_folder(pickle.loads(pickle.dumps(SampleReader(dataset))))


def test_what_cannot_be_read_is_named(dataset, folder):
    (folder / "test/good/0.png").write_bytes(b"no image")
    (folder / "test/good/1.png").unlink()
    with pytest.raises(ValueError, match=r"good/0\.png"):
        SampleReader(dataset).read(3)
    with pytest.raises(FileNotFoundError, match=r"good/1\.png"):
        SampleReader(dataset).read(4)
    with pytest.raises(ValueError, match="image 1"):
        SampleReader([picture(0), b"no image"]).read(1)
    with pytest.raises(ValueError, match="odd"):
        SampleReader([{"image": picture(0), "label": "odd"}]).read(0)


def test_datasets_that_cannot_be_read_by_place(dataset):
    with pytest.raises(ValueError, match="IterableDataset"):
        SampleReader(dataset.to_iterable_dataset())
    with pytest.raises(ValueError, match="DatasetDict"):
        SampleReader(datasets.DatasetDict(test=dataset))
    with pytest.raises(ValueError, match="photo"):
        SampleReader(dataset.rename_column("image", "photo"))


def test_the_range_of_values(tmp_path):
    camera = np.rint(np.linspace(0, 4095, 60)).astype(np.uint16).reshape(6, 10)
    reader = SampleReader([camera], value_range=(0, 4095))
    np.testing.assert_array_equal(np.asarray(reader.read(0).image)[..., 0], np.rint(camera / 4095 * 255))
    assert reader.digest(0) != SampleReader([camera]).digest(0)
    with pytest.raises(ValueError, match="value_range"):
        SampleReader([camera], value_range=(1, 0))


def test_a_string_is_no_dataset(tmp_path):
    (tmp_path / "sub").mkdir()
    for wrong in (str(tmp_path), tmp_path, b"a.png"):
        with pytest.raises(ValueError, match=type(wrong).__name__):
            SampleReader(wrong)
    with pytest.raises(OSError, match=str(tmp_path)):  # a folder in the place of an image is not searched
        SampleReader([str(tmp_path)]).digest(0)
