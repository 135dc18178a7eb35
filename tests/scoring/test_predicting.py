# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.scoring.predicting import describe_one_sided


def test_the_remedy_for_a_one_sided_threshold_is_one_that_works():
    rows = [{"score": 0.01 * number, "error": None} for number in range(20)]
    assert "`anomalyclip calibrate`" in describe_one_sided(rows, 0.5)
    mutual = describe_one_sided(rows, 0.5, is_mutual=True)
    assert "calibrate" not in mutual
    assert "--threshold" in mutual
    assert describe_one_sided(rows, 0.1) is None
