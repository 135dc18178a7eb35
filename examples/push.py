# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Share a trained model on the Hub, and load it again.

    python examples/push.py prompts someone/prompts-visa [--prompts-only] [--private]

The token is that of `hf auth login`, or `HF_TOKEN` in the environment.
"""

import argparse

from transformers import pipeline

import anomalyclip_hf  # noqa: F401, registers the task "anomaly-detection"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of the model, as `Trainer.save_model` writes it")
    parser.add_argument("repo_id", help="OWNER/NAME")
    parser.add_argument("--prompts-only", action="store_true", help="upload the prompts and the name of their CLIP")
    parser.add_argument("--private", action="store_true")
    args = parser.parse_args()

    pipe = pipeline("anomaly-detection", model=args.folder)
    commit = pipe.push_to_hub(args.repo_id, prompts_only=args.prompts_only, private=args.private)
    print(commit.commit_url)

    # The commit's hash names exactly what was uploaded
    pipe = pipeline("anomaly-detection", model=args.repo_id, revision=commit.oid)
    print(f"loads again, with {pipe.model.num_parameters():,} parameters")


if __name__ == "__main__":
    main()
