# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json

import datasets
import pytest

from anomalyclip_hf.evaluation.evaluating import run, write_results
from anomalyclip_hf.evaluation.progress import Progress, evaluation_key
from anomalyclip_hf.evaluation.report import TITLES


SETTINGS = {"resolution": "model", "count_pixels": True, "aupro_limit": 0.3}
DESCRIPTION = {"model": "tiny", "dataset": {"name": "parts", "split": "test", "description": "two parts"}}
DESCRIPTION |= {"settings": {"resolution": "model"}}


def test_a_run_goes_on_where_another_stopped(tmp_path, make_scorer, monkeypatch):
    whole = run(make_scorer(), tmp_path / "whole", show_progress=False)
    scorer, part = make_scorer(), Progress.fresh(0.3)
    for _ in scorer.score([0, 1, 2, 9, 15], 8, part):
        pass
    Progress(tmp_path / "half" / "progress", evaluation_key(scorer, SETTINGS)).save(part)

    opened = []
    read = scorer.read
    monkeypatch.setattr(scorer, "read", lambda index: opened.append(index) or read(index))
    resumed = run(scorer, tmp_path / "half", show_progress=False)
    assert sorted(opened) == [3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]
    assert [row["index"] for row in resumed.rows] == list(range(16))
    assert [row["score"] for row in resumed.rows] == pytest.approx([row["score"] for row in whole.rows], abs=1e-6)

    opened.clear()
    run(scorer, tmp_path / "half", restart=True, show_progress=False)
    assert len(opened) == 16


def test_results(tmp_path, make_scorer):
    scorer = make_scorer()
    evaluation = run(scorer, tmp_path, show_progress=False)
    assert (tmp_path / "progress").exists()
    summary = write_results(tmp_path, evaluation, scorer, list(TITLES), **DESCRIPTION)
    assert {path.name for path in tmp_path.iterdir()} >= {"results.json", "scores.parquet", "report.html"}
    assert not (tmp_path / "progress").exists()
    assert json.loads((tmp_path / "results.json").read_text()) == summary
    assert summary["images"] == 16
    rows = datasets.Dataset.from_parquet(str(tmp_path / "scores.parquet"), cache_dir=tmp_path / "cache")
    assert rows.column_names == ["label", "category", "defect_type", "path", "score", "error"]
    assert rows["path"][:2] == ["bolt/test/good/000.png", "bolt/test/good/001.png"]
    assert all(0 <= score <= 1 for score in rows["score"])


def test_nothing_could_be_read(tmp_path, make_scorer, parts_folder):
    for path in parts_folder.rglob("test/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 16 images could be scored; .*is empty \(0 bytes\)"):
        run(make_scorer(), tmp_path, show_progress=False)
