# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest

from anomalyclip_hf.bulk.progress import Progress, RunStatus, read_status
from anomalyclip_hf.bulk.scoring import PartReport
from anomalyclip_hf.bulk.stores import Folder


pytest_plugins = ["bulk.runs"]


def test_reports_add_up(tmp_path):
    shown = []
    progress = Progress(
        RunStatus("night", images=100, done=20, errors=1, parts=4, parts_done=1),
        Folder(str(tmp_path)),
        lambda status: shown.append((status.done, status.in_progress, status.left)),
    )
    progress.count_image()
    progress.add(PartReport("a", 30, 2, 10, {"read": 1.0, "score": 2.0}, worker="one:1"))
    progress.add(PartReport("b", failure="disk full", worker="two:2"))
    progress.add(PartReport("c", 50, 0, 0, {"read": 1.0}, worker="two:2"))
    progress.publish(is_last=True)
    status = progress.status
    assert (status.done, status.errors, status.parts_done, status.left, status.workers) == (100, 3, 3, 0, 2)
    assert status.seconds == {"read": 2.0, "score": 2.0}
    assert (progress.failures, progress.reused, progress.before) == (["disk full"], 10, 20)
    assert shown[0] == (20, 0, 80)
    assert shown[-1] == (100, 0, 0)
    assert status.rate > 0
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert (stored["done"], stored["errors"], stored["left"]) == (100, 3, 0)


def test_a_metrics_file_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    Progress(RunStatus("night", images=1), Folder(str(tmp_path / "file"))).publish(is_last=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_status_is_read_from_the_output(score, pictures, tmp_path):
    score(pictures)
    part = next((tmp_path / "out" / "scores" / "run=default").iterdir())
    part.unlink()
    score(pictures / "line0", run="other")
    default, other = read_status(str(tmp_path / "out"))
    assert (default.run, default.images, default.parts_done) == ("default", 40, default.parts - 1)
    assert 0 < default.left < 40
    assert default.seconds_left > 0
    assert (other.run, other.left) == ("other", 0)
    assert "40 images done" in default.describe()
    assert read_status(str(tmp_path / "out"), "other") == [other]
    with pytest.raises(FileNotFoundError, match="third"):
        read_status(str(tmp_path / "out"), "third")


def test_a_run_without_work_keeps_the_status_of_the_last(score, pictures, tmp_path):
    score(pictures / "line0")
    (before,) = read_status(str(tmp_path / "out"))
    assert before.rate > 0
    score(pictures / "line0")
    assert read_status(str(tmp_path / "out")) == [before]


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_status(str(tmp_path))
