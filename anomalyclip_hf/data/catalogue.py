# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""List the datasets that are known by name; a new dataset needs one entry here."""

from dataclasses import dataclass

from .annotations import Coco, Labelme
from .layouts import (
    CategoryTree,
    ClassFolders,
    FlatFolder,
    ImagesAndMasks,
    MaskBeside,
    OwnImagesAndMasks,
    Reader,
    TypeFolders,
)
from .tables import MetaJson, Table
from .words import GOOD


@dataclass(frozen=True)
class DatasetEntry:
    """Describe a dataset, and the layouts that it comes in, the most specific first.

    Args:
        title (`str`): Full name.
        domain (`str`): `"industrial"`, `"medical"` or `"any"`.
        license (`str`): License as stated on its page or by redistributors; "not stated" if there is none.
        page (`str`): Address to download it from.
        readers (`tuple[Reader, ...]`): Layouts of its own distribution and of the authors' re-arranged copy.
        categories (`tuple[str, ...]`): Categories of the test split.
        counts (`tuple[int, int]`, *optional*): Normal and anomalous images of the whole test split.
        has_masks (`bool`): Whether anomalous images come with masks.
        mask_rule (`str`): See [`load_mask`].
        folder_hints (`tuple[str, ...]`): Parts of usual names of its folder, in small letters and digits.
        search_depth (`int`): Levels below the given folder at which the layout may begin, for archives with outer
        folders.
    """

    title: str
    domain: str
    license: str
    page: str
    readers: tuple[Reader, ...]
    categories: tuple[str, ...] = ()
    counts: tuple[int, int] | None = None
    has_masks: bool = True
    mask_rule: str = "classes"
    folder_hints: tuple[str, ...] = ()
    search_depth: int = 2


MVTEC_CATEGORIES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw", "tile"),
    *("toothbrush", "transistor", "wood", "zipper"),
)
VISA_CATEGORIES = (
    *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3"),
    *("pcb4", "pipe_fryum"),
)
MPDD_CATEGORIES = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
DTD_CATEGORIES = (
    *("Woven_001", "Woven_127", "Woven_104", "Stratified_154", "Blotchy_099", "Woven_068", "Woven_125"),
    *("Marbled_078", "Perforated_037", "Mesh_114", "Fibrous_183", "Matted_069"),
)
LOCO_CATEGORIES = ("breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors")
AD_2_CATEGORIES = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
MVTEC_3D_CATEGORIES = (
    *("bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire"),
)
WITH_VALIDATION = {"train": "train", "validation": "validation", "test": "test"}
VISA_COLUMNS = {"category": "object"}
TN3K_FOLDERS = {"test": ("test-image", "test-mask"), "train": ("trainval-image", "trainval-mask")}
YES_NO = {"no": GOOD, "yes": "tumor"}
OWN_FILES = "yours to say"

CATALOGUE: dict[str, DatasetEntry] = {
    "mvtec": DatasetEntry(
        title="MVTec AD",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        readers=(MetaJson(), CategoryTree(MVTEC_CATEGORIES)),
        categories=MVTEC_CATEGORIES,
        counts=(467, 1258),
        folder_hints=("mvtec",),
    ),
    "visa": DatasetEntry(
        title="VisA",
        domain="industrial",
        license="CC BY 4.0",
        page="https://github.com/amazon-science/spot-diff",
        readers=(
            MetaJson(),
            Table("split_csv/1cls.csv", VISA_COLUMNS, name="original with split_csv/1cls.csv"),
            CategoryTree(VISA_CATEGORIES),
        ),
        categories=VISA_CATEGORIES,
        counts=(962, 1200),
        folder_hints=("visa",),
    ),
    "mpdd": DatasetEntry(
        title="MPDD, metal parts",
        domain="industrial",
        license="CC BY-NC-SA 4.0 (as quoted by others)",
        page="https://github.com/stepanje/MPDD",
        readers=(MetaJson(), CategoryTree(MPDD_CATEGORIES)),
        categories=MPDD_CATEGORIES,
        counts=(176, 282),
        folder_hints=("mpdd",),
    ),
    "btad": DatasetEntry(
        title="BTAD, beanTech",
        domain="industrial",
        license="not stated",
        page="http://avires.dimi.uniud.it/papers/btad/btad.zip",
        readers=(MetaJson(), CategoryTree(("01", "02", "03"))),
        categories=("01", "02", "03"),
        counts=(451, 290),
        folder_hints=("btad", "btech"),
    ),
    "sdd": DatasetEntry(
        title="KolektorSDD",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.vicos.si/resources/kolektorsdd/",
        readers=(
            MetaJson(),
            CategoryTree(("electrical_commutators",), name="authors' re-cut copy"),
            MaskBeside(
                "kos*",
                {"test": ""},
                masks="",
                name="original, all parts as test",
                category="electrical_commutators",
                mask_decides=True,
            ),
        ),
        categories=("electrical_commutators",),
        folder_hints=("sdd", "kolektor"),
    ),
    "dagm": DatasetEntry(
        title="DAGM 2007",
        domain="industrial",
        license="not stated",
        page="https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007-competition-dataset-optical-inspection",
        readers=(
            MetaJson(),
            MaskBeside("Class*/{split}", {"train": "Train", "test": "Test"}, masks="Label", name="original"),
            CategoryTree(tuple(f"Class{number}" for number in range(1, 11))),
        ),
        categories=tuple(f"Class{number}" for number in range(1, 11)),
        folder_hints=("dagm",),
    ),
    "dtd_synthetic": DatasetEntry(
        title="DTD-Synthetic",
        domain="industrial",
        license="not stated",
        page="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        readers=(MetaJson(), CategoryTree(DTD_CATEGORIES)),
        categories=DTD_CATEGORIES,
        folder_hints=("dtd",),
    ),
    "headct": DatasetEntry(
        title="Head CT hemorrhage",
        domain="medical",
        license="not stated",
        page="https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage",
        readers=(
            MetaJson(),
            *(
                Table(
                    "labels.csv",
                    {"image": "id", "label": "hemorrhage"},
                    image_path=f"{folder}/{{image:0>3}}.png",
                    category="brain",
                    name="original with labels.csv",
                )
                for folder in ("head_ct/head_ct", "head_ct")
            ),
            CategoryTree(("brain",)),
        ),
        categories=("brain",),
        counts=(100, 100),
        has_masks=False,
        folder_hints=("headct",),
    ),
    "brainmri": DatasetEntry(
        title="Brain MRI Images for Brain Tumor Detection",
        domain="medical",
        license="not stated",
        page="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
        readers=(MetaJson(), ClassFolders(YES_NO, "brain"), CategoryTree(("brain",))),
        categories=("brain",),
        counts=(98, 155),
        has_masks=False,
        folder_hints=("brainmri", "braintumordataset"),
    ),
    "br35h": DatasetEntry(
        title="Br35H brain tumor detection",
        domain="medical",
        license="not stated",
        page="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
        readers=(MetaJson(), ClassFolders(YES_NO, "brain"), CategoryTree(("brain",))),
        categories=("brain",),
        has_masks=False,
        folder_hints=("br35",),
    ),
    "covid19": DatasetEntry(
        title="COVID-19 Radiography Database",
        domain="medical",
        license="not stated",
        page="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        # masks/ beside images/ are lungs, not lesions.
        readers=(
            MetaJson(),
            ClassFolders({"Normal": GOOD, "COVID": "covid"}, "chest", below="images", name="today's release"),
            ClassFolders({"NORMAL": GOOD, "COVID-19": "covid"}, "chest", name="first release"),
            CategoryTree(("chest",)),
        ),
        categories=("chest",),
        has_masks=False,
        folder_hints=("covid",),
    ),
    "isic": DatasetEntry(
        title="ISIC 2016, part 1",
        domain="medical",
        license="CC0 (as quoted by others)",
        page="https://challenge.isic-archive.com/data/",
        readers=(
            MetaJson(),
            ImagesAndMasks(
                "skin",
                "lesion",
                {"test": ("test/*", "ISBI2016_ISIC_Part1_Test_GroundTruth")},
                mask_ending="_Segmentation",
                name="authors' copy",
            ),
            ImagesAndMasks(
                "skin",
                "lesion",
                {"test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth")},
                mask_ending="_Segmentation",
            ),
        ),
        categories=("skin",),
        folder_hints=("isic", "isbi"),
    ),
    "colondb": DatasetEntry(
        title="CVC-ColonDB",
        domain="medical",
        license="academic use",
        page="http://mv.cvc.uab.es/projects/colon-qa/cvccolondb",
        readers=(MetaJson(), ImagesAndMasks("colon", "polyp")),
        categories=("colon",),
        counts=(0, 380),
        folder_hints=("colondb",),
    ),
    "clinicdb": DatasetEntry(
        title="CVC-ClinicDB",
        domain="medical",
        license="research and education only",
        page="https://polyp.grand-challenge.org/CVCClinicDB/",
        readers=(
            MetaJson(),
            ImagesAndMasks("colon", "polyp"),
            ImagesAndMasks("colon", "polyp", {"test": ("Original", "Ground Truth")}, name="original"),
        ),
        categories=("colon",),
        counts=(0, 612),
        folder_hints=("clinicdb",),
    ),
    "kvasir": DatasetEntry(
        title="Kvasir-SEG",
        domain="medical",
        license="research and education only",
        page="https://datasets.simula.no/kvasir-seg/",
        readers=(MetaJson(), ImagesAndMasks("colon", "polyp")),
        categories=("colon",),
        counts=(0, 1000),
        folder_hints=("kvasir",),
    ),
    "endo": DatasetEntry(
        title="EndoTect 2020, segmentation test set",
        domain="medical",
        license="not stated",
        page="https://endotect.com/index.html",
        readers=(MetaJson(), ImagesAndMasks("colon", "polyp")),
        categories=("colon",),
        folder_hints=("endo",),
    ),
    "tn3k": DatasetEntry(
        title="TN3K, thyroid nodules",
        domain="medical",
        license="not stated",
        page="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
        readers=(MetaJson(), ImagesAndMasks("thyroid", "nodule", TN3K_FOLDERS)),
        categories=("thyroid",),
        counts=(0, 614),
        folder_hints=("tn3k",),
    ),
    "mvtec_loco": DatasetEntry(
        title="MVTec LOCO AD",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.mvtec.com/company/research/datasets/mvtec-loco",
        readers=(CategoryTree(LOCO_CATEGORIES, splits=WITH_VALIDATION),),
        categories=LOCO_CATEGORIES,
        folder_hints=("mvtecloco",),
    ),
    "mvtec_ad_2": DatasetEntry(
        title="MVTec AD 2, public test images",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        readers=(CategoryTree(AD_2_CATEGORIES, splits={**WITH_VALIDATION, "test": "test_public"}),),
        categories=AD_2_CATEGORIES,
        folder_hints=("mvtecad2",),
    ),
    "mvtec_3d": DatasetEntry(
        title="MVTec 3D-AD, colour images",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.mvtec.com/company/research/datasets/mvtec-3d-ad",
        readers=(CategoryTree(MVTEC_3D_CATEGORIES, splits=WITH_VALIDATION, images="rgb"),),
        categories=MVTEC_3D_CATEGORIES,
        folder_hints=("mvtec3d",),
    ),
    "sdd2": DatasetEntry(
        title="KolektorSDD2",
        domain="industrial",
        license="CC BY-NC-SA 4.0",
        page="https://www.vicos.si/resources/kolektorsdd2/",
        readers=(
            MaskBeside(
                "{split}",
                {"train": "train", "test": "test"},
                masks="",
                name="original",
                category="surface",
                ending="_GT",
                mask_decides=True,
            ),
        ),
        categories=("surface",),
        folder_hints=("kolektorsdd2", "ksdd2", "sdd2"),
    ),
    "coco": DatasetEntry(
        title="a dataset with COCO annotations",
        domain="any",
        license=OWN_FILES,
        page="docs/datasets.md",
        readers=(Coco(),),
        has_masks=False,
        mask_rule="auto",
        search_depth=0,
    ),
    "labelme": DatasetEntry(
        title="a dataset with labelme annotations",
        domain="any",
        license=OWN_FILES,
        page="docs/datasets.md",
        readers=(Labelme(),),
        has_masks=False,
        mask_rule="auto",
        search_depth=0,
    ),
    "folder": DatasetEntry(
        title="a dataset in folders",
        domain="any",
        license=OWN_FILES,
        page="docs/datasets.md",
        readers=(
            CategoryTree(),
            OwnImagesAndMasks(),
            TypeFolders(),
            FlatFolder(),
        ),
        has_masks=False,
        mask_rule="auto",
        search_depth=0,
    ),
}
PAPER_DATASETS = tuple(CATALOGUE)[:17]
