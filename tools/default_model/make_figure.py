# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Put the sample images above their overlays, as the README shows.

anomalyclip predict examples/images --output-dir heatmaps
python tools/default_model/make_figure.py --heatmaps heatmaps --output docs/images/samples.png
"""

import argparse
from pathlib import Path

from PIL import Image


EXAMPLES = Path(__file__).parents[2] / "examples"
SIDE, GAP = 200, 6  # pixels


def resized(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGB")
    return picture.resize((SIDE, round(SIDE * picture.height / picture.width)), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, default=EXAMPLES, help="folder with images and masks")
    parser.add_argument("--heatmaps", type=Path, required=True, help="folder written by `anomalyclip predict`")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    images = [args.examples / "images" / mask.name for mask in sorted((args.examples / "masks").glob("*.png"))]
    columns = [[resized(path), resized(args.heatmaps / f"{path.stem}_overlay.jpg")] for path in images]
    height = SIDE + GAP + max(overlay.height for _, overlay in columns)
    figure = Image.new("RGB", (len(images) * (SIDE + GAP) - GAP, height), "white")
    for column, pictures in enumerate(columns):
        for row, picture in enumerate(pictures):
            figure.paste(picture, (column * (SIDE + GAP), row * (SIDE + GAP)))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.save(args.output, optimize=True)


if __name__ == "__main__":
    main()
