# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Put images above the overlays that `anomalyclip predict` wrote for them, as the README shows.

anomalyclip predict ../../examples/images --output-dir heatmaps
python make_figure.py --images ../../examples/images --masks ../../examples/masks \
        --heatmaps heatmaps --output ../../docs/images/samples.png
"""

import argparse
from pathlib import Path

from PIL import Image


SIDE, GAP = 200, 6  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--heatmaps", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    images = [args.images / mask.name for mask in sorted(args.masks.glob("*.png"))]  # the defective ones
    figure = Image.new("RGB", (len(images) * (SIDE + GAP) - GAP, 2 * SIDE + GAP), "white")
    for column, path in enumerate(images):
        for row, source in enumerate((path, args.heatmaps / f"{path.stem}_overlay.png")):
            picture = Image.open(source).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            figure.paste(picture, (column * (SIDE + GAP), row * (SIDE + GAP)))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.save(args.output, optimize=True)


if __name__ == "__main__":
    main()
