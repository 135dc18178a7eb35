# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure what each part of AnomalyCLIP contributes: train on one object, test on another, change one part per row.

    python examples/ablation.py --base-model openai/clip-vit-base-patch16 --train ball_screw --test pcb

Folders may have any layout that `load_anomaly_dataset("folder", …)` reads. CLIP features are cached and shared by the
rows that do not change them. Prints mean and standard deviation over several seeds.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import CLIPConfig, PrinterCallback, set_seed
from transformers.utils import logging

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments, load_anomaly_dataset


METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro")
OBJECT_AWARE = "object-aware prompts"
TWO_LAYERS = "two layers selected"
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
    TWO_LAYERS: {},
    OBJECT_AWARE: {},
}


def train_and_test(
    settings: dict[str, Any], names: tuple[str, str], seed: int, args: argparse.Namespace
) -> list[float]:
    """Train prompts with one setting and seed, and return their metrics on the test data."""
    set_seed(seed)
    settings = {**settings, "image_size": args.image_size}
    model = AnomalyCLIPModel.from_clip_pretrained(args.base_model, **settings, object_name=names[0])
    arguments = AnomalyCLIPTrainingArguments(
        output_dir=str(args.output_dir / "run"),
        num_train_epochs=args.epochs,
        seed=seed,
        cache_dir=str(args.output_dir / "features"),  # shared by all rows that do not change the features
        cache_dtype="float32",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = AnomalyCLIPTrainer(model, arguments, load_anomaly_dataset("folder", args.train))
    trainer.remove_callback(PrinterCallback)  # its lines would hide the table
    trainer.train()
    # The learned vectors, in front of the name of the other object
    tested = AnomalyCLIPModel.from_clip_pretrained(args.base_model, **settings, object_name=names[1])
    tested.prompt_learner.load_state_dict(model.prompt_learner.state_dict())
    tester = AnomalyCLIPTrainer(tested, arguments, eval_dataset=load_anomaly_dataset("folder", args.test))
    tester.remove_callback(PrinterCallback)
    metrics = tester.evaluate()
    return [metrics[f"eval_{name}"] for name in METRICS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--train-object", default="object", help="name of the object, for the object-aware row")
    parser.add_argument("--test-object", default="object")
    parser.add_argument("--base-model", required=True, help="a CLIP: Hub id or folder")
    parser.add_argument("--output-dir", type=Path, default=Path("ablation"))
    parser.add_argument("--image-size", type=int, help="side in pixels; default: the largest that fits up to 518")
    parser.add_argument("--rows", nargs="*", choices=list(GRID), default=list(GRID))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=15)
    args = parser.parse_args()
    layers = CLIPConfig.from_pretrained(args.base_model).vision_config.num_hidden_layers
    grid = GRID | {TWO_LAYERS: {"feature_layers": [layers // 2, layers]}}
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    table = Table("", *METRICS, title=f"{args.train.name} to {args.test.name}, percent, {args.seeds} seeds")
    for row in track(args.rows, console=Console(stderr=True), transient=True):
        aware = (args.train_object, args.test_object)
        names = aware if row == OBJECT_AWARE else ("object", "object")
        runs = [train_and_test(grid[row], names, seed, args) for seed in range(args.seeds)]
        cells = []
        for values in zip(*runs, strict=True):
            spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{100 * statistics.mean(values):.1f}{spread}")
        table.add_row(row, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
