# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import logging

import pytest

from anomalyclip_hf.cli.messages import LINES
from anomalyclip_hf.cli.options import load_scorer, note_idle_options


def test_what_the_package_logs_is_one_line_with_the_name_of_the_program(capsys):
    logger = logging.getLogger("anomalyclip_hf")
    for _ in range(2):  # as when the program is run twice in one process
        logger.addHandler(LINES)
    try:
        logging.getLogger("anomalyclip_hf.scoring.references").warning("%s is passed over.", "a\nb.png")
    finally:
        logger.removeHandler(LINES)
    assert capsys.readouterr().err == "anomalyclip: a b.png is passed over.\n"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"overlap": 0.5}, "--overlap 0.5"),
        ({"tile": 256, "overlap": 0.5}, ""),
        ({"overlap": 0.25, "mutual_references": 200, "mutual_radius": None}, ""),
        ({"mutual_references": 7}, "--mutual-references 7"),
        ({"mutual_radius": 0, "mutual": False}, "--mutual-radius 0"),
        ({"mutual": True, "mutual_references": 7, "mutual_radius": 0}, ""),
    ],
)
def test_options_that_do_nothing_are_noted(capsys, settings, named):
    note_idle_options(settings)
    noted = capsys.readouterr().err
    assert named in noted
    assert len(noted.splitlines()) == bool(named)


def test_loading_a_model_notes_them_too(capsys, model_folder):
    load_scorer(str(model_folder), "cpu", None, overlap=0.5)
    assert "--overlap 0.5" in capsys.readouterr().err
