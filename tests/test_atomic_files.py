# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest

from anomalyclip_hf.atomic_files import whole_file, whole_folder


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "scores.csv"
    with whole_file(path) as partial:
        partial.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    with pytest.raises(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text(str(1 / 0 if partial.write_text("half") else 0))
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ZeroDivisionError), whole_folder(path) as partial:
        print(1 / 0 if (partial / "config.json").write_text("half") else 0)
    assert list(tmp_path.iterdir()) == []
    with whole_folder(path) as partial:
        (partial / "config.json").write_text("all")
    assert (path / "config.json").read_text() == "all"
    with pytest.raises(FileExistsError, match="not an empty folder"), whole_folder(path):
        pass
