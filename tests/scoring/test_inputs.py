# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
from anomalyclip_hf.scoring.inputs import describe_other_files


def test_files_that_are_no_images_are_counted_by_ending(tmp_path):
    scans = tmp_path / "scans"
    (scans / "day1").mkdir(parents=True)
    for name in ("a.nii", "day1/b.NII", "IM0001", "c.png", ".hidden", "scores.csv", "d.dcm"):
        (scans / name).touch()
    (line,) = describe_other_files([str(scans), str(scans / "c.png"), "https://a.b/c.nii"])
    assert line.startswith(f"{scans}: 3 files are passed over")
    assert line.endswith("2 .nii, 1 without ending.")
    assert describe_other_files([str(scans / "c.png")]) == []
