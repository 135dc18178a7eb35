# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluate a model on the paper's 17 data sets and print its tables with the published figures beside ours.

    python reproduce_paper.py --model anomalyclip-vit-l --trained-on mvtec --data-dir data --output-dir reproduction

`--data-dir` holds one folder a data set; `anomalyclip datasets --data-dir data` says what is found, and what is not
there is left out. A run that was stopped goes on; under `accelerate launch reproduce_paper.py …` processes share the
work. The paper tests what was trained on MVTec AD everywhere else, and on MVTec AD what was trained on VisA.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from anomalyclip_hf.cli.evaluate import load_rows, load_scorer
from anomalyclip_hf.cli.messages import print_error
from anomalyclip_hf.cli.options import Dtype
from anomalyclip_hf.data.catalogue import CATALOGUE, PAPER_DATASETS
from anomalyclip_hf.data.listing import find_dataset
from anomalyclip_hf.evaluation.evaluating import run, write_results
from anomalyclip_hf.evaluation.report import TITLES
from anomalyclip_hf.io.processes import process_state


FIGURES = ["image_auroc", "image_ap", "pixel_auroc", "pixel_aupro_published"]
# AnomalyCLIP, ICLR 2024, tables 1 and 2, in percent, as later papers quote them; COVID-19 was found in none.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "mvtec": (91.5, 96.2, 91.1, 81.4),
    "visa": (82.1, 85.4, 95.5, 87.0),
    "mpdd": (77.0, 82.0, 96.5, 88.7),
    "btad": (88.3, 87.3, 94.2, 74.8),
    "sdd": (84.7, 80.0, 90.6, 67.8),
    "dagm": (97.5, 92.3, 95.6, 91.0),
    "dtd_synthetic": (93.5, 97.0, 97.9, 92.3),
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


def evaluate_one(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    """Results of one data set: evaluated now, or read if an earlier run with this model has finished it."""
    output_dir = args.output_dir / name
    results = output_dir / "results.json"
    if results.exists():
        summary = json.loads(results.read_text())
        if summary["model"] != args.model:
            raise ValueError(f"{results} is of {summary['model']}, not of {args.model}; choose another --output-dir.")
        return summary["metrics"]
    rows = load_rows(name, str(folder), "test", None, {"mask_rule": "nonzero"})
    # Where no image has a mask, maps need no counting.
    count_pixels = CATALOGUE[name].has_masks
    scorer = load_scorer(args.model, args.device, Dtype(args.dtype), rows, "model", "skip", count_pixels)
    evaluation = run(scorer, output_dir, args.batch_size)
    if evaluation is None:
        return None
    dataset = {"name": name, "split": "test", "description": rows.info.description}
    settings = {"resolution": "model", "paper_masks": True, "aupro_limit": 0.3, "dtype": args.dtype}
    described = {"model": args.model, "dataset": dataset, "settings": settings}
    return write_results(output_dir, evaluation, scorer, FIGURES, **described)["metrics"]


def print_tables(figures: dict[str, dict[str, Any]]) -> None:
    """The paper's tables 1 (industrial) and 2 (medical): ours, and the published figure in brackets."""

    def cell(value: float | None, published: float | None) -> str:
        ours = "–" if value is None else f"{100 * value:.1f}"
        return f"{ours} ({'–' if published is None else published})"

    console = Console()
    for domain in ("industrial", "medical"):
        table = Table("data set", *(TITLES[figure] for figure in FIGURES), title=f"{domain}: ours (published)")
        for name, found in figures.items():
            if CATALOGUE[name].domain == domain:
                cells = (cell(found[figure], paper) for figure, paper in zip(FIGURES, PUBLISHED[name], strict=True))
                table.add_row(name, *cells)
        if table.row_count:
            console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or Hub id")
    parser.add_argument(
        "--trained-on", choices=["mvtec", "visa"], required=True, help="what its prompts were trained on"
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with one folder a data set")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=PAPER_DATASETS, help="these data sets; default: the paper's")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="")
    parser.add_argument("--dtype", choices=list(Dtype), default="float32")
    args = parser.parse_args()
    wanted = args.only or (["mvtec"] if args.trained_on == "visa" else [n for n in PAPER_DATASETS if n != "mvtec"])
    folders = {name: find_dataset(name, args.data_dir) for name in wanted}
    if not any(folders.values()):
        parser.error(f"{args.data_dir} holds none of {', '.join(wanted)}.")
    figures = {}
    for name, folder in folders.items():
        if folder is None:
            continue
        found = evaluate_one(name, folder, args)
        if found is not None:
            figures[name] = found
    if process_state().is_main_process:
        print_tables(figures)
        if absent := [name for name, folder in folders.items() if folder is None]:
            print_error(f"not found in {args.data_dir}: {', '.join(absent)}")


if __name__ == "__main__":
    main()
