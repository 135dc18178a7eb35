# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure the cost of the second attention path: AnomalyCLIP's forward and transformers' own CLIP vision tower.

    python benchmarks/forward.py [--dtype float32 bfloat16] [--runs 5]

ViT-L/14@336 with random weights at 518x518 px, batch 1, two threads. For the time, both run in turn in one process;
for the memory, each runs in a process of its own. Prints both and their ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch
from transformers import CLIPVisionModel

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel


SIZE = 518
TOWERS = {
    "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                      "num_attention_heads": 16, "image_size": 336, "patch_size": 14},
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "projection_dim": 768,
}  # fmt: skip


def build(side: str, dtype: torch.dtype):
    """Return a function that runs one forward pass."""
    torch.manual_seed(0)
    config = AnomalyCLIPConfig(**TOWERS)
    pixel_values = torch.randn(1, 3, SIZE, SIZE, dtype=dtype)
    if side == "clip":
        clip = CLIPVisionModel(config.vision_config).to(dtype).eval()
        return lambda: clip(pixel_values, interpolate_pos_encoding=True)
    model = AnomalyCLIPModel(config).to(dtype).eval()
    return lambda: model(pixel_values)


@torch.inference_mode()
def measure_seconds(dtype: torch.dtype, runs: int) -> dict[str, float]:
    sides = {side: build(side, dtype) for side in ("anomalyclip", "clip")}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(runs + 1):
        for side, forward in sides.items():
            start = time.perf_counter()
            forward()
            if run:  # the first warms up, and embeds the prompts
                seconds[side].append(time.perf_counter() - start)
    for side, values in seconds.items():
        print(f"  {side:12s} median {statistics.median(values):.2f} s  (min {min(values):.2f}, max {max(values):.2f})")
    ratios = [a / b for a, b in zip(seconds["anomalyclip"], seconds["clip"], strict=True)]
    print(f"  time ratio   median {statistics.median(ratios):.3f}  (min {min(ratios):.3f}, max {max(ratios):.3f})")
    return {side: statistics.median(values) for side, values in seconds.items()}


def status_kilobytes(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


@torch.inference_mode()
def print_memory(side: str, dtype: torch.dtype) -> None:
    """Print the peak resident memory of one forward pass above the loaded weights, in MB (Linux)."""
    forward = build(side, dtype)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = status_kilobytes("VmRSS")
    forward()
    print((status_kilobytes("VmHWM") - before) / 1024)


def measure_memory(dtype: str) -> None:
    peaks = {}
    for side in ("anomalyclip", "clip"):
        command = [sys.executable, __file__, "--memory-of", side, "--dtype", dtype]
        # Large blocks go back to the system at once, so that tensors are counted and not the heap's fragmentation.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks[side] = float(done.stdout.split()[-1])
        print(f"  {side:12s} peak {peaks[side]:.0f} MB above the weights")
    print(f"  memory ratio {peaks['anomalyclip'] / peaks['clip']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.memory_of:
        print_memory(args.memory_of, getattr(torch, args.dtype[0]))
        return
    for dtype in args.dtype:
        print(f"{dtype}, ViT-L/14 at {SIZE} px, batch 1, two threads")
        measure_seconds(getattr(torch, dtype), args.runs)
        measure_memory(dtype)


if __name__ == "__main__":
    main()
