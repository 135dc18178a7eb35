# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Each layout in miniature, with the pitfalls of the real one.

One line of `rows` is one image: split, category, defect type, image and mask, two blanks between them. A file may say
behind a colon how it is written; see `draw` and `mark`. The bright squares of an image are what its mask marks and
differ from image to image, so that no pair can be mistaken for another.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


SQUARE = 8  # as a block of JPEG, whose errors stay in it
COLUMNS, ROWS = 3, 2
SIZE = (COLUMNS * SQUARE, ROWS * SQUARE)  # width, height
DARK, BRIGHT = 40, 220


def squares(number: int) -> np.ndarray:
    """Which pixels of image or mask `number` stand out; no two numbers below 64 have the same."""
    assert 0 < number < 2 ** (COLUMNS * ROWS)
    bits = [number >> bit & 1 for bit in range(COLUMNS * ROWS)]
    return np.kron(np.reshape(bits, (ROWS, COLUMNS)), np.ones((SQUARE, SQUARE))).astype(bool)


def draw(path: Path, number: int, mode: str = "RGB") -> None:
    """Write image `number` in a mode of Pillow, or as a TIFF that Pillow refuses (minisblack)."""
    grey = np.where(squares(number), BRIGHT, DARK).astype(np.uint8)
    _save(np.stack([grey] * 3, 2), path, "minisblack" if mode == "minisblack" else "")
    if mode not in ("RGB", "minisblack"):
        Image.fromarray(grey).convert(mode).save(path)


def mark(path: Path, number: int, kind: str = "") -> None:
    """Write the mask of image `number`: 255, or the values that the `kind` says."""
    anomalous = squares(number)
    values = np.where(anomalous, 255, 0).astype(np.uint8)
    if kind == "ids":  # classes 1, 2, 3, as VisA has them
        values = np.where(anomalous, np.arange(SIZE[0]) // SQUARE + 1, 0).astype(np.uint8)
    elif kind == "levels":  # lossless, so that each value but 0 is meant
        values = np.where(anomalous, np.linspace(1, 255, SIZE[0]).astype(np.uint8), 0)
    elif kind == "jpeg":  # three channels, and grey on both sides of every edge
        noise = np.add.outer(np.arange(SIZE[1]), np.arange(SIZE[0])) % 8
        values = np.where(anomalous, 255 - 8 * noise, 8 * noise).astype(np.uint8)
    elif kind == "black":
        values[:] = 0
    if kind in ("jpeg", "minisblack", "RGB"):
        values = np.stack([values] * 3, 2)
    _save(values, path, kind)


def _save(pixels: np.ndarray, path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "minisblack":
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
        return
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    Image.fromarray(pixels).save(path, **({"quality": 100, "subsampling": 0} if is_jpeg else {}))


def litter(folder: Path) -> None:
    """Leave in every folder what file managers and archives leave."""
    folders = [path for path in folder.rglob("*") if path.is_dir() and "__MACOSX" not in path.parts]
    for inner in [folder, *folders]:
        for name in (".DS_Store", "Thumbs.db", "readme.txt", "._000.png"):
            (inner / name).write_bytes(b"\x00\x05\x16\x07 nobody's image")
    for file in [inner / "._000.png" for inner in [folder, *folders]]:
        twin = folder / "__MACOSX" / file.relative_to(folder)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(file.read_bytes())


@dataclass(frozen=True)
class Expected:
    """One line of a miniature."""

    split: str
    category: str
    defect_type: str
    image: str
    mask: str | None
    number: int
    image_kind: str
    mask_kind: str

    @property
    def label(self) -> int | None:
        return {"good": 0, "?": None}.get(self.defect_type, 1)


@dataclass(frozen=True)
class Miniature:
    """A small dataset: what it contains, and what has to be read from it."""

    dataset: str
    layout: str
    root: str  # where it begins below the folder that is given
    reader: str
    rows: str
    strays: tuple[str, ...] = ()  # images that are no row, below the folder that is given
    texts: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    meta: bool = False  # the authors' copy, which comes with and without meta.json

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.layout}"

    def expected(self) -> list[Expected]:
        found = []
        for number, line in enumerate(self.rows.strip().splitlines(), start=1):
            split, category, kind, image, *mask = re.split(r"  +", line.strip())
            image, _, image_kind = image.partition(":")
            mask, _, mask_kind = mask[0].partition(":") if mask else ("", "", "")
            found.append(Expected(split, category, kind, image, mask or None, number, image_kind or "RGB", mask_kind))
        return found

    def build(self, folder: Path) -> Path:
        """Write it below a folder; gives the folder to load from."""
        folder.mkdir(parents=True, exist_ok=True)
        for row in self.expected():
            draw(folder / self.root / row.image, row.number, row.image_kind)
            if row.mask and not Path(row.mask).suffix:  # a folder with several masks of one image
                for number, part in enumerate(bit for bit in range(COLUMNS * ROWS) if row.number >> bit & 1):
                    mark(folder / self.root / row.mask / f"{number:03}.png", 1 << part)
            elif row.mask:
                mark(folder / self.root / row.mask, row.number, row.mask_kind)
        for stray in self.strays:
            name, _, kind = stray.partition(":")
            mark(folder / name, 63, kind)
        for name, text in self.texts.items():
            (folder / self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / self.root / name).write_text(text, encoding="utf-8")
        litter(folder)
        return folder

    def index(self, upper: bool = False) -> dict[str, dict[str, list[dict[str, object]]]]:
        """The content of the authors' meta.json; one of their scripts writes splits in upper case."""
        index: dict[str, dict[str, list]] = {"Train": {}, "Test": {}} if upper else {"train": {}, "test": {}}
        for row in self.expected():
            entry = {
                "img_path": row.image,
                "mask_path": row.mask or "",
                "cls_name": row.category,
                "specie_name": row.defect_type,
                "anomaly": row.label,
            }
            index[row.split.title() if upper else row.split].setdefault(row.category, []).append(entry)
        return index

    def write_index(self, folder: Path, index: dict) -> None:
        (folder / self.root / "meta.json").write_text(json.dumps(index))


def _table() -> Iterator[Miniature]:
    counts, half = "are expected", "has no images of"
    tree, pairs, authors = "category tree", "images and masks", "authors' copy"
    yield Miniature(
        *("mvtec", "original", "mvtec_anomaly_detection", tree),
        """
        train  bottle  good          bottle/train/good/000.png
        test   bottle  broken_large  bottle/test/broken_large/000.png  bottle/ground_truth/broken_large/000_mask.png
        test   bottle  broken_large  bottle/test/broken_large/002.png  bottle/ground_truth/broken_large/002_mask.png
        test   bottle  good          bottle/test/good/000.png
        test   metal_nut  flip       metal_nut/test/flip/000.png:L     metal_nut/ground_truth/flip/000_mask.png
        test   metal_nut  good       metal_nut/test/good/000.png:L
        train  metal_nut  good       metal_nut/train/good/000.png:L
        """,
        strays=("mvtec_anomaly_detection/bottle/ground_truth/broken_large/001_mask.png", "examples/overview.png"),
        problems=(half,),
        meta=True,
    )
    visa_rows = """
        test   candle  anomaly  candle/Data/Images/Anomaly/000.JPG  candle/Data/Masks/Anomaly/000.png:ids
        test   candle  good     candle/Data/Images/Normal/0004.JPG
        train  candle  good     candle/Data/Images/Normal/0005.JPG
        test   pipe_fryum  anomaly  pipe_fryum/Data/Images/Anomaly/007.JPG  pipe_fryum/Data/Masks/Anomaly/007.png:ids
        test   pipe_fryum  good     pipe_fryum/Data/Images/Normal/0007.JPG
        """
    yield Miniature(
        *("visa", "original", "VisA_20220922", "original with split_csv/1cls.csv"),
        visa_rows,
        strays=("VisA_20220922/candle/Data/Images/Anomaly/999.JPG", "VisA_20220922/candle/Data/Masks/Anomaly/.0.png"),
        texts={
            "split_csv/1cls.csv": "object,split,label,image,mask\n"
            "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
            "candle,test,normal,candle/Data/Images/Normal/0004.JPG, \n"
            "candle,train,normal,candle/Data/Images/Normal/0005.JPG,\n"
            "pipe_fryum,test,anomaly,pipe_fryum/Data/Images/Anomaly/007.JPG,"
            "pipe_fryum/Data/Masks/Anomaly/007.png\n"
            "pipe_fryum,test,normal,pipe_fryum/Data/Images/Normal/0007.JPG,\n",
            "split_csv/2cls_fewshot.csv": "object,split,label,image,mask\n",
        },
        problems=(half,),
        meta=True,
    )
    yield Miniature(
        *("visa", "rearranged", "VisA_pytorch/1cls", tree),
        """
        test   candle  bad   candle/test/bad/000.JPG  candle/ground_truth/bad/000.png:ids
        test   candle  good  candle/test/good/0004.JPG
        train  candle  good  candle/train/good/0005.JPG
        test   pcb4    bad   pcb4/test/bad/000.JPG    pcb4/ground_truth/bad/000.png:ids
        """,
        problems=(half,),
    )
    yield Miniature(
        *("mpdd", "original", "MPDD", tree),
        """
        test   bracket_black  good  bracket_black/test/good/000.png
        test   bracket_black  hole  bracket_black/test/hole/000.png  bracket_black/ground_truth/hole/000_mask.png
        test   tubes  anomalous  tubes/test/anomalous/000.png  tubes/ground_truth/anomalous/000.png
        test   tubes  anomalous  tubes/test/anomalous/010.png  tubes/ground_truth/anomalous/010_mask.png
        train  tubes  good       tubes/train/good/000.png
        """,
        strays=("MPDD/tubes/ground_truth/anomalous/005.png",),
        problems=(half,),
        meta=True,
    )
    yield Miniature(
        *("btad", "original", "btad/BTech_Dataset_transformed", tree),
        """
        train  01  good  01/train/ok/0000.bmp
        test   01  good  01/test/ok/0003.bmp
        test   01  ko    01/test/ko/0000.bmp  01/ground_truth/ko/0000.png
        test   01  ko    01/test/ko/0002.bmp  01/ground_truth/ko/0002.png
        test   02  good  02/test/ok/0000.png
        test   02  ko    02/test/ko/0000.png  02/ground_truth/ko/0000.png
        test   03  good  03/test/ok/0000.bmp
        test   03  ko    03/test/ko/0000.bmp  03/ground_truth/ko/0000.bmp
        """,
        strays=("btad/BTech_Dataset_transformed/01/ground_truth/ko/0001.png",),
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("sdd", "original", "KolektorSDD", "original, all parts as test"),
        """
        test  electrical_commutators  defect  kos01/Part5.jpg  kos01/Part5_label.bmp
        test  electrical_commutators  good    kos01/Part0.jpg
        test  electrical_commutators  good    kos50/Part1.jpg
        test  electrical_commutators  defect  kos50/Part2.jpg  kos50/Part2_label.bmp:ids
        """,
        strays=("KolektorSDD/kos01/Part0_label.bmp:black", "KolektorSDD/kos50/Part1_label.bmp:black"),
    )
    for folder in ("electrical commutators", "electrical_commutators"):
        test, truth = f"{folder}/test", f"{folder}/ground_truth"
        yield Miniature(
            *("sdd", folder.replace("electrical", "authors"), "SDD", "authors' re-cut copy"),
            f"""
            test   electrical_commutators  defect  {test}/defect/kos01_Part5.jpg  {truth}/defect/kos01_Part5.png
            test   electrical_commutators  good    {test}/good/kos01_Part0.jpg
            train  electrical_commutators  good    {folder}/train/good/kos02_Part0.jpg
            """,
            strays=("SDD/kos01/Part0.jpg",),
            meta=True,
        )
    dagm_rows = """
        train  Class1   defect  Class1/Train/0001.PNG:L  Class1/Train/Label/0001_label.PNG
        train  Class1   good    Class1/Train/0002.PNG:L
        test   Class1   defect  Class1/Test/0576.PNG:L   Class1/Test/Label/0576_label.PNG
        test   Class1   good    Class1/Test/0577.PNG:L
        test   Class2   good    Class2/Test/0577.PNG:L
        test   Class10  defect  Class10/Test/0003.PNG:L  Class10/Test/Label/0003_label.PNG
        """
    dagm_texts = {"Class1/Test/Label/Labels.txt": "1\n576 1 0576.PNG 1 0576_label.PNG\n"}
    strays = ("{}/Class1/Test/Label/0576_label_old.PNG", "{}/Class1/Test/Label/0575_label.PNG")
    for layout, folder, meta in (("original", "archive", False), ("authors", "DAGM_KaggleUpload", True)):
        yield Miniature(
            *("dagm", layout, folder, "original", dagm_rows),
            strays=tuple(stray.format(folder) for stray in strays),
            texts=dagm_texts,
            problems=(half,),
            meta=meta,
        )
    yield Miniature(
        *("dtd_synthetic", "original", "DTD-Synthetic", tree),
        """
        train  Woven_001   good  Woven_001/train/good/00.png
        test   Woven_001   bad   Woven_001/test/bad/01.png     Woven_001/ground_truth/bad/01_mask.png
        test   Woven_001   good  Woven_001/test/good/02.png
        test   Matted_069  bad   Matted_069/test/bad/000.png   Matted_069/ground_truth/bad/000_mask.png
        """,
        strays=("DTD-Synthetic/Woven_001/ground_truth/bad/00_mask.png",),
        problems=(half,),
        meta=True,
    )
    yield Miniature(
        *("headct", "original", "head-ct-hemorrhage", "original with labels.csv"),
        """
        test  brain  anomaly  head_ct/head_ct/000.png
        test  brain  anomaly  head_ct/head_ct/002.png:RGBA
        test  brain  good     head_ct/head_ct/100.png:L
        """,
        texts={"labels.csv": "id, hemorrhage\n0,1\n2,1\n100,0\n"},
        problems=(counts,),
    )
    yield Miniature(
        *("headct", "authors", "HeadCT_anomaly_detection", tree),
        """
        test   brain  hemorrhage  brain/test/hemorrhage/000.png
        test   brain  good        brain/test/good/100.png:RGBA
        train  brain  good        brain/train/good/101.png
        """,
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("brainmri", "original", "archive", "class folders"),
        """
        test  brain  good   no/1 no.jpeg
        test  brain  good   no/2 no.JPG:L
        test  brain  tumor  yes/Y1.jpg
        test  brain  tumor  yes/Y2.JPG:L
        test  brain  tumor  yes/Y3.png:RGBA
        test  brain  tumor  yes/Y4.png:P
        """,
        strays=("archive/brain_tumor_dataset/no/1 no.jpeg", "archive/brain_tumor_dataset/yes/Y1.jpg"),
        problems=(counts,),
    )
    yield Miniature(
        *("brainmri", "authors", "BrainMRI/brain_tumor_dataset", "class folders"),
        """
        test  brain  good   no/no 1.jpg
        test  brain  tumor  yes/Y1.JPG
        """,
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("br35h", "original", "Br35H", "class folders"),
        """
        test  brain  good   no/no0.jpg
        test  brain  tumor  yes/y0.jpg
        test  brain  tumor  yes/y1.jpg
        """,
        strays=("Br35H/pred/pred0.jpg", "Br35H/Br35H-Mask-RCNN/TRAIN/y0.jpg", "Br35H/Br35H-Mask-RCNN/y1.jpg"),
        texts={"Br35H-Mask-RCNN/annotations_all.json": "{}"},
    )
    yield Miniature(
        *("br35h", "authors", "br35", "class folders"),
        """
        test  brain  good   no/no0.jpg
        test  brain  tumor  yes/y0.jpg
        """,
        meta=True,
    )
    covid = "COVID-19_Radiography_Dataset"
    yield Miniature(
        *("covid19", "today", covid, "today's release"),
        """
        test  chest  good   Normal/images/Normal-1.png
        test  chest  covid  COVID/images/COVID-1.png
        test  chest  covid  COVID/images/COVID-2.png:L
        """,
        strays=(
            *(f"{covid}/COVID/masks/COVID-{number}.png" for number in (1, 2)),
            f"{covid}/Normal/masks/Normal-1.png",
            f"{covid}/Lung_Opacity/images/Lung_Opacity-1.png",
            f"{covid}/Viral Pneumonia/images/Viral Pneumonia-1.png",
        ),
    )
    yield Miniature(
        *("covid19", "authors", covid, "first release"),
        """
        test  chest  good   NORMAL/NORMAL (1).png
        test  chest  covid  COVID-19/COVID-19 (1).png
        """,
        strays=(f"{covid}/Viral Pneumonia/Viral Pneumonia (1).png",),
        meta=True,
    )
    truth = "ISBI2016_ISIC_Part1_Test_GroundTruth"
    yield Miniature(
        *("isic", "original", "ISIC", pairs),
        f"""
        test  skin  lesion  ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg  {truth}/ISIC_0000003_Segmentation.png
        test  skin  lesion  ISBI2016_ISIC_Part1_Test_Data/ISIC_0000012.jpg  {truth}/ISIC_0000012_Segmentation.png
        """,
        strays=(
            f"ISIC/{truth}/ISIC_0000007_Segmentation.png",
            "ISIC/ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg",
        ),
    )
    yield Miniature(
        *("isic", "authors", "ISBI/skin", authors),
        f"""
        test  skin  lesion  test/bad/ISIC_0000003.jpg  {truth}/ISIC_0000003_Segmentation.png
        test  skin  lesion  test/bad/ISIC_0000012.jpg  {truth}/ISIC_0000012_Segmentation.png
        """,
        strays=(f"ISBI/skin/{truth}/ISIC_0000007_Segmentation.png",),
        meta=True,
    )
    yield Miniature(
        *("colondb", "authors", "CVC-ColonDB", pairs),
        """
        test  colon  polyp  images/1.png    masks/1.png
        test  colon  polyp  images/100.png  masks/100.png
        test  colon  polyp  images/2.png    masks/2.png:levels
        """,
        strays=("CVC-ColonDB/masks/10.png", "CVC-ColonDB/bbox/1.png"),
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("clinicdb", "original", "CVC-ClinicDB", "original"),
        """
        test  colon  polyp  Original/1.tif:minisblack   Ground Truth/1.tif
        test  colon  polyp  Original/10.tif:minisblack  Ground Truth/10.tif:minisblack
        test  colon  polyp  Original/2.tif              Ground Truth/2.tif:levels
        """,
        strays=("CVC-ClinicDB/Ground Truth/100.tif",),
        problems=(counts,),
    )
    yield Miniature(
        *("clinicdb", "png_and_tif", "archive/PNG", "original"),
        """
        test  colon  polyp  Original/1.png  Ground Truth/1.png:levels
        test  colon  polyp  Original/2.png  Ground Truth/2.png
        """,
        strays=("archive/TIF/Original/1.tif:RGB", "archive/TIF/Ground Truth/1.tif"),
        texts={"../metadata.csv": "frame_id,png_image_path\n1,PNG/Original/1.png\n"},
        problems=(counts,),
    )
    yield Miniature(
        *("clinicdb", "authors", "CVC-ClinicDB", pairs),
        """
        test  colon  polyp  images/1.png  masks/1.png:levels
        test  colon  polyp  images/2.png  masks/2.png:RGB
        """,
        strays=("CVC-ClinicDB/masks/10.png",),
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("kvasir", "original", "Kvasir-SEG", pairs),
        """
        test  colon  polyp  images/cju0qkwl35piu0993l0dewei2.jpg  masks/cju0qkwl35piu0993l0dewei2.jpg:jpeg
        test  colon  polyp  images/cju0t4oil7vzk099370nun5h9.jpg  masks/cju0t4oil7vzk099370nun5h9.jpg:jpeg
        """,
        strays=("Kvasir-SEG/masks/cju0r.jpg:jpeg",),
        texts={"kavsir_bboxes.json": "{}"},
        problems=(counts,),
    )
    yield Miniature(
        *("kvasir", "authors", "Kvasir", pairs),
        """
        test  colon  polyp  images/1.png  masks/1.png
        test  colon  polyp  images/2.png  masks/2.png:levels
        """,
        strays=("Kvasir/masks/10.png",),
        problems=(counts,),
        meta=True,
    )
    yield Miniature(
        *("endo", "authors", "EndoTect_2020_Segmentation_Test_Dataset", pairs),
        """
        test  colon  polyp  images/ckcu8ty6z00003b5yzfaezbs5.jpg  masks/ckcu8ty6z00003b5yzfaezbs5.jpg:jpeg
        test  colon  polyp  images/ckcu94ichw2xm0749z6k5l5tx.jpg  masks/ckcu94ichw2xm0749z6k5l5tx.png
        """,
        strays=("EndoTect_2020_Segmentation_Test_Dataset/masks/ckcu9.png",),
        meta=True,
    )
    yield Miniature(
        *("tn3k", "authors", "Thyroid Dataset/tn3k", pairs),
        """
        test   thyroid  nodule  test-image/0000.jpg      test-mask/0000.jpg:jpeg
        test   thyroid  nodule  test-image/0002.jpg      test-mask/0002.jpg:jpeg
        train  thyroid  nodule  trainval-image/0000.jpg  trainval-mask/0000.jpg:jpeg
        """,
        strays=("Thyroid Dataset/tn3k/test-mask/0001.jpg:jpeg", "Thyroid Dataset/DDTI/p_image/0000.png"),
        texts={"tn3k-trainval-fold0.json": "{}"},
        problems=(counts,),
        meta=True,
    )
    yield from _beyond_the_paper(tree)
    yield from _own_folders(tree, pairs)


def _beyond_the_paper(tree: str) -> Iterator[Miniature]:
    half = "has no images of"
    box, truth = "breakfast_box/test", "breakfast_box/ground_truth"
    logical, structural = "logical_anomalies", "structural_anomalies"
    yield Miniature(
        *("mvtec_loco", "original", "mvtec_loco_anomaly_detection", tree),
        f"""
        train       breakfast_box  good  breakfast_box/train/good/000.png
        validation  breakfast_box  good  breakfast_box/validation/good/000.png
        test        breakfast_box  good  {box}/good/000.png
        test        breakfast_box  {logical}  {box}/{logical}/000.png  {truth}/{logical}/000
        test        breakfast_box  {logical}  {box}/{logical}/001.png  {truth}/{logical}/001
        test        breakfast_box  {structural}  {box}/{structural}/000.png  {truth}/{structural}/000
        test        pushpins       good  pushpins/test/good/000.png
        """,
        problems=(half,),
    )
    public = "can/test_public"
    yield Miniature(
        *("mvtec_ad_2", "original", "mvtec_ad_2", tree),
        f"""
        train       can  good  can/train/good/000_regular.png
        validation  can  good  can/validation/good/000_regular.png
        test        can  good  can/test_public/good/000_regular.png
        test        can  bad   {public}/bad/000_regular.png  {public}/ground_truth/bad/000_regular_mask.png
        test        vial  good  vial/test_public/good/000_shift_1.png
        """,
        strays=("mvtec_ad_2/can/test_private/000.png",),
        problems=(half,),
    )
    yield Miniature(
        *("mvtec_3d", "original", "mvtec_3d_anomaly_detection", tree),
        """
        train  bagel  good   bagel/train/good/rgb/000.png
        test   bagel  good   bagel/test/good/rgb/000.png
        test   bagel  crack  bagel/test/crack/rgb/000.png  bagel/test/crack/gt/000.png
        test   rope   good   rope/test/good/rgb/000.png
        """,
        strays=("mvtec_3d_anomaly_detection/bagel/test/crack/xyz/000.tiff",),
        problems=(half,),
    )
    yield Miniature(
        *("sdd2", "original", "KolektorSDD2", "original"),
        """
        train  surface  defect  train/10000.png  train/10000_GT.png
        test   surface  defect  test/20000.png   test/20000_GT.png
        test   surface  good    test/20001.png
        """,
        strays=("KolektorSDD2/test/20001_GT.png:black",),
    )


def _own_folders(tree: str, pairs: str) -> Iterator[Miniature]:
    yield Miniature(
        *("folder", "categories", "", tree),
        """
        train  M_4_bolts  good  M 4 bolts/train/good/a.png
        test   M_4_bolts  good  M 4 bolts/test/OK/a.png
        test   M_4_bolts  dent  M 4 bolts/test/dent/a.webp  M 4 bolts/ground_truth/dent/a.png
        test   nuts       rust  nuts/test/rust/b.TIFF       nuts/ground_truth/rust/b_mask.gif
        test   nuts       rust  nuts/test/rust/c.TIFF
        """,
        strays=("overview.png",),
    )
    yield Miniature(
        *("folder", "one_category", "", tree),
        """
        train  own  good  train/good/a.png
        test   own  good  test/good/a.png
        test   own  dent  test/dent/a.png  ground_truth/dent/a_mask.png
        """,
    )
    yield Miniature(
        *("folder", "types", "", "type folders"),
        """
        test  own  good     Good/a.jpg
        test  own  scratch  scratch/a.JPEG
        test  own  hole     hole/a.png:P
        """,
    )
    yield Miniature(
        *("folder", "types_and_masks", "", "type folders"),
        """
        test  own  good     normal/a.jpg
        test  own  scratch  scratch/a.jpg  Masks/scratch/a.png
        test  own  scratch  scratch/b.jpg  Masks/scratch/b_mask.jpg:jpeg
        test  own  hole     hole/a.jpg
        """,
        strays=("Masks/scratch/aa.png",),
    )
    yield Miniature(
        *("folder", "masks_beside", "", tree),
        """
        test  own  good  test/Non Defective/a.png
        test  own  NG    test/NG/a.png   test/NG_masks/a.png
        test  own  NG    test/NG/B.png   test/NG_masks/b_GT.png
        test  own  dent  test/dent/a.jpg  test/dent/a-mask.png
        """,
    )
    yield Miniature(
        *("folder", "images_with_masks", "", pairs),
        """
        test  own  anomaly  a.jpg  a_seg.png
        test  own  anomaly  b.jpg  B_Label.PNG
        test  own  good     c.jpg
        """,
    )
    yield Miniature(
        *("folder", "images_and_masks", "", pairs),
        """
        test  own  anomaly  images/a.jpg  masks/a.png
        test  own  good     images/b.jpg
        test  own  good     images/c.jpg
        """,
        strays=("masks/b.png:black", "masks/ab.png"),
    )
    yield Miniature(
        *("folder", "flat", "", "flat folder"),
        """
        test  own  ?  a.jpg
        test  own  ?  b.PNG:RGBA
        """,
    )


MINIATURES = {miniature.id: miniature for miniature in _table()}
