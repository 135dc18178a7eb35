# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Draw the sample images of `examples/images`, from families that the default model is not trained on.

python make_images.py --images ../../examples/images --masks ../../examples/masks
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from defects import apply_defect
from surfaces import draw_family


SIZE = 320
# Name of the file, family, kind of defect, and a seed that gives a defect one can see at a glance.
SAMPLES = (
    ("gear_scratched", "gear", "scratch", 1),
    ("solar_cell_cracked", "solar_cell", "crack", 2),
    ("corrugated_stained", "corrugated", "stain", 3),
    ("capsule_contaminated", "capsule", "contamination", 4),
    ("foam_holed", "foam", "hole", 5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    args = parser.parse_args()
    args.images.mkdir(parents=True, exist_ok=True)
    args.masks.mkdir(parents=True, exist_ok=True)
    for name, family, kind, seed in SAMPLES:
        rng = np.random.default_rng(seed)
        image, foreground = draw_family(family, rng, SIZE, SIZE)
        damaged, mask, _ = apply_defect(image, foreground, rng, kind)
        Image.fromarray(image).save(args.images / f"{family}.png", optimize=True)
        Image.fromarray(damaged.round().clip(0, 255).astype(np.uint8)).save(args.images / f"{name}.png", optimize=True)
        Image.fromarray(mask).save(args.masks / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
