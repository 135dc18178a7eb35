# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import errno
import os
import pickle
import sys
import time
from types import SimpleNamespace

import pytest
from bulk.flaky_store import CALLS, FAILURES

from anomalyclip_hf.bulk import stores
from anomalyclip_hf.bulk.stores import Folder, describe, open_store, try_again


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Seconds that would be waited; nobody waits."""
    seconds: list[float] = []
    monkeypatch.setattr(stores, "time", SimpleNamespace(sleep=seconds.append, monotonic=time.monotonic))
    FAILURES.clear()
    CALLS.clear()
    return seconds


@pytest.fixture(params=["disk", "flaky://bucket/out", "memory://bucket/out"])
def folder(request, tmp_path) -> Folder:
    return Folder(str(tmp_path / "out") if request.param == "disk" else request.param)


def test_files_are_written_listed_read_and_deleted(folder):
    folder.write("a/one.parquet", b"1")
    (folder / "a").write("two.parquet", b"22")
    assert folder.files(".parquet") == {"a/one.parquet": 1, "a/two.parquet": 2}
    assert folder.read("a/two.parquet") == b"22"
    folder.write("a/two.parquet", b"333")
    assert pickle.loads(pickle.dumps(folder)).read("a/two.parquet") == b"333"
    for _ in range(2):
        folder.delete("a/two.parquet")
    assert not folder.exists("a/two.parquet")
    assert folder.exists("a/one.parquet")
    assert (folder / "elsewhere").files(".parquet") == {}
    with pytest.raises(FileNotFoundError):
        folder.read("a/two.parquet")
    folder.delete("a/one.parquet")


def test_a_store_that_fails_for_a_while_is_asked_again(waits):
    folder = Folder("flaky://bucket/for_a_while")
    FAILURES["pipe_file"] = [OSError("503 slow down"), TimeoutError(), ConnectionResetError(), RuntimeError("client")]
    FAILURES["mv"] = [OSError("500")]
    folder.write("a.parquet", b"1")
    FAILURES["cat_file"] = [OSError("503")]
    FAILURES["find"] = [OSError("503")]
    assert folder.read("a.parquet") == b"1"
    assert folder.files(".parquet") == {"a.parquet": 1}
    assert len(waits) == 7
    assert waits[:4] == sorted(waits[:4])


def test_a_write_that_fails_leaves_nothing_that_counts():
    folder = Folder("flaky://bucket/no_trace", patience=0)
    FAILURES["mv"] = [OSError("500")]
    with pytest.raises(OSError, match=r"a\.parquet"):
        folder.write("a.parquet", b"1")
    assert folder.files(".parquet") == {}


def test_patience_has_an_end():
    with pytest.raises(OSError, match="somewhere"):
        try_again(lambda: (_ for _ in ()).throw(OSError("500")), "somewhere", patience=0)


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("x"), PermissionError("x"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")],
)
def test_errors_that_waiting_does_not_help_are_raised_at_once(waits, error):
    with pytest.raises(type(error)):
        try_again(lambda: (_ for _ in ()).throw(error), "somewhere")
    assert waits == []


@pytest.mark.parametrize(
    ("url", "variable"),
    [("s3://a/b", "AWS_ACCESS_KEY_ID"), ("gs://a/b", "GOOGLE_APPLICATION_CREDENTIALS"), ("hf://a/b", "HF_TOKEN")],
)
def test_missing_credentials_name_the_variable(url, variable):
    class NoCredentialsError(Exception):
        pass

    error = describe(url, NoCredentialsError("Unable to locate credentials"))
    assert isinstance(error, PermissionError)
    assert variable in str(error)
    assert url in str(error)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(ImportError, match="adlfs"):
        open_store("abfs://container/folder")


def test_an_unknown_kind_of_store_is_named():
    with pytest.raises(ValueError, match="nothing"):
        open_store("nothing://a")
