# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What each part of AnomalyCLIP is worth: train on one thing, test on another, several seeds, one part changed a row.

    python ablation.py --train ball_screw --train-object "ball screw" --test pcb --test-object "circuit board"

Folders in any layout that `load_anomaly_dataset("folder", …)` reads. At the demonstration model's scale a row takes
some ten seconds a seed; a real CLIP is given by --base-model. Prints mean and standard deviation over the seeds.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import PrinterCallback, set_seed
from transformers.utils import logging

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments, load_anomaly_dataset
from anomalyclip_hf.training.base_model import load_base_model


FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro")
OBJECT_AWARE = "object-aware prompts"
GRID: dict[str, dict[str, Any]] = {
    "as in the paper": {},
    "no DPAM": {"dpam_layers": 0},
    "q-q attention": {"dpam_attention": "qq"},
    "k-k attention": {"dpam_attention": "kk"},
    "no local loss": {"pixel_loss_weight": 0.0},
    "no global loss": {"image_loss_weight": 0.0},
    "no deep prompts": {"deep_prompt_depth": 1},
    "1 deep token": {"num_deep_prompt_tokens": 1},
    "4 prompt tokens": {"num_prompt_tokens": 4},
    "two layers tapped": {"feature_layers": [3, 4]},
    OBJECT_AWARE: {},
}


def train_and_test(
    settings: dict[str, Any], names: tuple[str, str], seed: int, args: argparse.Namespace
) -> list[float]:
    """Figures on the test data of prompts that were learned with one setting and seed."""
    set_seed(seed)
    model = load_base_model(args.base_model, **settings, object_name=names[0])
    arguments = AnomalyCLIPTrainingArguments(
        output_dir=str(args.output_dir / "run"),
        num_train_epochs=args.epochs,
        seed=seed,
        cache_dir=str(args.output_dir / "features"),  # shared by all rows that do not change what the tower gives
        cache_dtype="float32",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = AnomalyCLIPTrainer(model, arguments, load_anomaly_dataset("folder", args.train))
    trainer.remove_callback(PrinterCallback)  # a line for each run would hide the table
    trainer.train()
    tested = rename(model, load_base_model(args.base_model, **settings, object_name=names[1]))
    tester = AnomalyCLIPTrainer(tested, arguments, eval_dataset=load_anomaly_dataset("folder", args.test))
    tester.remove_callback(PrinterCallback)
    figures = tester.evaluate()
    return [figures[f"eval_{name}"] for name in FIGURES]


def rename(learned: AnomalyCLIPModel, fresh: AnomalyCLIPModel) -> AnomalyCLIPModel:
    """Put learned vectors before the name of another object."""
    fresh.prompt_learner.load_state_dict(learned.prompt_learner.state_dict())
    return fresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--train-object", default="object", help="its name, for the object-aware row")
    parser.add_argument("--test-object", default="object")
    parser.add_argument("--base-model", default="", help="a CLIP: Hub id or folder")
    parser.add_argument("--output-dir", type=Path, default=Path("ablation"))
    parser.add_argument("--rows", nargs="*", choices=list(GRID), default=list(GRID))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=15)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    table = Table("", *FIGURES, title=f"{args.train.name} to {args.test.name}, percent, {args.seeds} seeds")
    for row in track(args.rows, console=Console(stderr=True), transient=True):
        aware = (args.train_object, args.test_object)
        names = aware if row == OBJECT_AWARE else ("object", "object")
        runs = [train_and_test(GRID[row], names, seed, args) for seed in range(args.seeds)]
        cells = []
        for values in zip(*runs, strict=True):
            spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{100 * statistics.mean(values):.1f}{spread}")
        table.add_row(row, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
