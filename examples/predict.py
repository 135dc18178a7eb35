# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score images from Python and save their heat maps.

    python examples/predict.py photos/*.jpg --output-dir heatmaps [--model FOLDER_OR_HUB_ID]

An image that cannot be read gets a line with its error, and the others are still scored.
"""

import argparse
from pathlib import Path

from PIL import Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id; default: the demonstration model")
    parser.add_argument("--output-dir", type=Path, default=Path("heatmaps"))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)

    scorer = AnomalyScorer(args.model, batch_size=8)
    for result in scorer.score(args.images):  # one after another, in bounded memory
        if result.error:
            print(f"{result.source}: {result.error}")
            continue
        print(f"{result.source}: {result.score:.3f} {result.label}")
        heat_map = Image.fromarray(result.anomaly_map)  # float32, 0 to the number of selected layers
        heat_map.save(args.output_dir / f"{Path(result.source).stem}.tiff")


if __name__ == "__main__":
    main()
