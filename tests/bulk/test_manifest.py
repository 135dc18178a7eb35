# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.bulk import manifest
from anomalyclip_hf.bulk.inputs import Item
from anomalyclip_hf.bulk.manifest import cut, part_id, read_index, write_manifest
from anomalyclip_hf.bulk.stores import Folder


ITEMS = [
    Item(f"image{number:05}.png", f"/data/image{number:05}.png", f"{number}-1", f"f{number // 700}")
    for number in range(3000)
]


def ids(items, by_folder=False) -> set[str]:
    return {part_id("key", part) for part in cut(items, 50, by_folder)}


def test_parts_hold_every_image_once_and_have_about_the_size_asked_for():
    parts = list(cut(ITEMS, 50))
    assert [item for part in parts for item in part] == ITEMS
    assert all(25 <= len(part) <= 100 for part in parts[:-1])
    assert 30 <= len(ITEMS) / len(parts) <= 70


def test_a_new_a_missing_and_a_changed_image_leave_nearly_all_parts_as_they_are():
    before = ids(ITEMS)
    new = Item("image01500_new.png", "/data/new.png", "1-1")
    changed = [*ITEMS[:700], ITEMS[700]._replace(state="other"), *ITEMS[701:]]
    for items in ([*ITEMS[:1501], new, *ITEMS[1501:]], [*ITEMS[:42], *ITEMS[43:]], changed):
        assert 1 <= len(before - ids(items)) <= 4


def test_parts_keep_to_folders_when_asked():
    for part in cut(ITEMS, 50, by_folder=True):
        assert len({item.folder for item in part}) == 1


def test_the_manifest_gives_back_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROWS_PER_FILE", 500)
    folder = Folder(str(tmp_path))
    odd = Item("odd\\xff.png", "/data/odd\udcff.png", "1-1", ".", 512, 9, 3, "image")  # bytes that are no UTF-8
    parts = write_manifest(folder, "key", [*ITEMS, odd], 50)
    assert len({part.file for part in parts}) > 3
    assert [item for part in parts for item in part.read(folder)] == [*ITEMS, odd]
    assert read_index(folder) == parts


def test_the_same_list_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        write_manifest(Folder(str(tmp_path / name)), "key", ITEMS, 50)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    assert write_manifest(Folder(str(tmp_path / "a")), "other", ITEMS, 50)[0].id not in {
        part.id for part in read_index(Folder(str(tmp_path / "b")))
    }
