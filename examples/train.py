# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Train prompts on one dataset and test them on another, as in the paper.

    python examples/train.py --base-model openai/clip-vit-large-patch14-336 --train visa data/VisA \\
        --test mvtec data/mvtec --output-dir prompts

It also runs under `accelerate launch examples/train.py …`, on several processors, GPUs or machines.
"""

import argparse
import json
from pathlib import Path

from transformers import set_seed

from anomalyclip_hf import (
    AnomalyCLIPModel,
    AnomalyCLIPTrainer,
    AnomalyCLIPTrainingArguments,
    load_anomaly_dataset,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", required=True, help="a CLIP: Hub id or folder")
    parser.add_argument("--train", nargs=2, metavar=("NAME", "DIR"), required=True, help="dataset to train on")
    parser.add_argument("--test", nargs=2, metavar=("NAME", "DIR"), help="dataset of other objects to test on")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--image-size", type=int, help="side in pixels; default: the largest that fits up to 518")
    parser.add_argument("--epochs", type=float, default=15)
    parser.add_argument("--seed", type=int, default=111)
    parser.add_argument("--synthetic", action="store_true", help="train on normal images and synthetic defects")
    args = parser.parse_args()

    # 1. A frozen CLIP with new prompts: 43,008 trainable numbers for ViT-L/14
    set_seed(args.seed)
    model = AnomalyCLIPModel.from_clip_pretrained(args.base_model, image_size=args.image_size)

    # 2. The paper trains on a test split, because it contains anomalies, and tests on other objects
    train_dataset = load_anomaly_dataset(*args.train, split="test")
    test_dataset = load_anomaly_dataset(*args.test, split="test") if args.test else None

    # 3. The paper's settings; CLIP features are cached, so each image is encoded once
    arguments = AnomalyCLIPTrainingArguments(
        output_dir=str(args.output_dir),
        num_train_epochs=args.epochs,
        seed=args.seed,
        synthetic_anomalies=args.synthetic,
        report_to="none",
    )
    trainer = AnomalyCLIPTrainer(model, arguments, train_dataset=train_dataset, eval_dataset=test_dataset)

    # 4. An interrupted run resumes from its latest checkpoint
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model()
    if test_dataset is not None:
        metrics = trainer.evaluate()
        if trainer.is_world_process_zero():
            print(json.dumps({name: round(value, 4) for name, value in metrics.items()}, indent=2))


if __name__ == "__main__":
    main()
