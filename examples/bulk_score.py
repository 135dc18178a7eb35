# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score a folder of any size into Parquet files, and list the most anomalous images.

    python examples/bulk_score.py photos --output-dir scores [--model FOLDER_OR_HUB_ID] [--ray local]

Each image is scored once. After a crash the same command goes on, and later it scores only new and changed files.
"""

import argparse

import pyarrow.dataset as ds

from anomalyclip_hf import DEFAULT_MODEL, score_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs", nargs="+", help="folders, globs, lists, tables or archives; also s3://, gs://, hf://"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id; default: the demonstration model")
    parser.add_argument("--output-dir", default="scores")
    parser.add_argument("--ray", help="local, auto or the address of a Ray cluster; default: this process")
    args = parser.parse_args()

    result = score_dataset(
        args.inputs, args.output_dir, model=args.model, ray=args.ray, on_status=lambda status: print(status.describe())
    )
    for note in result.notes():
        print(note)
    table = ds.dataset(f"{args.output_dir}/scores", partitioning="hive").to_table(columns=["path", "score", "label"])
    for row in table.sort_by([("score", "descending")]).slice(0, 5).to_pylist():
        print(f"{row['path']}: {row['score']:.3f} {row['label']}" if row["score"] is not None else row["path"])


if __name__ == "__main__":
    main()
