# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Generate the images and masks in `examples/`, from families that the default model is not trained on.

python tools/default_model/make_images.py --output examples
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from defects import apply_defect
from surfaces import draw_family


SIZE = 320
# Name of the file, family, kind of defect, and a seed that gives a clearly visible defect.
SAMPLES = (
    ("gear_scratched", "gear", "scratch", 1),
    ("solar_cell_cracked", "solar_cell", "crack", 2),
    ("corrugated_stained", "corrugated", "stain", 3),
    ("capsule_contaminated", "capsule", "contamination", 4),
    ("foam_holed", "foam", "hole", 5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the folders images and masks")
    args = parser.parse_args()
    images, masks = args.output / "images", args.output / "masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for name, family, kind, seed in SAMPLES:
        rng = np.random.default_rng(seed)
        image, foreground = draw_family(family, rng, SIZE, SIZE)
        damaged, mask, _ = apply_defect(image, foreground, rng, kind)
        Image.fromarray(image).save(images / f"{family}.png", optimize=True)
        Image.fromarray(damaged.round().clip(0, 255).astype(np.uint8)).save(images / f"{name}.png", optimize=True)
        Image.fromarray(mask).save(masks / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
