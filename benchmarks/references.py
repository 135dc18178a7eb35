# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure what normal references cost: beside a forward pass, beside `torch.cdist`, and when a memory is built.

    python benchmarks/references.py [--references 16] [--build 200] [--runs 3]

The shapes are those of ViT-L/14 at 518x518 px, with random weights and features; all sides run in turn in one process.
Building a memory is measured without its forward passes, on one layer, and compared with them.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from forward import SIZE, TOWERS

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, ReferenceMemory
from anomalyclip_hf.scoring.neighbours import normalise, typical_distance
from anomalyclip_hf.scoring.reference_images import ReferenceFeatures
from anomalyclip_hf.scoring.references import ReferenceSettings


GRID, WIDTH = SIZE // 14, 1024
LAYER = 12


def random_features(images: int) -> np.ndarray:
    """Return features of shape (images, patches, width) with a spectrum that falls as that of real ones does."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((images, GRID * GRID, WIDTH), dtype=np.float32)
    return normalise(values * np.geomspace(1, 0.02, WIDTH, dtype=np.float32)).astype(np.float16)


def build_memory(features: np.ndarray) -> ReferenceMemory:
    """Do all that `from_images` does after the forward passes."""
    names = [str(number) for number in range(len(features))]
    settings = ReferenceSettings("", [SIZE, SIZE], [GRID, GRID], [LAYER], names, [typical_distance(features)])
    memory = ReferenceMemory([features], settings)
    memory._hold_out(ReferenceFeatures([features], list(range(len(features))), names, names))
    return memory


def median_seconds(sides: dict[str, Callable], runs: int) -> dict[str, float]:
    """Run the sides in turn; the first round warms up."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(runs + 1):
        for side, call in sides.items():
            start = time.perf_counter()
            call()
            if run:
                seconds[side].append(time.perf_counter() - start)
    return {side: statistics.median(values) for side, values in seconds.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=16, help="images in the memory")
    parser.add_argument("--build", type=int, default=200, help="images of the memory that is built")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # random features are unlike each other, of which a memory warns

    model = AnomalyCLIPModel(AnomalyCLIPConfig(**TOWERS)).eval().freeze_prompts()
    pixel_values = torch.randn(1, 3, SIZE, SIZE)
    features = random_features(args.references)
    memory = build_memory(features)
    query = torch.from_numpy(random_features(1).astype(np.float32))
    score, maps = np.array([0.5], np.float32), np.full((1, SIZE, SIZE), 0.5, np.float32)
    flat = torch.from_numpy(features.astype(np.float32)).flatten(0, 1)
    sides = {
        "forward": lambda: model(pixel_values),
        "references": lambda: memory.combine(score, maps, [query], 1.0),
        "torch.cdist": lambda: torch.cdist(query[0], flat).min(1),
    }
    seconds = median_seconds(sides, args.runs)
    for side, value in seconds.items():
        print(f"{side:12s} {value:.3f} s")
    print(f"references add {seconds['references'] / seconds['forward']:.1%} to a forward pass")
    print(f"torch.cdist takes {seconds['torch.cdist'] / seconds['references']:.1f} times as long")

    many = random_features(args.build)
    start = time.perf_counter()
    build_memory(many)
    building = time.perf_counter() - start
    forwards = seconds["forward"] * args.build
    print(f"building a memory of {args.build} images adds {building:.1f} s, {building / forwards:.1%} of its forwards")


if __name__ == "__main__":
    main()
