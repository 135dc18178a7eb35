# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on your own images, and choose a threshold for them.

    python examples/own_data.py [--table examples/samples.csv] [--model FOLDER_OR_HUB_ID]

The table has a row per image: `image` and `mask` are paths relative to it (no mask for a normal image), `label` is
"normal" or "anomalous". Any Hugging Face dataset with such columns works the same way.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from datasets import Dataset, Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer, evaluate_model


SAMPLES = Path(__file__).parent / "samples.csv"


def load_table(table: Path) -> Dataset:
    """Make a dataset with the columns `image`, `mask` and `label`."""
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {
        "image": [str(table.parent / row["image"]) for row in rows],
        "mask": [str(table.parent / row["mask"]) if row["mask"] else None for row in rows],
        "label": [int(row["label"] == "anomalous") for row in rows],
    }
    return Dataset.from_dict(columns).cast_column("image", Image()).cast_column("mask", Image())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=SAMPLES)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id; default: the demonstration model")
    args = parser.parse_args()
    dataset = load_table(args.table)

    # 1. How well the model separates and localises the anomalies
    evaluation = evaluate_model(args.model, dataset)
    for name in ("image_auroc", "pixel_auroc"):
        print(f"{name}: {evaluation.metrics[name]:.3f}")

    # 2. A threshold for these images: above 95 % of the normal ones
    scores = np.array([result.score for result in AnomalyScorer(args.model).score(dataset)])
    normal = scores[np.array(dataset["label"]) == 0]
    print(f"threshold: {np.quantile(normal, 0.95):.3f}")


if __name__ == "__main__":
    main()
