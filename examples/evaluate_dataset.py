# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on a dataset from Python: print its metrics and write a report.

    python examples/evaluate_dataset.py visa data/VisA --model FOLDER_OR_HUB_ID --output-dir evaluation

Run it again to resume an interrupted evaluation. Under `accelerate launch examples/evaluate_dataset.py …` several
processes share the images and give the same metrics.
"""

import argparse
from pathlib import Path

from anomalyclip_hf import DEFAULT_MODEL, evaluate_model, load_anomaly_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name that `anomalyclip datasets` lists")
    parser.add_argument("data_dir", help="folder of the dataset")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id; default: the demonstration model")
    parser.add_argument("--output-dir", type=Path, default=Path("evaluation"))
    args = parser.parse_args()

    dataset = load_anomaly_dataset(args.dataset, args.data_dir, split="test")
    evaluation = evaluate_model(args.model, dataset, output_dir=args.output_dir)
    for category, metrics in evaluation.metrics["per_category"].items():
        print(category, {name: round(value, 3) for name, value in metrics.items() if value is not None})
    print(f"report: {args.output_dir / 'report.html'}")


if __name__ == "__main__":
    main()
