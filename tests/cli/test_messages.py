# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import logging

from anomalyclip_hf.cli.messages import LINES
from anomalyclip_hf.cli.options import load_scorer, note_idle_overlap


def test_what_the_package_logs_is_one_line_with_the_name_of_the_program(capsys):
    logger = logging.getLogger("anomalyclip_hf")
    for _ in range(2):  # as when the program is run twice in one process
        logger.addHandler(LINES)
    try:
        logging.getLogger("anomalyclip_hf.scoring.references").warning("%s is passed over.", "a\nb.png")
    finally:
        logger.removeHandler(LINES)
    assert capsys.readouterr().err == "anomalyclip: a b.png is passed over.\n"


def test_an_overlap_without_tiles_is_noted(capsys, model_folder):
    load_scorer(str(model_folder), "cpu", None, overlap=0.5)
    assert "--overlap 0.5" in capsys.readouterr().err
    note_idle_overlap(256, 0.5)
    note_idle_overlap(None, 0.25)
    assert not capsys.readouterr().err
