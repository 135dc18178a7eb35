# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure the time to list a dataset of MVTec AD's size: 5,354 images in 15 categories, 1,258 masks.

    python benchmarks/listing.py [--folder WHERE_IT_IS]

Prints the time of `load_anomaly_dataset` (listing, pairing masks, building the table) for the first time and again,
and of the general image-folder loader of `datasets` on the same folder, which pairs no masks.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
from PIL import Image

from anomalyclip_hf import load_anomaly_dataset
from anomalyclip_hf.data.catalogue import MVTEC_CATEGORIES


TRAIN, GOOD, ANOMALOUS = 3629, 467, 1258  # MVTec AD's numbers of images
TYPES = 5


def make_folder(root: Path) -> None:
    """Write small grey images in MVTec AD's layout and number, spread evenly over categories and types."""
    image = root / "template.png"
    Image.new("RGB", (64, 64), "grey").save(image)
    for total, places in (
        (TRAIN, ["train/good"]),
        (GOOD, ["test/good"]),
        (ANOMALOUS, [f"test/type{number}" for number in range(TYPES)]),
    ):
        folders = [(category, place) for category in MVTEC_CATEGORIES for place in places]
        for number in range(total):
            category, place = folders[number % len(folders)]
            stem = f"{number // len(folders):03}"
            targets = [root / category / place / f"{stem}.png"]
            if total == ANOMALOUS:
                targets.append(root / category / place.replace("test", "ground_truth") / f"{stem}_mask.png")
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(image, target)
    image.unlink()


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="MVTec AD itself; default: a folder of its size is made")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch) / "mvtec"
        if args.folder is None:
            folder.mkdir()
            make_folder(folder)

        def load() -> list[int]:
            splits = ("train", "test")
            return [len(load_anomaly_dataset("mvtec", folder, split)) for split in splits]

        first, again = seconds(load), seconds(load)
        general = seconds(
            lambda: datasets.load_dataset("imagefolder", data_dir=str(folder), drop_labels=True, cache_dir=scratch)
        )
        print(f"{sum(load())} images, both splits")
        print(f"first load {first:.2f} s, again {again:.2f} s, imagefolder {general:.2f} s")
        print(f"ratio first load / imagefolder {first / general:.2f}")


if __name__ == "__main__":
    main()
