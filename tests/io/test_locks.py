# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import errno
import os
import subprocess
import sys

import filelock
import pytest

from anomalyclip_hf.io.locks import lock_folder


HOLD = "import sys\nfrom anomalyclip_hf.io.locks import lock_folder\n"
HOLD += "with lock_folder(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked `tmp_path / "out"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()  # as `kill -9`


def test_a_second_run_is_refused_and_the_lock_ends_with_its_process(holder, tmp_path):
    with pytest.raises(BlockingIOError, match="out"), lock_folder(tmp_path / "out"):
        pass
    with lock_folder(tmp_path / "elsewhere"):
        pass
    holder.kill()
    holder.wait()
    with lock_folder(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_the_lock_ends_with_an_error_too(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        raise ZeroDivisionError
    with lock_folder(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=str(tmp_path)), lock_folder(tmp_path / "out"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OSError, match="out cannot be written to"), lock_folder(tmp_path / "out"):
        pass


def test_without_locks_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def knows_no_locks(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", knows_no_locks)
    with lock_folder(tmp_path / "out"):
        assert "out" in caplog.text
