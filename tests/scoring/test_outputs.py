# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf import AnomalyCLIPProcessor, AnomalyResult
from anomalyclip_hf.data.samples import Sample
from anomalyclip_hf.scoring.outputs import COLUMNS, ResultFolder, draw_result, is_result
from conftest import tiny_config


@pytest.fixture
def processor() -> AnomalyCLIPProcessor:
    return AnomalyCLIPProcessor.from_config(tiny_config())


def result(peak: float) -> AnomalyResult:
    """A grey image with a square of one map value."""
    anomaly_map = np.zeros((300, 400), np.float32)
    anomaly_map[100:150, 100:150] = peak
    sample = Sample(0, "a", Image.new("RGB", (400, 300), "grey"))
    return AnomalyResult(0, "a", (300, 400), 0.5, "normal", anomaly_map, anomaly_map > 0.5, sample=sample)


def test_normal_images_are_less_red_than_anomalous_ones():
    def redness(peak: float, scale: str) -> int:
        red, green, _ = draw_result(result(peak), 1.0, scale=scale).getpixel((120, 120))
        return red - green

    assert redness(1.6e-6, "fixed") == 0
    assert redness(0.9, "fixed") > 50
    assert redness(1.6e-6, "image") == redness(0.9, "image") > 50


@pytest.mark.parametrize("overlay_format", ["jpg", "png"])
def test_results_are_told_from_files_of_the_user(tmp_path, overlay_format):
    results = ResultFolder(tmp_path / "out", overlay_format=overlay_format)
    results.save(result(0.9), "a")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["a_map.npz", "a_mask.png", f"a_overlay.{overlay_format}"]
    assert all(is_result(path) for path in files)
    results.check_free("a")
    for name in ("b_overlay.jpg", "b_overlay.png", "b_mask.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "out" / name)
    np.savez(tmp_path / "out" / "b_map.npz", weights=np.ones(2))
    (tmp_path / "out" / "c_map.npz").write_bytes(b"no archive")
    for path in files:  # as a power cut leaves them
        for kept in (0, 1, 20):
            (tmp_path / "out" / f"c_{kept}{path.name}").write_bytes(path.read_bytes()[:kept])
    for path in (tmp_path / "out").glob("[bc]_*"):
        assert not is_result(path)
    with pytest.raises(FileExistsError, match="b_"):
        results.check_free("b")


def test_only_results_are_removed(tmp_path):
    results = ResultFolder(tmp_path)
    results.save(result(0.9), "a")
    results.save(result(0.9), "a_2")
    Image.new("RGB", (8, 8)).save(tmp_path / "a_overlay.png")  # of the user
    kept = ResultFolder(tmp_path, ["map"]).save(result(0.1), "a")
    results.remove_others("a", kept)
    of_others = {"a_overlay.png", "a_2_overlay.jpg", "a_2_map.npz", "a_2_mask.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"a_map.npz"} | of_others


def test_maps_keep_three_digits(tmp_path):
    ResultFolder(tmp_path, ["map"]).save(result(0.123), "deep/a")
    with np.load(tmp_path / "deep" / "a_map.npz") as file:
        np.testing.assert_allclose(file["anomaly_map"], result(0.123).anomaly_map, atol=5e-4)


def test_names_stay_inside_the_folder_and_apart(tmp_path):
    results = ResultFolder(tmp_path)
    assert results.assign("/x/a.png", PurePath("../../a.png")) == "a"
    assert results.assign("/y/a.png", PurePath("a.png")) == "a_2"
    assert results.assign("/x/a.png", PurePath("other.png")) == "a"


@pytest.mark.parametrize("arguments", [{"kinds": ["heat"]}, {"overlay_format": "gif"}, {"scale": "log"}])
def test_unknown_settings(tmp_path, arguments):
    with pytest.raises(ValueError, match=str(*arguments.values()).strip("[]'")):
        ResultFolder(tmp_path, **arguments)


@pytest.mark.parametrize(
    "content", ['{"id": 1}\n', '{"image": "x.png", "score": 0.5}\n', "[1]\n", "a note\n", '{"other": "cut']
)
def test_rows_of_the_user_are_not_replaced(tmp_path, content):
    (tmp_path / "scores.jsonl").write_text(content)
    with pytest.raises(FileExistsError, match="scores.jsonl"):
        ResultFolder(tmp_path)
    assert (tmp_path / "scores.jsonl").read_text() == content


def row_of(results: ResultFolder, image: str, **values) -> dict:
    """The row of an image that was scored."""
    row = {**dict.fromkeys(COLUMNS), "image": image, "output": results.assign(image, PurePath(PurePath(image).name))}
    return {**row, "file": [1, 2], "key": "settings", **values}


@pytest.mark.parametrize("ending", ["map.npz", "mask.png", "overlay.jpg"])
def test_an_empty_file_is_not_a_result_and_is_replaced(tmp_path, ending):
    results = ResultFolder(tmp_path)
    results.save(result(0.9), "a")
    results.append(row_of(results, "/x/a.png", pixel_threshold=0.5))
    assert results.is_done("/x/a.png", (1, 2), "settings")
    (tmp_path / f"a_{ending}").write_bytes(b"")
    assert not results.is_done("/x/a.png", (1, 2), "settings")
    results.check_free("a")


@pytest.mark.parametrize("length", range(len('{"image": "') + 1))
def test_a_row_that_was_cut_off_is_dropped(tmp_path, length):
    results = ResultFolder(tmp_path)
    results.append(row_of(results, "/x/a.png"))
    table = tmp_path / "scores.jsonl"
    with table.open("a") as file:
        file.write(table.read_text()[:length])
    for image in ("/x/b.png", "/x/c.png"):  # the second one finds the cut row in the middle
        results = ResultFolder(tmp_path)
        results.append(row_of(results, image))
    assert list(ResultFolder(tmp_path).rows) == ["/x/a.png", "/x/b.png", "/x/c.png"]


def test_a_row_that_finds_no_room_is_an_error(tmp_path):
    resource = pytest.importorskip("resource")
    results = ResultFolder(tmp_path)
    row = row_of(results, "/x/a.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError):  # as of a full disk
            results.append(row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not ResultFolder(tmp_path).rows
