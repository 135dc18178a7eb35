# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
from data.miniatures import MINIATURES

from anomalyclip_hf.data.catalogue import CATALOGUE, PAPER_DATASETS
from anomalyclip_hf.data.listing import find_dataset
from anomalyclip_hf.data.tables import MetaJson


PAPER = (
    *("mvtec", "visa", "mpdd", "btad", "sdd", "dagm", "dtd_synthetic", "headct", "brainmri", "br35h", "covid19"),
    *("isic", "colondb", "clinicdb", "kvasir", "endo", "tn3k"),
)
MORE = ("mvtec_loco", "mvtec_ad_2", "mvtec_3d", "sdd2")


def test_the_17_of_the_paper():
    assert PAPER_DATASETS == PAPER
    assert set(CATALOGUE) - set(PAPER) == {*MORE, "coco", "labelme", "folder"}
    assert {name for name in PAPER if CATALOGUE[name].domain == "industrial"} == set(PAPER[:7])
    assert {CATALOGUE[name].domain for name in PAPER[7:]} == {"medical"}


@pytest.mark.parametrize("name", [*PAPER, *MORE])
def test_an_entry_is_whole(name):
    entry = CATALOGUE[name]
    assert entry.title
    assert entry.license
    assert entry.page.startswith("http")
    assert entry.folder_hints
    assert entry.categories == tuple(dict.fromkeys(entry.categories))
    assert name in MORE or isinstance(
        entry.readers[0], MetaJson
    )  # else the authors' copy would be read as something else
    assert all(reader.name and reader.expects for reader in entry.readers)


@pytest.mark.parametrize(
    ("name", "number", "some"),
    [
        ("mvtec", 15, "metal_nut"),
        ("visa", 12, "pipe_fryum"),
        ("mpdd", 6, "bracket_white"),
        ("btad", 3, "03"),
        ("dagm", 10, "Class10"),
        ("dtd_synthetic", 12, "Matted_069"),
        ("sdd", 1, "electrical_commutators"),
        ("tn3k", 1, "thyroid"),
    ],
)
def test_numbers_of_categories(name, number, some):
    assert len(CATALOGUE[name].categories) == number
    assert some in CATALOGUE[name].categories


def test_every_reader_of_the_catalogue_has_a_miniature():
    named = {(name, reader.name) for name in CATALOGUE for reader in CATALOGUE[name].readers}
    shown = {(miniature.dataset, miniature.reader) for miniature in MINIATURES.values()}
    indexed = {(miniature.dataset, MetaJson().name) for miniature in MINIATURES.values() if miniature.meta}
    # Copies in MVTec's layout that some people make of these; nobody links one.
    rearranged = {(name, "category tree") for name in ("brainmri", "br35h", "covid19", "dagm")}
    drawn = {("coco", "COCO JSON"), ("labelme", "labelme JSON")}  # tests/data/test_annotations.py
    assert named - rearranged - drawn == shown | indexed


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("mvtec", ["mvtec_anomaly_detection", "MVTec-AD", "mvtec"]),
        ("visa", ["VisA_20220922", "VisA_pytorch", "visa"]),
        ("mpdd", ["MPDD"]),
        ("btad", ["BTech_Dataset_transformed", "btad"]),
        ("sdd", ["KolektorSDD", "SDD"]),
        ("dagm", ["DAGM_KaggleUpload", "DAGM 2007", "dagm"]),
        ("dtd_synthetic", ["DTD-Synthetic", "dtd_synthetic"]),
        ("headct", ["HeadCT_anomaly_detection", "head-ct-hemorrhage", "Head CT"]),
        ("brainmri", ["BrainMRI", "brain_tumor_dataset", "brain-mri-images"]),
        ("br35h", ["Br35H", "br35"]),
        ("covid19", ["COVID-19_Radiography_Dataset", "covid19"]),
        ("isic", ["ISBI", "ISIC 2016"]),
        ("colondb", ["CVC-ColonDB"]),
        ("clinicdb", ["CVC-ClinicDB"]),
        ("kvasir", ["Kvasir-SEG", "Kvasir"]),
        ("endo", ["EndoTect_2020_Segmentation_Test_Dataset"]),
        ("tn3k", ["tn3k", "TN3K"]),
        ("mvtec_loco", ["mvtec_loco_anomaly_detection"]),
        ("mvtec_ad_2", ["mvtec_ad_2"]),
        ("mvtec_3d", ["mvtec_3d_anomaly_detection"]),
        ("sdd2", ["KolektorSDD2", "KSDD2"]),
    ],
)
def test_folders_are_recognised_by_their_names(tmp_path, name, folders):
    for folder in folders:
        (tmp_path / folder / folder).mkdir(parents=True)
        (tmp_path / folder / "unrelated").mkdir()
        assert find_dataset(name, tmp_path / folder) == tmp_path / folder / folder
        others = [other for other in CATALOGUE if other != name and find_dataset(other, tmp_path / folder)]
        assert others == []
