# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import sys

import numpy as np
import pytest
from PIL import Image

from anomalyclip_hf.cli import main
from anomalyclip_hf.cli.options import join_value_range, parse_value_range


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--value-range", "0", "4095", "x"], (0.0, 4095.0)),
        (["a.png", "--value-range", "-1000", "3e3"], (-1000.0, 3000.0)),
        (["--value-range", "auto", "x"], "auto"),
        (["x"], None),
    ],
)
def test_the_range_is_two_numbers_or_auto(arguments, value):
    joined = join_value_range(arguments)
    text = joined[joined.index("--value-range") + 1] if "--value-range" in joined else None
    assert parse_value_range(text) == value
    assert set(arguments) - {"--value-range"} <= {word for one in joined for word in one.split()}


def test_a_window_is_a_range():
    assert parse_value_range(None, (40.0, 400.0)) == (-160.0, 239.0)
    with pytest.raises(ValueError, match="--window"):
        parse_value_range("auto", (40.0, 400.0))


@pytest.mark.parametrize("text", ["4095", "4095 0", "black white", "0 1 2", ""])
def test_other_ranges_are_named(text):
    with pytest.raises(ValueError, match="--value-range"):
        parse_value_range(text)


def predict(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalyclip", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)


def test_predict_scales_deep_images(tmp_path, monkeypatch, model_folder):
    rng = np.random.default_rng(0)
    camera = rng.integers(0, 4096, (40, 40), dtype=np.uint16)
    for name, pixels in (("deep", camera), ("plain", np.rint(camera / 4095 * 255).astype(np.uint8))):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
        predict(
            monkeypatch,
            tmp_path / name,
            "--output-dir",
            tmp_path / f"{name}_out",
            "--model",
            model_folder,
            "--value-range",
            0,
            4095,
        )
    scores = [
        (tmp_path / f"{name}_out" / "scores.csv").read_text().split("\n")[1].split(",")[1]
        for name in ("deep", "plain")
    ]
    assert float(scores[0]) == pytest.approx(float(scores[1]), abs=1e-6)
