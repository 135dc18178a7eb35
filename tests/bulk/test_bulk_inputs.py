# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import io
import os
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk.rows import write_images

from anomalyclip_hf.bulk.inputs import Listing
from anomalyclip_hf.bulk.reading import PartImages
from anomalyclip_hf.data.samples import SampleReader


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "photos", 6, lines=2)


def names(*inputs, **options) -> list[str]:
    return [item.name for item in Listing(map(str, inputs), **options)]


def pixels(*inputs) -> list[bytes]:
    """Return the pixels of all images, read as a worker does."""
    reader = SampleReader(PartImages(list(Listing(map(str, inputs)))))
    return [reader.read(index).image.tobytes() for index in range(len(reader))]


def test_a_folder_is_listed_by_folder_and_name(images, tmp_path):
    (tmp_path / "photos" / "notes.md").touch()
    (tmp_path / "photos" / ".hidden.png").touch()
    listing = list(Listing(str(tmp_path / "photos")))
    assert [item.name for item in listing] == [str(path) for path in images]
    assert {item.folder for item in listing} == {"line0", "line1"}
    assert all(item.state for item in listing)


def test_all_kinds_of_input_give_the_same_images(images, tmp_path):
    folder = tmp_path / "photos"
    relative = [str(path.relative_to(tmp_path)) for path in images]
    (tmp_path / "list.txt").write_text("\n".join(relative) + "\n\n", encoding="utf-8-sig")
    (tmp_path / "table.csv").write_text("id,path\n" + "".join(f"{n},{path}\n" for n, path in enumerate(relative)))
    contents = [path.read_bytes() for path in images]
    pq.write_table(pa.table({"path": relative}), tmp_path / "paths.parquet")
    pq.write_table(pa.table({"image": contents}), tmp_path / "bytes.parquet", row_group_size=2)
    structs = pa.array([{"bytes": content, "path": "x.png"} for content in contents])
    pq.write_table(pa.table({"image": structs}), tmp_path / "structs.parquet", row_group_size=4)
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for path in images:
            archive.add(path, path.name)
            archive.addfile(tarfile.TarInfo(f"{path.stem}.json"), io.BytesIO())
    expected = pixels(folder)
    for name in ("list.txt", "table.csv", "paths.parquet", "bytes.parquet", "structs.parquet", "shard.tar"):
        assert pixels(tmp_path / name) == expected, name
    assert pixels(folder / "*" / "*.png") == expected
    assert pixels(*images) == expected


def test_a_store_is_listed_and_read(images, tmp_path):
    store = fsspec.filesystem("memory")
    for path in images:
        store.pipe(f"/bucket/{path.relative_to(tmp_path)}", path.read_bytes())
    try:
        assert names("memory://bucket/photos")[0] == "memory://bucket/photos/line0/0000.png"
        expected = pixels(tmp_path / "photos")
        assert pixels("memory://bucket/photos") == expected
        assert pixels("memory://bucket/photos/*/*.png") == expected
    finally:
        store.rm("/bucket", recursive=True)


def test_two_names_of_one_file_count_once(images, tmp_path):
    os.symlink(images[0], tmp_path / "photos" / "again.png")
    (tmp_path / "list.txt").write_text(f"{images[0]}\n{images[0].parent}/../line0/{images[0].name}\n{images[1]}\n")
    listing = Listing([str(tmp_path / "photos"), str(tmp_path / "list.txt")])
    assert len(list(listing)) == len(images)
    assert listing.duplicates == 4


def test_linked_folders_are_followed_once_and_never_in_circles(images, tmp_path):
    os.symlink(tmp_path / "photos", tmp_path / "photos" / "line0" / "up")
    os.symlink(tmp_path / "photos" / "line1", tmp_path / "photos" / "z")
    assert len(names(tmp_path / "photos")) == len(images)


def test_the_state_of_a_file_changes_with_it(images, tmp_path):
    before = {item.name: item.state for item in Listing(str(tmp_path / "photos"))}
    images[2].write_bytes(images[3].read_bytes())
    os.utime(images[2], ns=(1, 1))
    after = {item.name: item.state for item in Listing(str(tmp_path / "photos"))}
    assert [name for name in before if before[name] != after[name]] == [str(images[2])]


def test_an_inventory_of_a_store_gives_names_and_states_without_a_look_at_the_store(tmp_path):
    table = pa.table({"path": ["s3://plant/a.jpg", "s3://plant/b.jpg"], "etag": ["one", "two"], "size": [7, 8]})
    pq.write_table(table, tmp_path / "inventory.parquet")
    items = list(Listing(str(tmp_path / "inventory.parquet")))
    assert [item.url for item in items] == ["s3://plant/a.jpg", "s3://plant/b.jpg"]
    assert items[0].state != items[1].state


@pytest.mark.parametrize("name", ["empty", "missing", "missing/*.png", ""])
def test_no_images(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        names(tmp_path / name if name else "")
    assert name in str(caught.value)


def test_tables_of_different_columns_are_refused(images, tmp_path):
    pq.write_table(pa.table({"image": [str(images[0])]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [images[0].read_bytes()]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet"):
        names(tmp_path / "*.parquet")


def test_a_table_without_images_is_refused(tmp_path):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="number"):
        names(tmp_path / "a.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"bad\.parquet"):
        names(tmp_path / "bad.parquet")


def test_a_row_without_a_path_is_refused(tmp_path):
    pq.write_table(pa.table({"path": ["a.png", None]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 1"):
        names(tmp_path / "a.parquet")


def test_a_compressed_archive_is_refused(images, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w:gz") as archive:
        archive.add(images[0], "a.png")
    with pytest.raises(ValueError, match=r"shard\.tar"):
        names(tmp_path / "shard.tar")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.md"):
        names(tmp_path / "notes.md")
