# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import errno
import os
import stat
import subprocess
import sys

import pytest

from anomalyclip_hf.io.atomic import atomic_folder, atomic_write, remove_leftovers


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "scores.csv"
    with atomic_write(path) as partial:
        partial.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        partial.write_text(str(1 / 0 if partial.write_text("half") else 0))
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "map.tiff"
    for error, named in (
        (OSError(errno.ENOSPC, "full"), str(path)),  # as of Pillow
        (OSError(errno.ECONNRESET, "broken off"), None),  # of something else
        (PermissionError(errno.EACCES, "closed", "other.png"), "other.png"),
    ):
        with pytest.raises(OSError, match=error.strerror) as caught, atomic_write(path):
            raise error
        assert caught.value.filename == named
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path) as partial:
        partial.read_bytes()
    assert caught.value.filename == str(path)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    program = """
import os, signal, sys
from pathlib import Path
from anomalyclip_hf.io.atomic import atomic_write
with atomic_write(Path(sys.argv[1], "deep", "map.tiff")) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (left,) = (tmp_path / "deep").iterdir()
    assert left.suffix == ".tiff"
    assert left.name.startswith(".")
    other = tmp_path / ".partial-another machine-1-2"
    other.touch()
    with atomic_write(tmp_path / "scores.csv") as partial:
        partial.touch()
        remove_leftovers(tmp_path)
        assert partial.exists()
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_folder_has_the_permissions_that_the_user_asks_for(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "model"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~mask


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as partial:
        print(1 / 0 if (partial / "config.json").write_text("half") else 0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError) as caught, atomic_folder(path) as partial:
        (partial / "deep" / "config.json").write_text("there is no such folder")
    assert caught.value.filename == str(path / "deep" / "config.json")
    with pytest.raises(OSError, match=f"^{path} is full$"), atomic_folder(path) as partial:
        raise OSError(f"{partial} is full")
    with atomic_folder(path) as partial:
        (partial / "config.json").write_text("all")
    assert (path / "config.json").read_text() == "all"
    with pytest.raises(FileExistsError, match="not an empty folder"), atomic_folder(path):
        pass
