# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on the paper's 17 datasets and print its tables beside the published values.

    python reproduce_paper.py --model anomalyclip-vit-l --trained-on mvtec --data-dir data --output-dir reproduction

`--data-dir` holds one folder per dataset and nothing else. `anomalyclip datasets --data-dir data` lists what is found;
missing datasets are left out. The same command continues an interrupted run. Under `accelerate launch
reproduce_paper.py …` the processes share the work. As in the paper, a model trained on MVTec AD is tested on all other
datasets, and one trained on VisA on MVTec AD.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from anomalyclip_hf import evaluate_model, load_anomaly_dataset


METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_aupro_published": "AUPRO pub.",
}
DTYPES = ("float32", "bfloat16", "float16")
# AnomalyCLIP, ICLR 2024, tables 1 and 2, in percent, as later papers quote them; COVID-19 was found in none.
INDUSTRIAL: dict[str, tuple[float | None, ...]] = {
    "mvtec": (91.5, 96.2, 91.1, 81.4),
    "visa": (82.1, 85.4, 95.5, 87.0),
    "mpdd": (77.0, 82.0, 96.5, 88.7),
    "btad": (88.3, 87.3, 94.2, 74.8),
    "sdd": (84.7, 80.0, 90.6, 67.8),
    "dagm": (97.5, 92.3, 95.6, 91.0),
    "dtd_synthetic": (93.5, 97.0, 97.9, 92.3),
}
MEDICAL: dict[str, tuple[float | None, ...]] = {
    "headct": (93.4, 91.6, None, None),
    "brainmri": (90.3, 92.2, None, None),
    "br35h": (94.6, 94.7, None, None),
    "covid19": (None, None, None, None),
    "isic": (None, None, 89.7, 78.4),
    "colondb": (None, None, 81.9, 71.3),
    "clinicdb": (None, None, 82.9, 67.8),
    "kvasir": (None, None, 78.9, 45.6),
    "endo": (None, None, 84.1, 63.6),
    "tn3k": (None, None, 81.5, 50.4),
}
PUBLISHED = INDUSTRIAL | MEDICAL


def find(name: str, data_dir: Path) -> Dataset | None:
    """Return one of the paper's datasets, read as in the paper's code; `None` where it is not there."""
    try:
        return load_anomaly_dataset(name, data_dir, mask_rule="nonzero")
    except FileNotFoundError:
        return None


def evaluate_one(name: str, dataset: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """Return the metrics of one dataset, from results.json if an earlier run has finished it."""
    output_dir = args.output_dir / name
    results = output_dir / "results.json"
    if results.exists():
        summary = json.loads(results.read_text())
        if summary["model"] != args.model:
            raise ValueError(f"{results} is of {summary['model']}, not of {args.model}; choose another --output-dir.")
        return summary["metrics"]
    return evaluate_model(
        args.model,
        dataset,
        output_dir=output_dir,
        metrics=list(METRICS),
        batch_size=args.batch_size,
        device=args.device,
        dtype=args.dtype,
        dataset_name=name,
    ).metrics


def print_tables(metrics: dict[str, dict[str, Any]]) -> None:
    """Print the paper's tables 1 (industrial) and 2 (medical): our value, and the published one in brackets."""

    def cell(value: float | None, published: float | None) -> str:
        ours = "–" if value is None else f"{100 * value:.1f}"
        return f"{ours} ({'–' if published is None else published})"

    console = Console()
    for domain, published in (("industrial", INDUSTRIAL), ("medical", MEDICAL)):
        table = Table("dataset", *METRICS.values(), title=f"{domain}: ours (published)")
        for name in filter(metrics.__contains__, published):
            values = [metrics[name][metric] for metric in METRICS]
            table.add_row(name, *map(cell, values, published[name]))
        if table.row_count:
            console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument(
        "--trained-on", choices=["mvtec", "visa"], required=True, help="what its prompts were trained on"
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with one folder per dataset")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PUBLISHED, help="datasets to use; default: the paper's")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    args = parser.parse_args()
    wanted = args.only or (["mvtec"] if args.trained_on == "visa" else [name for name in PUBLISHED if name != "mvtec"])
    datasets = {name: find(name, args.data_dir) for name in wanted}
    absent = [name for name, dataset in datasets.items() if dataset is None]
    if len(absent) == len(wanted):
        parser.error(f"{args.data_dir} contains none of {', '.join(wanted)}.")
    metrics = {name: evaluate_one(name, dataset, args) for name, dataset in datasets.items() if dataset is not None}
    if PartialState().is_main_process:
        print_tables(metrics)
        if absent:
            print(f"not found in {args.data_dir}: {', '.join(absent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
