# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from anomalyclip_hf.cli import app, main
from anomalyclip_hf.image_processing_anomalyclip import load_image
from anomalyclip_hf.io.locks import lock_folder
from anomalyclip_hf.scoring.inputs import find_images
from anomalyclip_hf.scoring.outputs import TABLE_NAME


def write_images(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def run(model_folder, tmp_path, monkeypatch, capsys):
    """Run `anomalyclip predict` in this process; gives exit code, standard output and standard error."""

    def run_predict(*arguments, model=True):
        command = ["anomalyclip", "predict", "--output-dir", str(tmp_path / "out"), *map(str, arguments)]
        command += ["--model", str(model_folder)] if model else []
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_predict


def written(tmp_path: Path) -> set[str]:
    out = tmp_path / "out"
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


TABLES = {"scores.csv", "scores.jsonl"}


def test_a_folder_with_folders(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b.JPG", "deep/er/c.tiff"])
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    code, out, _ = run(tmp_path / "in", "--batch-size", 2)
    assert code == 0
    stems = ["a", "b", "deep/er/c"]
    assert written(tmp_path) == {f"{stem}_{end}" for stem in stems for end in ("overlay.jpg", "map.npz")} | TABLES
    assert Image.open(tmp_path / "out" / "a_overlay.jpg").size == (50, 30)
    anomaly_map = np.load(tmp_path / "out" / "a_map.npz")["anomaly_map"]
    assert (anomaly_map.dtype, anomaly_map.shape) == (np.float16, (40, 40))
    assert "normal" in out or "anomalous" in out
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.JPG", "c.tiff"]
    assert all(0 <= float(row["score"]) <= 1 and row["error"] == "" for row in rows)


def test_globs_duplicates_and_equal_names(run, tmp_path):
    write_images(tmp_path / "in", ["x/part.png", "x/part.jpg", "y/part.png"])
    pattern = str(tmp_path / "in" / "*" / "part.png")
    code, _, _ = run(pattern, tmp_path / "in" / "x" / "part.png", tmp_path / "in" / "x" / "part.jpg")
    assert code == 0
    maps = {name for name in written(tmp_path) if name.endswith("_map.npz")}
    assert maps == {"x/part_map.npz", "part_map.npz", "y/part_map.npz"}  # each below its argument's own folder


def test_results_of_an_earlier_run_are_no_inputs(run, tmp_path):
    write_images(tmp_path, ["b.png"])
    for _ in range(2):
        code, out, _ = run(tmp_path, "--json", "--pixel-threshold", 0)
        assert code == 0
        assert [Path(row["image"]).name for row in json.loads(out)] == ["b.png"]


def test_a_folder_may_take_its_own_results(run, tmp_path):
    write_images(tmp_path / "out", ["a.png"])
    run(tmp_path / "out")
    for inputs in ([tmp_path / "out"], [tmp_path / "out" / "*.png"], (tmp_path / "out").glob("*.png")):
        code, out, _ = run(*inputs, "--json")
        assert code == 0
        assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png"]
    assert written(tmp_path) == {"a.png", "a_overlay.jpg", "a_map.npz"} | TABLES


def test_results_elsewhere_are_no_inputs(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b_overlay.jpg"])
    assert run(tmp_path / "in", "--pixel-threshold", 0)[0] == 0
    (tmp_path / "out").rename(tmp_path / "in" / "old")
    code, out, _ = run(tmp_path / "in", "--json")
    assert code == 0
    assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png", "b_overlay.jpg"]
    code, _, err = run(tmp_path / "in" / "old")
    assert code == 2
    assert "old holds only results of an earlier run" in err


def test_hidden_folders_are_left_out_and_broken_links_are_named(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", ".cache/b.png", "__MACOSX/c.png", "deep/.d.png"])
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    code, out, err = run(tmp_path / "in", "--json")
    assert code == 2
    assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png", "lost.png"]
    assert "lost.png does not exist" in err


def test_linked_folders_are_followed_and_links_back_up_end(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "deep/b.png"])
    write_images(tmp_path / "elsewhere", ["c.png"])
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "deep" / "up").symlink_to(tmp_path / "in")
    code, out, _ = run(tmp_path / "in", "--json")
    assert code == 0
    assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png", "b.png", "c.png"]


def test_real_folders_win_over_links_and_links_lead_never_up(run, tmp_path):
    write_images(tmp_path / "in", ["g.png", "real/sub/s.png"])
    write_images(tmp_path, ["private/p.png", "far/f.png"])
    (tmp_path / "in" / "alias").symlink_to(tmp_path / "in" / "real" / "sub")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    code, out, err = run(tmp_path / "in", "--json")
    assert code == 2
    assert "loop.png" in err
    names = ["far/f.png", "g.png", "loop.png", "real/sub/s.png"]
    assert [row["image"] for row in json.loads(out)] == [str(tmp_path / "in" / name) for name in names]
    assert {name for name in written(tmp_path) if name.endswith("_map.npz")} == {
        "far/f_map.npz",
        "g_map.npz",
        "real/sub/s_map.npz",
    }


@contextlib.contextmanager
def not_as_root():
    """Files' modes mean nothing to root; so be nobody for a while."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_may_not_be_opened_is_named_and_the_rest_is_found():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are root's alone
        Path(folder).chmod(0o755)
        write_images(Path(folder), ["a.png", "closed/b.png", "open/c.png"])
        closed = Path(folder, "closed")
        closed.chmod(0)
        with not_as_root():
            found, problems = find_images([folder])
            nothing, of_closed = find_images([str(closed)])
        closed.chmod(0o755)
    assert [Path(image.source).name for image in found] == ["a.png", "c.png"]
    assert list(problems) == [str(closed)]
    assert "closed cannot be opened (Permission denied)" in problems[str(closed)]
    assert not nothing
    assert of_closed == problems


def test_what_may_not_be_read_or_written_is_named_with_a_remedy(monkeypatch, capsys):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write_images(Path(folder), ["a.png"])
        Path(folder, "a.png").chmod(0)
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "predict", f"{folder}/a.png", "--output-dir", folder])
        with not_as_root(), pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert f"{folder} cannot be written to" in capsys.readouterr().err
        with not_as_root(), pytest.raises(ValueError, match="a.png cannot be opened .Permission denied."):
            load_image(f"{folder}/a.png")


def test_names_that_lead_nowhere_do_not_cost_the_others(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    (tmp_path / "empty").mkdir()
    names = [tmp_path / "nowhere.png", tmp_path / "empty", "", tmp_path / "in"]
    code, out, err = run(*names, "--json")
    assert code == 2
    rows = json.loads(out)
    assert [row["error"] is None for row in rows] == [False, False, False, True]
    assert [row["image"] for row in rows[:3]] == [str(name) for name in names[:3]]
    assert len(err.splitlines()) == 3
    assert "a_overlay.jpg" in written(tmp_path)
    code, out, err = run(*names, "--on-error", "fail")
    assert (code, out) == (2, "")


def test_a_name_that_no_file_system_takes_does_not_cost_the_others(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    code, out, err = run(f"{'x' * 300}.png", tmp_path / "in", "http://127.0.0.1:1/.", "--json")
    assert code == 2
    assert [row["error"] is None for row in json.loads(out)] == [False, True, False]
    assert "cannot be opened (File name too long)" in err
    assert "a_overlay.jpg" in written(tmp_path)


def test_files_of_the_user_are_not_replaced(run, tmp_path):
    write_images(tmp_path / "out", ["a.png", "a_mask.png", "b.png", "b_overlay.jpg", "c.png"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for _ in range(2):
        code, out, err = run(tmp_path / "out", "--json", "--pixel-threshold", 0)
        assert code == 2
        scored = [Path(row["image"]).name for row in json.loads(out) if row["error"] is None]
        assert scored == ["a_mask.png", "b_overlay.jpg", "c.png"]
        assert "a_mask.png" in err
        assert all((tmp_path / "out" / name).read_bytes() == content for name, content in before.items())


def test_empty_files_of_a_power_cut_do_not_stop_a_run(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b.png"])
    (tmp_path / "in" / "old_map.npz").write_bytes(b"")
    assert run(tmp_path / "in")[0] == 0
    for name in ("a_map.npz", "b_overlay.jpg"):
        (tmp_path / "out" / name).write_bytes(b"")
    code, _, err = run(tmp_path / "in")
    assert code == 0
    assert "skipped" not in err
    assert all((tmp_path / "out" / name).stat().st_size for name in written(tmp_path))
    (tmp_path / "out" / "a_map.npz").write_bytes(b"")
    assert run(tmp_path / "in", "--overwrite")[0] == 0


def test_a_table_of_the_user_is_not_replaced(run, tmp_path):
    write_images(tmp_path / "in", ["c.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.csv").write_text("name,price\n")
    code, _, err = run(tmp_path / "in")
    assert code == 2
    assert "scores.csv" in err
    assert written(tmp_path) == {"scores.csv"}
    assert (tmp_path / "out" / "scores.csv").read_text() == "name,price\n"


def test_names_too_long_for_an_ending(run, tmp_path):
    names = [f"{'検' * 80}{end}.png" for end in "ab"] + [f"{'x' * 243}.png", f"{'y' * 251}.png"]
    write_images(tmp_path / "in", names)
    code, out, _ = run(tmp_path / "in", "--json")
    assert code == 0
    assert sorted(Path(row["image"]).name for row in json.loads(out)) == sorted(names)
    maps = {name for name in written(tmp_path) if name.endswith("_map.npz")}
    assert len(maps) == 4
    assert f"{'x' * 243}_map.npz" in maps


def test_the_table_tells_long_and_odd_names_apart(run, tmp_path):
    write_images(tmp_path / "in", [f"{'d' * 100}_{end}.png" for end in "12"] + [":smile:.png", "new\nline.png"])
    _, out, _ = run(tmp_path / "in")
    joined = "".join(line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│"))
    for name in ("d_1.png", "d_2.png", ":smile:.png", r"new\nline.png"):
        assert name in joined


@pytest.mark.parametrize("place", ["taken", "taken/deep"])
def test_an_output_folder_that_cannot_be_made(run, tmp_path, place):
    write_images(tmp_path / "in", ["a.png"])
    (tmp_path / "taken").write_text("a file")
    code, _, err = run(tmp_path / "in", "--output-dir", tmp_path / place)
    assert code == 2
    assert f"{tmp_path / place} cannot be written to" in err
    assert (tmp_path / "taken").read_text() == "a file"


def test_one_file_named_twice_counts_once(run, tmp_path, monkeypatch):
    write_images(tmp_path / "in", ["a.png"])
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("in/a.png", "./in/../in/a.png", tmp_path / "in", "--json")
    assert code == 0
    assert len(json.loads(out)) == 1


def test_rows_stand_in_the_order_of_the_inputs(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "c.png"])
    (tmp_path / "in" / "b.png").touch()
    _, out, _ = run(tmp_path / "in", "--json")
    assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png", "b.png", "c.png"]


def test_odd_names(run, tmp_path):
    write_images(tmp_path / "in", ["[red]b.png", "[/x].png", "sp ace.png", "x.png/inner.png", "ö.png"])
    (tmp_path / "in" / "bad.png").write_bytes(b"[/x]")
    os.rename(tmp_path / "in" / "ö.png", os.fsencode(tmp_path / "in") + b"/\xff.png")
    code, out, _ = run(tmp_path / "in")
    assert code == 2
    assert "[/x].png" in out.replace("\n", "")
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 7


def test_names_that_the_output_cannot_show(run, tmp_path, monkeypatch):
    write_images(tmp_path / "in", ["漢.png"])
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    monkeypatch.setenv("COLUMNS", "400")
    assert run(tmp_path / "in", "--output-dir", tmp_path / "漢")[0] == 0
    narrow.flush()
    shown = narrow.buffer.getvalue()
    assert rb"\u6f22.png" in shown
    assert b"scores.csv are in " in shown


def test_a_wrong_option_keeps_earlier_scores(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    run(tmp_path / "in")
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    code, _, err = run(tmp_path / "in", "--pixel-threshold", -1)
    assert code == 2
    assert "pixel_threshold is -1" in err
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before


def test_a_model_saved_without_processor_gets_one(run, tmp_path, model_folder):
    (model_folder / "processor_config.json").unlink()
    write_images(tmp_path / "in", ["a.png"])
    assert run(tmp_path / "in")[0] == 0


def test_an_unreachable_url_does_not_cost_the_others(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    code, _, err = run("http://127.0.0.1:9/x.png", tmp_path / "in")
    assert code == 2
    assert "127.0.0.1:9/x.png" in err
    assert "a_overlay.jpg" in written(tmp_path)


def test_masks_regions_and_json(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    code, out, _ = run(tmp_path / "in", "--pixel-threshold", 0, "--json", "--threshold", 0)
    assert code == 0
    (row,) = json.loads(out)
    assert row["label"] == "anomalous"
    assert row["regions"][0]["box"] == {"xmin": 0, "ymin": 0, "xmax": 50, "ymax": 30}
    assert (row["threshold"], row["pixel_threshold"], row["output"]) == (0, 0, "a")
    assert np.asarray(Image.open(tmp_path / "out" / "a_mask.png")).min() == 255


def test_one_bad_image_does_not_cost_the_others(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "c.png"])
    (tmp_path / "in" / "b.png").touch()
    code, _, err = run(tmp_path / "in")
    assert code == 2
    bad = [line for line in err.splitlines() if line.startswith("anomalyclip:")]
    assert len(bad) == 1
    assert "b.png is empty (0 bytes)" in bad[0]
    assert {"a_overlay.jpg", "c_overlay.jpg", "scores.csv"} <= written(tmp_path)
    with (tmp_path / "out" / "scores.csv").open() as file:
        errors = {Path(row["image"]).name: row["error"] for row in csv.DictReader(file)}
    assert "empty" in errors["b.png"]
    assert errors["a.png"] == errors["c.png"] == ""


def test_on_error_fail_stops_and_keeps_what_was_done(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "c.png"])
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    code, _, err = run(tmp_path / "in", "--on-error", "fail", "--batch-size", 1)
    assert code == 2
    assert "b.png is not an image" in err
    assert "a_overlay.jpg" in written(tmp_path)
    assert "c_overlay.jpg" not in written(tmp_path)
    text = (tmp_path / "out" / "scores.csv").read_text()
    assert "a.png" in text
    assert "b.png is not an image" in text


def test_on_error_fail_scores_what_was_read_before(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "c.png"])
    (tmp_path / "in" / "b.png").touch()
    code, _, err = run(tmp_path / "in", "--on-error", "fail")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert written(tmp_path) == {"a_overlay.jpg", "a_map.npz"} | TABLES


def test_nothing_is_promised_when_nothing_was_scored(run, tmp_path):
    (tmp_path / "zero.png").touch()
    assert run(tmp_path / "zero.png")[:2] == (2, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.png"], "nowhere.png does not exist and matches no file"),
        (["empty_folder"], "empty_folder"),
        (["a.png", "--threshold", "3"], "threshold is 3.0"),
        (["a.png", "--device", "warp"], "warp"),
        (["a.png", "--device", "meta"], "meta"),
        (["a.png", "--tile", "64", "--overlap", "1"], "overlap is 1"),
        (["a.png", "--tile", "64", "--overlap", "-0.5"], "overlap is -0.5"),
        (["a.png", "--tile", "4"], "tile is 4"),
        (["a.png", "--mutual"], "mutual scoring"),
        (["a.png", "--mutual", "--mutual-references", "1"], "mutual_references is 1"),
        (["a.png", "--mutual", "--mutual-radius", "2", "--tile", "40"], "mutual_radius is 2"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty_folder").mkdir()
    write_images(tmp_path, ["a.png"])
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("anomalyclip:")]) == 1


def test_unknown_dtypes_are_refused_with_the_known_ones(run, tmp_path):
    write_images(tmp_path, ["a.png"])
    code, _, err = run(tmp_path / "a.png", "--dtype", "float7")
    assert code == 2
    assert "bfloat16" in err


def test_models_that_cannot_be_read(run, tmp_path, model_folder):
    write_images(tmp_path / "in", ["a.png"])
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    code, _, err = run(tmp_path / "in")
    assert code == 2
    assert str(model_folder) in err
    assert len(err.splitlines()) == 1
    assert len(err) < 400
    config = model_folder / "config.json"
    config.write_text(config.read_text().replace('"dpam_layers": 4', '"dpam_layers": "many"'))
    code, _, err = run(tmp_path / "in")
    assert code == 2
    assert "dpam_layers" in err
    assert len(err.strip().splitlines()) == 1
    for name in (tmp_path / "no_model", "no_model", "./no_model", "no/such/model"):
        code, _, err = run(tmp_path / "in", "--model", name, model=False)
        assert code == 2
        assert str(name) in err
        assert len(err.splitlines()) == 1
    code, _, err = run(tmp_path / "in", "--model", tmp_path / "in" / "a.png", model=False)
    assert code == 2
    assert "a.png is a file; expected the folder of a model" in err


def test_a_model_that_contradicts_itself_is_named(run, tmp_path, model_folder):
    write_images(tmp_path / "in", ["a.png"])
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"feature_layers": [30]}))
    code, _, err = run(tmp_path / "in")
    assert code == 2
    assert f"{model_folder}: feature_layers is [30]" in err


def test_nothing_is_left_half_written(run, tmp_path, monkeypatch):
    write_images(tmp_path / "in", ["a.png"])

    def disk_full(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", disk_full)
    code, _, err = run(tmp_path / "in")
    assert code == 2
    assert "_overlay.jpg: No space left on device; make room there" in err
    assert written(tmp_path) == set()


def test_a_terminated_run_keeps_what_was_done(model_folder, tmp_path):
    write_images(tmp_path / "in", [f"{number:03}.png" for number in range(300)])
    command = [sys.executable, "-m", "anomalyclip_hf.cli", "predict", str(tmp_path / "in"), "--batch-size", "1"]
    command += ["--model", str(model_folder), "--output-dir", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and len(list((tmp_path / "out").glob("*_map.npz"))) < 3:
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in err
    with (tmp_path / "out" / "scores.csv").open() as file:
        scored = [Path(row["image"]).stem for row in csv.DictReader(file)]
    assert 3 <= len(scored) < 300
    assert {f"{stem}_map.npz" for stem in scored} <= written(tmp_path)
    assert not [name for name in written(tmp_path) if name.startswith(".")]


def test_a_second_run_at_the_same_time_is_refused(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    with lock_folder(tmp_path / "out"):
        code, out, err = run(tmp_path / "in")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert str(tmp_path / "out") in err
    assert written(tmp_path) == set()
    assert run(tmp_path / "in")[0] == 0


def test_a_stopped_run_leaves_the_earlier_rows_of_the_rest(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b.png", "c.png", "d.png"])
    assert run(tmp_path / "in")[0] == 0
    Image.new("RGB", (20, 10)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"")
    (tmp_path / "in" / "d.png").unlink()
    code, out, _ = run(tmp_path / "in", "--on-error", "fail", "--json")
    assert code == 2
    assert [Path(row["image"]).name for row in json.loads(out)] == ["a.png", "b.png", "c.png"]  # c is done already
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
    assert rows[0]["width"] == "20"
    assert "is empty" in rows[1]["error"]
    assert float(rows[2]["score"]) > 0


def test_earlier_rows_stay_whatever_the_name_and_the_locale(run, model_folder, tmp_path):
    write_images(tmp_path / "in", ["a.png", "y漢.png", "z.png"])
    os.rename(tmp_path / "in" / "z.png", os.fsencode(tmp_path / "in") + b"/z\xff.png")
    command = [sys.executable, "-m", "anomalyclip_hf.cli", "predict", str(tmp_path / "in"), "--on-error", "fail"]
    command += ["--model", str(model_folder), "--output-dir", str(tmp_path / "out")]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run(tmp_path / "in")[0] == 0
    before = (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    done = subprocess.run(command, env=os.environ | ascii_only, capture_output=True)
    assert done.returncode == 2
    after = (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert "is empty" in after[1]
    assert len(before) == 4
    assert [line.rpartition("/")[2] for line in after[2:]] == [line.rpartition("/")[2] for line in before[2:]]


def test_the_demonstration_model_says_what_it_is(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    code, _, err = run(tmp_path / "in", model=False)
    assert code == 0
    assert sum("demonstration model" in line for line in err.splitlines()) == 1


def test_help_does_not_import_torch():
    program = "import sys; sys.argv = ['anomalyclip', '--help']; from anomalyclip_hf.cli import main\n"
    program += "try: main()\nexcept SystemExit: pass\n"
    program += "print('heavy:', sorted({'torch', 'transformers', 'scipy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "predict" in done.stdout
    assert "heavy: []" in done.stdout


def test_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "anomalyclip_hf.cli", "predict", "nowhere.png", "--output-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("anomalyclip: nowhere.png does not exist")


def test_help_names_every_option_of_the_docs():
    documented = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text()
    for command in app.registered_commands:
        name = command.callback.__name__
        assert f"anomalyclip {name}" in documented
    text = subprocess.run(
        [sys.executable, "-m", "anomalyclip_hf.cli", "predict", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "PATH": "", "TERM": "dumb", "NO_COLOR": "1"},
    ).stdout
    for option in ("--output-dir", "--model", "--threshold", "--pixel-threshold", "--batch-size", "--device",
                   "--dtype", "--on-error", "--json"):  # fmt: skip
        assert option in text
    parameters = [
        option
        for command in typer.main.get_command(app).commands.values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    ]
    assert len(parameters) > 15
    assert [option for option in parameters if option not in documented] == []


def table(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The rows of the table by the path of the image below the test's folder."""
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        return {str(Path(row["image"]).relative_to(tmp_path)): row for row in csv.DictReader(file)}


def test_names_follow_each_arguments_own_folder(run, tmp_path):
    write_images(tmp_path / "in", ["deep/er/a.png"])
    assert run(tmp_path / "in")[0] == 0
    write_images(tmp_path / "in", ["b.png"])
    write_images(tmp_path / "more", ["deep/c.png"])
    assert run(tmp_path / "in", tmp_path / "more")[0] == 0
    outputs = {name: row["output"] for name, row in table(tmp_path).items()}
    assert outputs == {"in/deep/er/a.png": "deep/er/a", "in/b.png": "b", "more/deep/c.png": "deep/c"}


def test_a_second_day_keeps_the_results_of_the_first(run, tmp_path):
    for day in ("monday", "tuesday"):
        write_images(tmp_path / day, ["a.png"])
    assert run(tmp_path / "monday")[0] == 0
    before = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path) if name not in TABLES}
    Image.new("RGB", (50, 30), "white").save(tmp_path / "tuesday" / "a.png")
    for _ in range(2):
        assert run(tmp_path / "tuesday", "--threshold", 0.9)[0] == 0
        assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
        rows = table(tmp_path)
        assert (rows["monday/a.png"]["output"], rows["tuesday/a.png"]["output"]) == ("a", "a_2")
        assert (rows["monday/a.png"]["threshold"], rows["tuesday/a.png"]["threshold"]) == ("0.5", "0.9")
        assert "a_2_overlay.jpg" in written(tmp_path)


def test_another_ending_does_not_rename_earlier_results(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    run(tmp_path / "in")
    write_images(tmp_path / "in", ["a.jpg"])
    run(tmp_path / "in")
    assert {name: row["output"] for name, row in table(tmp_path).items()} == {"in/a.png": "a", "in/a.jpg": "a_2"}


def test_the_size_of_an_overlay_is_limited(run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (900, 450)).save(tmp_path / "in" / "a.png")
    assert run(tmp_path / "in", "--overlay-size", 300)[0] == 0
    assert Image.open(tmp_path / "out" / "a_overlay.jpg").width == 300
    assert run(tmp_path / "in", "--resolution", "original")[0] == 0
    assert np.load(tmp_path / "out" / "a_map.npz")["anomaly_map"].shape == (450, 900)
    assert Image.open(tmp_path / "out" / "a_overlay.jpg").width == 900


def test_a_threshold_that_separates_nothing_is_named(run, tmp_path):
    write_images(tmp_path / "in", [f"{number}.png" for number in range(10)])
    _, _, err = run(tmp_path / "in", "--threshold", 0)
    (note,) = err.splitlines()
    assert "10 of 10 images are anomalous" in note
    assert "--threshold" in note


def test_version(run, monkeypatch, capsys):
    from anomalyclip_hf import __version__

    monkeypatch.setattr(sys, "argv", ["anomalyclip", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code, capsys.readouterr().out.strip()) == (0, __version__)


def test_a_second_run_skips_what_is_done(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    run(tmp_path / "in")
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in written(tmp_path) - TABLES}

    def changed(*options) -> set[str]:
        assert run(tmp_path / "in", *options)[0] == 0
        now = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in written(tmp_path) - TABLES}
        names = {name for name in now if now[name] != before.get(name)}
        before.update(now)
        return {name.partition("_")[0] for name in names}

    assert changed() == set()
    Image.new("RGB", (50, 30), "white").save(tmp_path / "in" / "b.png")
    assert changed() == {"b"}
    (tmp_path / "out" / "c_map.npz").unlink()
    assert changed() == {"c"}
    assert changed("--threshold", 0.2) == {"a", "b", "c"}
    assert changed("--threshold", 0.2) == set()
    assert changed("--threshold", 0.2, "--overwrite") == {"a", "b", "c"}
    assert "skipped 3 of 3" in run(tmp_path / "in", "--threshold", 0.2)[2]


def test_a_killed_run_goes_on_where_it_was(run, model_folder, tmp_path):
    write_images(tmp_path / "in", [f"{number:03}.png" for number in range(300)])
    command = [sys.executable, "-m", "anomalyclip_hf.cli", "predict", str(tmp_path / "in"), "--batch-size", "1"]
    command += ["--model", str(model_folder), "--output-dir", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    rows = tmp_path / "out" / "scores.jsonl"
    while process.poll() is None and (not rows.exists() or len(rows.read_bytes().splitlines()) < 20):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = len(rows.read_bytes().splitlines())
    assert 20 <= done < 300
    with rows.open("a") as file:
        file.write('{"image": "cut')  # as a kill in the middle of a write leaves it
    assert f"skipped {done} of 300" in run(tmp_path / "in", "--batch-size", 1)[2]
    assert len(table(tmp_path)) == 300
    assert len([name for name in written(tmp_path) if name.endswith("_map.npz")]) == 300
    assert not [name for name in written(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize(
    ("outputs", "endings"),
    [("none", set()), ("map", {"map.npz"}), ("overlay,mask", {"overlay.jpg", "mask.png"})],
)
def test_only_what_is_asked_for(run, tmp_path, outputs, endings):
    write_images(tmp_path / "in", ["a.png"])
    assert run(tmp_path / "in", "--pixel-threshold", 0, "--outputs", outputs)[0] == 0
    assert written(tmp_path) == {f"a_{ending}" for ending in endings} | TABLES


def test_results_of_other_settings_do_not_stay(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])

    def files_after(*options) -> set[str]:
        assert run(tmp_path / "in", *options)[0] == 0
        return written(tmp_path) - TABLES

    assert files_after("--pixel-threshold", 0) == {"a_overlay.jpg", "a_map.npz", "a_mask.png"}
    assert files_after() == {"a_overlay.jpg", "a_map.npz"}
    assert files_after("--overlay-format", "png") == {"a_overlay.png", "a_map.npz"}
    assert files_after("--threshold", 0.2, "--outputs", "overlay") == {"a_overlay.jpg"}
    assert files_after("--threshold", 0.2, "--outputs", "map") == {"a_overlay.jpg", "a_map.npz"}  # both are current


def test_the_order_of_outputs_makes_no_difference(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    run(tmp_path / "in", "--outputs", "map,overlay")
    for outputs in ("overlay,map", "map", "none"):
        assert "skipped 1 of 1" in run(tmp_path / "in", "--outputs", outputs)[2]
    assert written(tmp_path) == {"a_overlay.jpg", "a_map.npz"} | TABLES


def test_results_of_another_format_are_made_anew(run, tmp_path, monkeypatch):
    write_images(tmp_path / "in", ["a.png"])
    run(tmp_path / "in")
    monkeypatch.setattr("anomalyclip_hf.scoring.outputs.RESULT_FORMAT", 0)
    assert "skipped" not in run(tmp_path / "in")[2]
    assert "skipped" in run(tmp_path / "in")[2]


@pytest.mark.parametrize("outputs", ["overlay,heat", "heat", "none,heat", "heat,none"])
def test_unknown_outputs_are_refused(run, tmp_path, outputs):
    write_images(tmp_path / "in", ["a.png"])
    code, _, err = run(tmp_path / "in", "--outputs", outputs)
    assert code == 2
    (line,) = err.splitlines()
    assert repr(outputs) in line
    assert {"overlay,", "map,", "mask,", "none."} <= set(line.split())


@pytest.mark.parametrize(
    ("options", "said", "has_note"),
    [
        (["--outputs", " none"], {TABLE_NAME}, False),
        (["--outputs", "mask"], {TABLE_NAME}, True),
        (["--outputs", "mask", "--pixel-threshold", 0], {"masks", TABLE_NAME}, False),
        (["--outputs", "map, map"], {"maps", TABLE_NAME}, False),
        ([], {"overlays", "maps", TABLE_NAME}, False),
    ],
)
def test_the_last_line_names_what_was_written(run, tmp_path, options, said, has_note):
    write_images(tmp_path / "in", ["a.png"])
    code, out, err = run(tmp_path / "in", *options)
    assert code == 0
    words = out.splitlines()[-1].lower().replace(",", "").split()
    assert set(words) & {"overlays", "maps", "masks", TABLE_NAME} == said
    assert ("--pixel-threshold" in err) == has_note


def test_a_batch_that_changed_is_compared_anew(run, tmp_path):
    write_images(tmp_path / "in", ["a.png", "b.png", "c.png"])
    code, _, err = run(tmp_path / "in", "--mutual")
    assert code == 0
    assert len([line for line in err.splitlines() if "depend on the batch" in line]) == 1
    assert "skipped 3 of 3" in run(tmp_path / "in", "--mutual")[2]
    write_images(tmp_path / "in", ["d.png"])
    assert "skipped" not in run(tmp_path / "in", "--mutual")[2]


def test_tiles_give_maps_with_more_detail(run, tmp_path):
    Image.new("RGB", (300, 120), "grey").save(tmp_path / "wide.png")
    write_images(tmp_path, ["small.png"])
    assert run(tmp_path / "wide.png", tmp_path / "small.png", "--tile", 80, "--overlap", 0.5)[0] == 0
    shapes = {name: np.load(tmp_path / "out" / f"{name}_map.npz")["anomaly_map"].shape for name in ("wide", "small")}
    assert shapes == {"wide": (60, 150), "small": (40, 40)}
    assert "skipped 2 of 2" in run(tmp_path / "wide.png", tmp_path / "small.png", "--tile", 80, "--overlap", 0.5)[2]
    assert "skipped" not in run(tmp_path / "wide.png", tmp_path / "small.png", "--tile", 80)[2]


def test_rows_with_regions_are_json_lines(run, tmp_path):
    write_images(tmp_path / "in", ["a.png"])
    run(tmp_path / "in", "--pixel-threshold", 0)
    (row,) = map(json.loads, (tmp_path / "out" / "scores.jsonl").read_text().splitlines())
    (region,) = row["regions"]
    assert region["box"] == {"xmin": 0, "ymin": 0, "xmax": 50, "ymax": 30}
    assert (region["area"], row["pixel_threshold"]) == (1500, 0)


def test_an_image_that_becomes_unreadable_keeps_its_name(run, tmp_path):
    for day in ("monday", "tuesday"):
        write_images(tmp_path / day, ["a.png"])
    run(tmp_path / "monday")
    before = (tmp_path / "out" / "a_map.npz").read_bytes()
    (tmp_path / "monday" / "a.png").write_bytes(b"no image")
    assert run(tmp_path / "monday")[0] == 2
    assert run(tmp_path / "tuesday", "--outputs", "overlay, map")[0] == 0
    assert {name: row["output"] for name, row in table(tmp_path).items()} == {
        "monday/a.png": "a",
        "tuesday/a.png": "a_2",
    }
    assert (tmp_path / "out" / "a_map.npz").read_bytes() == before


def test_references_change_scores_and_are_part_of_the_settings(run, tmp_path):
    write_images(tmp_path / "good", ["1.png"])
    write_images(tmp_path, ["b.png", "a.png"])

    def score(*arguments):
        assert run(tmp_path / "a.png", *arguments)[0] == 0
        return json.loads((tmp_path / "out" / "scores.jsonl").read_text().splitlines()[-1])["score"]

    plain, compared = score(), score("--references", tmp_path / "good")
    assert plain != compared
    assert "skipped 1 of 1" in run(tmp_path / "a.png", "--references", tmp_path / "good")[2]
    code, _, error = run(tmp_path / "a.png", "--references", tmp_path / "missing")
    assert code == 2
    assert "missing" in error


@pytest.mark.parametrize(("tile", "is_said"), [(50, True), (40, False)])
def test_a_tile_that_is_larger_than_every_image_is_said_once(run, tmp_path, tile, is_said):
    write_images(tmp_path / "in", ["a.png", "b.png"])
    code, _, err = run(tmp_path / "in", "--tile", tile)
    assert code == 0
    assert err.count("larger than a tile") == is_said
