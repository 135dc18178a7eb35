# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import time
from pathlib import PurePath
from types import SimpleNamespace

import numpy as np
import pytest

from anomalyclip_hf import AnomalyResult
from anomalyclip_hf.scoring.inputs import InputImage
from anomalyclip_hf.scoring.outputs import ResultFolder
from anomalyclip_hf.scoring.predicting import describe_one_sided, predict_images


class SlowFolder(ResultFolder):
    """A folder on a slow disk, which counts what it has saved."""

    saved = 0

    def save(self, *arguments, **options):
        """Take a while, and write nothing."""
        time.sleep(0.01)
        with self._lock:
            self.saved += 1
        return []


@pytest.mark.parametrize(("side", "most"), [(40, 20), (5000, 3), (9000, 2)])
def test_few_large_results_wait_to_be_written(tmp_path, side, most):
    results = SlowFolder(tmp_path, ["map"])
    anomaly_map = np.broadcast_to(np.float32(0), (side, side))  # takes no memory
    waiting = []

    def score_samples(reader, indices, *options):
        for index in indices:
            waiting.append(index + 1 - results.saved)
            yield AnomalyResult(index, str(index), (side, side), 0.5, "normal", anomaly_map)

    settings = {
        "score_key": "",
        "settings": {},
        "mutual": None,
        "map_maximum": 1,
        "threshold": 0,
        "pixel_threshold": None,
    }
    images = [InputImage(f"{index}.png", f"/x/{index}.png", PurePath(f"{index}.png")) for index in range(40)]
    rows = predict_images(SimpleNamespace(score_samples=score_samples, **settings), images, results)
    assert len(rows) == results.saved == 40
    assert max(waiting) <= most
    assert side > 40 or max(waiting) > 10


def test_the_remedy_for_a_one_sided_threshold_is_one_that_works():
    rows = [{"score": 0.01 * number, "error": None} for number in range(20)]
    assert "`anomalyclip calibrate`" in describe_one_sided(rows, 0.5)
    mutual = describe_one_sided(rows, 0.5, is_mutual=True)
    assert "calibrate" not in mutual
    assert "--threshold" in mutual
    assert describe_one_sided(rows, 0.1) is None
