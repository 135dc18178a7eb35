# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
from data.miniatures import draw

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.data.listing import scan
from anomalyclip_hf.data.words import label_of


@pytest.mark.parametrize(
    "word",
    ["good", "OK", "Normal", "healthy", "negative", "PASS", "clean", "non-defective", "Non Defective", "defect_free"],
)
def test_words_that_mean_normal(word):
    assert label_of(word) == 0


@pytest.mark.parametrize(
    "word", ["bad", "NG", "nok", "n-io", "Fail", "defective", "anomalous", "positive", "Malignant"]
)
def test_words_that_mean_anomalous(word):
    assert label_of(word) == 1


def test_further_words():
    assert label_of("Gutteil") is label_of("scratch") is None
    assert label_of("gut-teil", ["Gutteil"]) == 0


def folders(root, *kinds):
    for number, kind in enumerate(kinds, start=1):
        draw(root / "test" / kind / "0.png", number)
    return root


@pytest.mark.parametrize("normal", ["healthy", "Non-Defective", "PASS"])
def test_folders_and_tables_share_one_vocabulary(tmp_path, normal):
    folder = folders(tmp_path / "shop", normal, "tear")
    assert {row.defect_type: row.label for row in scan("folder", folder).rows} == {"good": 0, "tear": 1}
    (tmp_path / "list.csv").write_text(f"image,label\nshop/test/{normal}/0.png,{normal}\n")
    assert load_anomaly_dataset("csv", tmp_path)["label"][:] == [0]


def test_a_test_folder_without_any_known_word_is_an_error_that_names_the_option(tmp_path):
    folder = folders(tmp_path / "shop", "Gutteil", "Riss")
    with pytest.raises(ValueError, match="Gutteil, Riss.*--normal-label"):
        scan("folder", folder)
    assert load_anomaly_dataset("folder", folder, normal_labels="gutteil")["label"][:] == [0, 1]
    (tmp_path / "list.csv").write_text("image,label\nshop/test/Riss/0.png,Gutteil\n")
    with pytest.raises(ValueError, match="Gutteil.*--normal-label"):
        scan("csv", tmp_path)
    assert load_anomaly_dataset("csv", tmp_path, normal_labels=["Gutteil"])["label"][:] == [0]


def test_links_keep_their_names(tmp_path):
    folders(tmp_path / "pool" / "obj-0017", "good", "bad")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "bottle").symlink_to(tmp_path / "pool" / "obj-0017")
    assert {row.category for row in scan("folder", tmp_path / "linked").rows} == {"bottle"}
    assert {row.category for row in scan("folder", tmp_path / "linked" / "bottle").rows} == {"bottle"}
    assert {row.category for row in scan("mvtec", tmp_path / "linked").rows} == {"bottle"}
