# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure what comparison within a batch costs beside the model, against the number of images.

    python benchmarks/mutual.py [--images 25 50 100 200 400] [--references 200] [--model FOLDER] [--device cuda]

For each number of images a fresh process scores as many images of synthetic texture with and without `mutual`. Prints
the time for an image and the peak memory of both, and the ratio of the times. They stop growing at the number of
references.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer
from anomalyclip_hf.data.samples import SampleReader


class Textures:
    """A dataset of images that are drawn when they are read."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        noise = np.random.default_rng(index).normal(128, 30, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC)


def measure(arguments: argparse.Namespace, count: int, mutual: bool) -> None:
    """Score images in this process; prints seconds and megabytes."""
    scorer = AnomalyScorer(
        arguments.model, device=arguments.device, mutual=mutual, mutual_references=arguments.references
    )
    start = time.perf_counter()
    for _ in scorer.score_samples(SampleReader(Textures(count))):
        pass
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[25, 50, 100, 200, 400])
    parser.add_argument("--references", type=int, default=200)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--device")
    parser.add_argument("--measure", choices=["plain", "mutual"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments, arguments.images[0], arguments.measure == "mutual")
        return
    print(f"{'images':>7s} {'plain':>10s} {'mutual':>10s} {'ratio':>7s} {'plain MB':>9s} {'mutual MB':>9s}")
    for count in arguments.images:
        found = []
        for kind in ("plain", "mutual"):
            command = [sys.executable, __file__, *sys.argv[1:], "--images", str(count), "--measure", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append([float(word) for word in done.stdout.split()])
        (plain, plain_memory), (mutual, memory) = found
        times = f"{1000 * plain / count:7.0f} ms {1000 * mutual / count:7.0f} ms {mutual / plain:6.2f}x"
        print(f"{count:7d} {times} {plain_memory:9.0f} {memory:9.0f}", flush=True)


if __name__ == "__main__":
    main()
