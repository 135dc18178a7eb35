# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import sys

import pyarrow.parquet as pq
import pytest

from anomalyclip_hf.cli import main


@pytest.fixture
def run(monkeypatch, capsys, model_folder, parts_folder, tmp_path):
    """Run `anomalyclip score`; returns exit code, standard output and standard error."""

    def run_score(*arguments, inputs=(parts_folder / "bolt" / "test",), output=tmp_path / "out"):
        words = [*inputs, "--output", output, "--model", model_folder] if inputs else []
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "score", *map(str, [*words, *arguments])])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run_score


def test_scores_go_into_parquet(run, tmp_path):
    code, out, _ = run("--part-size", 3, "--by-folder", "--pixel-threshold", 0.5)
    assert code == 0
    assert str(tmp_path / "out" / "scores") in out
    table = pq.read_table(tmp_path / "out" / "scores")
    assert table.num_rows == 8
    assert set(table["folder"].to_pylist()) == {"good", "scratch"}
    assert {"path", "score", "label", "p_value", "map_max", "map_area", "regions", "error"} <= set(table.column_names)


def test_progress_and_status_for_a_machine(run, tmp_path, parts_folder):
    (parts_folder / "bolt" / "test" / "good" / "empty.png").touch()
    code, out, err = run("--json-progress", "--part-size", 3)
    assert code == 2
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["done"] for line in lines] == sorted(line["done"] for line in lines)
    assert (lines[-1]["images"], lines[-1]["done"], lines[-1]["errors"], lines[-1]["left"]) == (9, 9, 1, 0)
    code, out, _ = run("--status", tmp_path / "out", "--json-progress", inputs=())
    assert code == 0
    assert {name: json.loads(out)[name] for name in ("run", "images", "done", "errors", "left")} == {
        "run": "default", "images": 9, "done": 9, "errors": 1, "left": 0
    }  # fmt: skip
    assert "9 of 9" in run("--status", tmp_path / "out", inputs=())[1]


@pytest.mark.parametrize(
    ("arguments", "inputs", "named"),
    [
        ((), ("missing",), "missing"),
        (("--status", "nowhere"), (), "nowhere"),
        ((), (), "--output"),
        (("--threshold", "7"), None, "threshold"),
    ],
)
def test_mistakes_are_named_in_one_line(run, arguments, inputs, named):
    code, _, err = run(*arguments) if inputs is None else run(*arguments, inputs=inputs)
    assert code == 2
    assert named in err.strip().splitlines()[-1]


def test_other_settings_are_refused(run):
    assert run()[0] == 0
    code, _, err = run("--threshold", 0.9)
    assert code == 2
    assert "threshold" in err
    assert run("--threshold", 0.9, "--run", "strict")[0] == 0
