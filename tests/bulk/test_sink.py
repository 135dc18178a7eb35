# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pyarrow.parquet as pq
import pytest

from anomalyclip_hf.bulk.inputs import Item
from anomalyclip_hf.bulk.manifest import Part
from anomalyclip_hf.bulk.sink import Sink, encode
from anomalyclip_hf.bulk.stores import Folder


def row(name: str, error: str | None = None, **values) -> dict:
    return {"path": name, "state": "1", "error": error, "score": None if error else 0.5, **values}


@pytest.fixture
def sink(tmp_path) -> Sink:
    return Sink(Folder(str(tmp_path)), "night 1")


def test_runs_and_folders_are_partitions(sink, tmp_path):
    for folder in ("line 1/left", "Straße", "."):
        sink.write(sink.path(Part(f"id{len(folder)}", "file", 0, 1, folder)), {"scores": [row(folder)]})
    table = pq.read_table(tmp_path / "scores").to_pylist()
    assert {(one["path"], one["folder"], one["run"]) for one in table} == {
        (folder, folder, "night 1") for folder in ("line 1/left", "Straße", ".")
    }


def test_errors_are_counted_from_the_footers(sink):
    sink.write("a.parquet", {"scores": [row("a"), row("b", "damaged"), row("c", "gone")]})
    sink.write("b.parquet", {"scores": [row("d", regions=[{"box": {"xmin": 1}, "area": 2, "peak": 0.5}])]})
    assert sink.count(sink.written()) == {"a.parquet": (3, 2), "b.parquet": (1, 0)}


def test_rows_are_taken_where_they_still_hold(sink):
    sink.write("a.parquet", {"scores": [row("a"), row("b", "damaged"), row("c"), row("d")]})
    items = [Item("a", "a", "1"), Item("b", "b", "1"), Item("c", "c", "changed"), Item("e", "e", "1")]
    assert sink.take(["a.parquet"], items).keys() == {"a"}
    assert sink.states("a.parquet") == {"a": "1", "c": "1", "d": "1"}


@pytest.mark.parametrize("folder", ["", " a", "a\n", "tab\there", "\udcff", "x" * 300, "ä" * 80])
def test_what_cannot_be_a_partition_is_named(folder):
    with pytest.raises(ValueError, match="partition"):
        encode(folder, folder)
