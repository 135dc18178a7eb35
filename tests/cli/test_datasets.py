# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import subprocess
import sys

import pytest
from data.miniatures import MINIATURES, draw, mark

from anomalyclip_hf.cli import main
from anomalyclip_hf.data.catalogue import CATALOGUE


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `anomalyclip datasets` in this process; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")

    def run_datasets(*arguments):
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "datasets", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_datasets


@pytest.fixture
def bolts(tmp_path):
    """A dataset without problems."""
    for number, name in enumerate(("good/a.png", "good/b.png", "dent/a.png"), start=1):
        draw(tmp_path / "bolts" / "test" / name, number)
    mark(tmp_path / "bolts" / "ground_truth" / "dent" / "a.png", 3)
    return tmp_path / "bolts"


def cells(line):
    return [cell.strip() for cell in line.replace("│", "|").replace("┃", "|").strip("|").split("|")]


def row_of(out, first):
    (line,) = [line for line in out.splitlines() if first in cells(line)[:2]]
    return cells(line)


def test_the_list(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    for name, entry in CATALOGUE.items():
        assert row_of(out, name) == [name, entry.domain, entry.title, entry.license, entry.page]
    assert "csv, jsonl, parquet and hub" in out


def test_what_is_found_in_a_folder(run, tmp_path):
    for name in ("kvasir-original", "sdd-original", "brainmri-authors", "btad-original"):
        MINIATURES[name].build(tmp_path / "data")
    MINIATURES["tn3k-authors"].build(tmp_path / "data" / "tn3k [red] copy")
    code, out, err = run("--data-dir", "data")
    assert (code, err) == (0, "")
    assert row_of(out, "kvasir")[4] == "0 / 2 in Kvasir-SEG (images and masks)"
    assert row_of(out, "sdd")[4] == "2 / 2 in KolektorSDD (original, all parts as test)"
    assert row_of(out, "brainmri")[4] == "1 / 1 in BrainMRI/brain_tumor_dataset (class folders)"
    assert row_of(out, "btad")[4] == "3 / 4 in btad/BTech_Dataset_transformed (category tree)"
    assert row_of(out, "tn3k")[4] == "0 / 2 in tn3k [red] copy/Thyroid Dataset/tn3k (images and masks)"
    assert row_of(out, "mvtec")[4] == ""


def test_one_broken_data_set_does_not_cost_the_others(run, tmp_path):
    MINIATURES["kvasir-original"].build(tmp_path / "data")
    (tmp_path / "data" / "mvtec [red]").mkdir()
    (tmp_path / "data" / "mvtec [red]" / "mvtec_anomaly_detection.tar.xz").touch()
    code, out, err = run("--data-dir", "data")
    assert code == 0
    assert row_of(out, "kvasir")[4].startswith("0 / 2")
    assert "does not look like MVTec AD" in out
    (line,) = err.splitlines()
    assert line.startswith("anomalyclip: data/mvtec [red] does not look like MVTec AD")
    assert "Unpack mvtec_anomaly_detection.tar.xz first" in line


def test_a_data_set_without_fault(run, bolts):
    code, out, err = run("check", "folder", bolts)
    assert (code, err) == (0, "")
    assert f"a dataset in folders, read as category tree from {bolts}" in out
    assert row_of(out, "bolts") == ["test", "bolts", "2", "1", "0"]
    for line in (
        "0 empty masks",
        "0 anomalous images without mask",
        "0 masks of another size than their image",
        "0 unreadable files",
        "0 image files that belong to no row",
        "0 masks that mark everything or most of a category",
    ):
        assert line in out.splitlines()


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        (
            lambda bolts: mark(bolts / "ground_truth/dent/a.png", 3, "black"),
            ["1 empty masks", "  {}/ground_truth/dent/a.png"],
        ),
        (
            lambda bolts: draw(bolts / "test/dent/b.png", 4),
            ["1 anomalous images without mask", "  {}/test/dent/b.png"],
        ),
        (
            lambda bolts: (bolts / "test/good/b.png").write_bytes(b"[/x]"),
            ["1 unreadable files", "  {}/test/good/b.png is not an image"],
        ),
        (
            lambda bolts: (bolts / "ground_truth/dent/a.png").write_bytes(b""),
            ["1 unreadable files", "  {}/ground_truth/dent/a.png is empty (0 bytes)"],
        ),
    ],
)
def test_faults_end_in_code_1(run, bolts, fault, lines):
    fault(bolts)
    code, out, _ = run("check", "folder", bolts)
    assert code == 1
    title, detail = lines
    found = out.splitlines()
    assert found[found.index(title) + 1].startswith(detail.format(bolts))


def test_a_set_without_any_mask_says_so(run, bolts):
    (bolts / "ground_truth" / "dent" / "a.png").unlink()
    code, out, _ = run("check", "folder", bolts)
    assert code == 0
    assert "no image has a mask, so an evaluation gives no pixel metrics\n" in out
    assert "without mask" not in out


def test_masks_of_no_image_and_images_of_no_row_end_in_code_1(run, bolts):
    mark(bolts / "ground_truth" / "dent" / "aa.png", 9)
    code, out, _ = run("check", "folder", bolts)
    assert code == 1
    assert f"1 image files that belong to no row\n  {bolts}/ground_truth/dent/aa.png\n" in out


def test_oddities_of_the_whole_end_in_code_1(run, tmp_path):
    MINIATURES["kvasir-original"].build(tmp_path / "data")
    code, out, err = run("check", "kvasir", "data")
    assert code == 1
    assert "Kvasir-SEG, read as images and masks from data/Kvasir-SEG" in out
    assert row_of(out, "colon") == ["test", "colon", "0", "2", "0"]
    assert err.strip() == "anomalyclip: kvasir: 0 normal and 2 anomalous test images; 0 and 1000 are expected."


def test_long_lists_are_cut(run, bolts):
    for number in range(1, 14):
        draw(bolts / "test" / "dent" / f"{number:02}.png", number)
    code, out, _ = run("check", "folder", bolts)
    assert code == 1
    assert "13 anomalous images without mask" in out
    assert "dent/10.png\n  … and 3 more\n" in out
    assert "dent/11.png" not in out


def test_one_category_only(run, tmp_path):
    for name in ("nuts", "bolts"):
        for number, kind in enumerate(("good", "dent"), start=1):
            draw(tmp_path / "shop" / name / "test" / kind / "a.png", number)
    code, out, _ = run("check", "folder", "shop", "--category", "nuts")
    assert code == 0
    assert row_of(out, "nuts") == ["test", "nuts", "1", "1", "0"]
    assert "bolts" not in out
    assert "0 image files that belong to no row" in out


def test_tables_with_columns_of_any_name(run, tmp_path, bolts):
    (bolts / "list.csv").write_text("file;bad\ntest/good/a.png;0\ntest/dent/a.png;\n")
    code, out, err = run("check", "csv", "bolts", "--column", "image=file", "--column", "label=bad")
    assert code == 1
    assert "1 rows of list.csv have no label: 2." in err
    assert row_of(out, "bolts") == ["test", "bolts", "1", "0", "1"]
    assert "2 image files that belong to no row" in out


def test_odd_names(run, tmp_path):
    for number, kind in enumerate(("good", "[bold]"), start=1):
        draw(tmp_path / "[/x]" / "[red]nuts" / "test" / kind / "[b]a.png", number)
    (tmp_path / "[/x]" / "[red]nuts" / "test" / "good" / "[b]a.png").write_bytes(b"")
    code, out, _ = run("check", "folder", "[/x]")
    assert code == 1
    assert "from [/x]" in out
    assert row_of(out, "[red]nuts") == ["test", "[red]nuts", "1", "1", "0"]
    assert "  [/x]/[red]nuts/test/good/[b]a.png is empty" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data-dir", "nowhere"], "nowhere does not exist or is no folder"),
        (["--data-dir", "file.zip"], "file.zip does not exist or is no folder"),
        (["check", "mvtek", "bolts"], "dataset 'mvtek' is unknown; expected one of mvtec"),
        (["check", "mvtec", "nowhere"], "MVTec AD (CC BY-NC-SA 4.0) is at https://www.mvtec.com"),
        (
            ["check", "brainmri", "bolts"],
            "does not look like Brain MRI Images for Brain Tumor Detection: expected meta.json",
        ),
        (["check", "mvtec", "file.zip"], "Unpack file.zip first"),
        (["check", "folder", "bolts", "--category", "nuts"], "has no category 'nuts'; expected one of bolts"),
        (["check", "folder", "bolts", "--column", "image=file"], "columns="),
        (["check", "csv", "bolts", "--column", "file"], "--column file: expected OURS=THEIRS"),
        (["check", "csv", "bolts"], "should hold one .csv file, found none"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(run, tmp_path, bolts, arguments, words):
    (tmp_path / "file.zip").touch()
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("anomalyclip: ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"), [([], 0, "kvasir"), (["check", "folder", "bolts"], 0, "0 empty masks")]
)
def test_runs_as_a_process_of_its_own(tmp_path, bolts, arguments, code, words):
    program = "import sys; from anomalyclip_hf.cli import main\n"
    program += (
        "try: main()\nfinally: print('heavy:', sorted({'torch', 'datasets', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = {['anomalyclip', 'datasets', *arguments]!r}\n{program}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == code, done.stderr
    assert words in done.stdout
    if not arguments:
        assert "heavy: []" in done.stdout
