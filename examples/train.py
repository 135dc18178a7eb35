# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Learn prompts on one data set and see how well they find the anomalies of another: the recipe of the paper.

    python train.py --base-model openai/clip-vit-large-patch14-336 --train visa data/VisA --test mvtec data/mvtec \
        --output-dir prompts

Runs under `accelerate launch train.py …` as well, on several processors, GPUs or machines. Without `--base-model` the
CLIP of the demonstration model is used, which trains in a minute on a laptop.
"""

import argparse
import json
from pathlib import Path

from transformers import set_seed

from anomalyclip_hf import AnomalyCLIPTrainer, AnomalyCLIPTrainingArguments, load_anomaly_dataset
from anomalyclip_hf.training.base_model import load_base_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="", help="a CLIP: Hub id or folder")
    parser.add_argument("--train", nargs=2, metavar=("NAME", "DIR"), required=True, help="data set to learn from")
    parser.add_argument("--test", nargs=2, metavar=("NAME", "DIR"), help="data set of other things, to test on")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--seed", type=int, default=111)
    parser.add_argument("--synthetic", action="store_true", help="learn from normal images and drawn defects")
    args = parser.parse_args()

    # 1. A frozen CLIP under fresh prompts: 43,008 numbers to learn for ViT-L/14
    set_seed(args.seed)
    model = load_base_model(args.base_model)

    # 2. The paper learns from a test split, because it holds anomalies, and tests on other things
    train_dataset = load_anomaly_dataset(*args.train, split="test")
    test_dataset = load_anomaly_dataset(*args.test, split="test") if args.test else None

    # 3. The paper's settings; what CLIP makes of each image is computed once, in the first minutes
    arguments = AnomalyCLIPTrainingArguments(
        output_dir=str(args.output_dir),
        num_train_epochs=args.epochs,
        seed=args.seed,
        synthetic_anomalies=args.synthetic,
        report_to="none",
    )
    trainer = AnomalyCLIPTrainer(model, arguments, train_dataset=train_dataset, eval_dataset=test_dataset)

    # 4. A run that was stopped goes on from its newest checkpoint
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if test_dataset is not None:
        figures = trainer.evaluate()
        if trainer.is_world_process_zero():
            print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
