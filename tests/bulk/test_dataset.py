# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bulk.rows import assert_scores, read_rows, write_images

from anomalyclip_hf import AnomalyScorer
from anomalyclip_hf.bulk import dataset
from anomalyclip_hf.bulk import sink as sink_module
from anomalyclip_hf.bulk.progress import read_status
from anomalyclip_hf.bulk.scoring import PartScorer
from anomalyclip_hf.io.locks import lock_folder


pytest_plugins = ["bulk.runs"]


@pytest.fixture
def own_pictures(pictures, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(pictures, tmp_path / "own"))


@pytest.fixture
def own_expected(own_pictures, pictures, expected) -> dict[str, float]:
    return {name.replace(str(pictures), str(own_pictures)): value for name, value in expected.items()}


def test_rows_are_those_of_the_engine(score, pictures, bulk_model, tmp_path):
    result = score(pictures, pixel_threshold=0.6, maps=True, overlays=True, by_folder=True)
    assert (result.scored, result.skipped, result.status.left) == (40, 0, 0)
    rows, maps = read_rows(tmp_path / "out"), read_rows(tmp_path / "out", "maps")
    assert len(read_rows(tmp_path / "out", "overlays")) == 40
    scorer = AnomalyScorer(bulk_model, pixel_threshold=0.6, resolution="model")
    for own in scorer.score([str(path) for path in sorted(pictures.rglob("*.png"))[:5]]):
        row, stored = rows[own.source], maps[own.source]
        assert row["score"] == pytest.approx(own.score, abs=1e-5)
        assert (row["label"], row["error"], row["run"]) == (own.label, None, "default")
        assert row["folder"] == Path(own.source).parent.name
        assert (row["height"], row["width"]) == own.size
        assert row["map_max"] == pytest.approx(own.anomaly_map.max(), abs=1e-5)
        assert row["map_mean"] == pytest.approx(own.anomaly_map.mean(), abs=1e-5)
        assert row["map_area"] == pytest.approx((own.anomaly_map >= 0.6).mean(), abs=1e-3)
        assert [region["box"] for region in row["regions"]] == [region["box"] for region in own.regions]
        values = np.array(stored["map"]).reshape(stored["height"], stored["width"])
        np.testing.assert_allclose(values, own.anomaly_map, atol=2e-3)


def test_references_and_tiles_reach_the_workers(score, pictures, bulk_model, tmp_path, monkeypatch):
    sent = []
    original = dataset.score_here

    def score_with_a_copy(settings, scorer, parts, on_image):
        copy = pickle.loads(pickle.dumps(settings))  # as it travels to another machine
        sent.append(PartScorer(copy).scorer)
        return original(settings, sent[0], parts, on_image)

    monkeypatch.setattr(dataset, "score_here", score_with_a_copy)
    options = {"references": str(pictures / "line1"), "tile": 32}
    score(pictures / "line0", **options)
    rows, own = read_rows(tmp_path / "out"), AnomalyScorer(bulk_model, resolution="model", **options)
    assert sent[0].score_key == own.score_key
    for result in own.score(sorted(map(str, (pictures / "line0").iterdir()))):
        assert rows[result.source]["score"] == pytest.approx(result.score, abs=1e-5)
        assert rows[result.source]["map_max"] == pytest.approx(result.anomaly_map.max(), abs=1e-4)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_a_run_is_called_like_a_folder(score, pictures, name):
    with pytest.raises(ValueError, match="run is"):
        score(pictures, run=name)


def test_images_cannot_be_compared_across_parts(score, pictures):
    with pytest.raises(ValueError, match="mutual"):
        score(pictures, mutual=True)


def test_a_second_run_does_nothing(score, pictures, expected, tmp_path):
    score(pictures)
    again = score(pictures)
    assert (again.scored, again.skipped) == (0, 40)
    assert_scores(tmp_path / "out", expected)


def test_only_new_and_changed_files_are_scored(score, own_pictures, own_expected, tmp_path):
    score(own_pictures, overlays=True)
    changed, gone = sorted(own_pictures.rglob("*.png"))[3:5]
    shutil.copy(gone, changed)
    os.utime(changed, ns=(1, 1))
    gone.unlink()
    shutil.copy(changed, own_pictures / "line1" / "new.png")
    result = score(own_pictures, overlays=True)
    assert result.scored == 2
    assert result.reused + result.skipped == 38
    value = own_expected.pop(str(gone))
    own_expected |= {str(changed): value, str(own_pictures / "line1" / "new.png"): value}
    assert_scores(tmp_path / "out", own_expected)
    assert read_rows(tmp_path / "out", "overlays").keys() == own_expected.keys()
    assert result.removed >= 1


def test_another_part_size_scores_nothing_again(score, pictures, expected, tmp_path):
    score(pictures)
    result = score(pictures, part_size=20)
    assert (result.scored, result.reused + result.skipped) == (0, 40)
    assert_scores(tmp_path / "out", expected)


def test_parts_are_small_where_a_cpu_scores(score, tmp_path):
    write_images(tmp_path / "in", 300, side=8)
    assert 3 <= score(tmp_path / "in", part_size=None).status.parts <= 12


def test_corrupt_images_are_rows_with_an_error(score, own_pictures, own_expected, tmp_path):
    corrupt = sorted(own_pictures.rglob("*.png"))[7]
    content = corrupt.read_bytes()
    corrupt.write_bytes(content[: len(content) // 2])
    result = score(own_pictures)
    rows = read_rows(tmp_path / "out")
    assert result.status.errors == 1
    assert corrupt.name in rows[str(corrupt)]["error"]
    assert rows[str(corrupt)]["score"] is None
    assert {row["error"] for name, row in rows.items() if name != str(corrupt)} == {None}
    assert score(own_pictures).scored == 0  # it is known to be corrupt
    assert score(own_pictures, retry_errors=True).scored == 1
    corrupt.write_bytes(content)
    assert score(own_pictures).scored == 1
    assert_scores(tmp_path / "out", own_expected)


def test_a_file_deleted_between_listing_and_reading_is_a_row_with_an_error(
    score, own_pictures, own_expected, tmp_path, monkeypatch
):
    gone = sorted(own_pictures.rglob("*.png"))[-1]
    content, original = gone.read_bytes(), PartScorer.score

    def delete_first(self, part, on_image):
        gone.unlink(missing_ok=True)
        return original(self, part, on_image)

    with monkeypatch.context() as patch:
        patch.setattr(PartScorer, "score", delete_first)
        assert score(own_pictures).status.errors == 1
    assert gone.name in read_rows(tmp_path / "out")[str(gone)]["error"]
    gone.write_bytes(content)
    assert score(own_pictures).scored == 1
    assert_scores(tmp_path / "out", own_expected)


def test_a_full_disk_ends_the_run_and_loses_nothing(score, pictures, expected, tmp_path, monkeypatch):
    original, written = sink_module.Folder.write, []

    def write(self, name, content):
        if "/scores/" in str(self) and len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{self}/{name}")
        written.append(name) if "/scores/" in str(self) else None
        original(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(sink_module.Folder, "write", write)
        with pytest.raises(OSError, match="scores"):
            score(pictures)
    done = read_rows(tmp_path / "out")
    assert 0 < len(done) < 40
    (status,) = read_status(str(tmp_path / "out"))
    assert (status.done, status.left) == (len(done), 40 - len(done))
    assert score(pictures).scored == 40 - len(done)
    assert_scores(tmp_path / "out", expected)


def test_a_killed_run_goes_on(score, pictures, expected, bulk_model, tmp_path):
    program = f"""
import os, signal
from anomalyclip_hf.bulk import dataset
def kill(status):
    if status.parts_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
dataset.score_dataset({str(pictures)!r}, {str(tmp_path / "out")!r}, model={bulk_model!r}, part_size=8, on_status=kill)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    before = len(read_rows(tmp_path / "out"))
    assert 0 < before < 40
    assert score(pictures).skipped == before
    assert_scores(tmp_path / "out", expected)


def test_a_signal_stops_after_the_part_in_progress(score, pictures, expected, tmp_path):
    def stop(status):
        if status.parts_done == 1 and not (tmp_path / "out" / "_runs" / "default" / "stop").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            while not (tmp_path / "out" / "_runs" / "default" / "stop").exists():
                time.sleep(0.01)

    before = signal.getsignal(signal.SIGTERM)
    result = score(pictures, on_status=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    assert result.is_stopped
    assert result.status.parts_done == 1
    assert score(pictures).scored == result.status.left
    assert_scores(tmp_path / "out", expected)


def test_other_settings_need_another_run(score, pictures, tmp_path):
    score(pictures)
    with pytest.raises(ValueError, match="threshold"):
        score(pictures, threshold=0.9)
    with pytest.raises(ValueError, match="inputs"):
        score(pictures / "line0")
    assert score(pictures, threshold=0.9, run="strict").scored == 40
    rows = pq.read_table(tmp_path / "out" / "scores").to_pylist()
    assert sorted({row["run"] for row in rows}) == ["default", "strict"]
    assert len(rows) == 80


def test_a_second_process_on_the_same_run_is_refused(score, pictures, tmp_path):
    score(pictures / "line0")
    with lock_folder(tmp_path / "out" / "_runs" / "default"):
        with pytest.raises(BlockingIOError, match="default"):
            score(pictures / "line0")
        assert score(pictures / "line1", run="other").scored > 0


def test_a_run_that_has_scored_nothing_gives_way(score, pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match="typo"):
        score(tmp_path / "typo")
    assert score(pictures / "line0").scored > 0


def test_inputs_are_the_same_however_they_are_written(score, own_pictures, tmp_path, monkeypatch):
    done = score(own_pictures).scored
    monkeypatch.chdir(tmp_path)
    for name in (own_pictures.name, f"{own_pictures}/", f"./{own_pictures.name}"):
        assert score(name).skipped == done
    shutil.copytree(own_pictures, tmp_path / "elsewhere" / own_pictures.name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="inputs"):
        score(own_pictures.name)
    assert len(read_rows(tmp_path / "out")) == done


@pytest.mark.parametrize("folder", [" blank", "tab\there", "x" * 250])
def test_a_folder_that_cannot_be_a_partition_is_refused_before_work_is_done(score, tmp_path, folder):
    write_images(tmp_path / "in" / folder, 1, lines=1)
    with pytest.raises(ValueError, match="partition"):
        score(tmp_path / "in", by_folder=True)
    assert not (tmp_path / "out" / "scores").exists()
    assert score(tmp_path / "in", run="plain").scored == 1


def test_names_that_are_no_utf8_are_scored(score, tmp_path):
    (path,) = write_images(tmp_path / "in", 1, lines=1)
    os.rename(path, os.fsencode(path.parent) + b"/odd\xff.png")
    score(tmp_path / "in")
    ((name, row),) = read_rows(tmp_path / "out").items()
    assert name.endswith(r"odd\xff.png")
    assert row["error"] is None
    with pytest.raises(ValueError, match="part_size"):
        score(tmp_path / "in", part_size=0)
