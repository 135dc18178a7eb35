# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure the cost of the second attention path: AnomalyCLIP's forward and transformers' own CLIP vision tower.

    python benchmarks/forward.py [--dtype float32 bfloat16] [--runs 5]
    python benchmarks/forward.py --device cuda --dtype bfloat16 --batch-sizes 1 8 32 --compile
    python benchmarks/forward.py --device cuda --dtype float32 --batch-sizes 8 --tf32

ViT-L/14@336 with random weights at 518x518 px; on a CPU with two threads. For the time, both run in turn in one
process; for the memory on a CPU, each runs in a process of its own. Prints both and their ratio.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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


@dataclass
class Setting:
    """Hold the setting of one measurement.

    Args:
        dtype (`str`): Precision of weights and activations.
        device (`str`): `"cpu"` or `"cuda"`.
        batch_size (`int`): Images per forward pass.
        compiled (`bool`): Whether both sides go through `torch.compile`.
        tf32 (`bool`): Whether float32 products may be rounded to TF32.
        towers (`dict`): Arguments of [`AnomalyCLIPConfig`].
        size (`int`): Height and width of the images, in pixels.
    """

    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int = 1
    compiled: bool = False
    tf32: bool = False
    towers: dict = field(default_factory=lambda: TOWERS)
    size: int = SIZE

    def __str__(self) -> str:
        extras = ", compiled" * self.compiled + ", TF32" * self.tf32
        return f"{self.dtype}, batch {self.batch_size}{extras}"


def build(side: str, setting: Setting) -> Callable[[], object]:
    """Return a function that runs one forward pass."""
    torch.manual_seed(0)
    config, dtype = AnomalyCLIPConfig(**setting.towers), getattr(torch, setting.dtype)
    shape = (setting.batch_size, 3, setting.size, setting.size)
    pixel_values = torch.randn(shape, dtype=dtype, device=setting.device)
    if side == "clip":
        clip = CLIPVisionModel(config.vision_config).to(setting.device, dtype).eval()
        forward = functools.partial(clip, interpolate_pos_encoding=True)
    else:
        forward = AnomalyCLIPModel(config).to(setting.device, dtype).eval().freeze_prompts()
    if setting.compiled:
        forward = torch.compile(forward, dynamic=False)
    return lambda: forward(pixel_values)


def wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@torch.inference_mode()
def measure_seconds(setting: Setting, runs: int, passes: int = 1) -> dict[str, float]:
    """Print and return the seconds of a forward pass, the median of `runs` times `passes` in a row, and the ratio."""
    torch.set_float32_matmul_precision("high" if setting.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = setting.tf32
    sides = {side: build(side, setting) for side in ("anomalyclip", "clip")}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for run in range(runs + 1):
        for side, forward in sides.items():
            wait_for(setting.device)
            start = time.perf_counter()
            for _ in range(passes):
                forward()
            wait_for(setting.device)
            if run:  # the first warms up, and compiles
                seconds[side].append((time.perf_counter() - start) / passes)
    for side, values in seconds.items():
        speed = setting.batch_size / statistics.median(values)
        spread = f"min {min(values):.3f}, max {max(values):.3f}"
        print(f"  {side:12s} median {statistics.median(values):.3f} s  ({spread}), {speed:.1f} images/s")
    ratios = [a / b for a, b in zip(seconds["anomalyclip"], seconds["clip"], strict=True)]
    print(f"  time ratio   median {statistics.median(ratios):.3f}  (min {min(ratios):.3f}, max {max(ratios):.3f})")
    return {side: statistics.median(values) for side, values in seconds.items()}


def status_kilobytes(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


@torch.inference_mode()
def print_memory(side: str, setting: Setting) -> None:
    """Print the peak resident memory of one forward pass above the loaded weights, in MB (Linux)."""
    forward = build(side, setting)
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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1])
    parser.add_argument("--compile", action="store_true", help="put both sides through torch.compile")
    parser.add_argument("--tf32", action="store_true", help="let float32 products be rounded to TF32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.memory_of:
        print_memory(args.memory_of, Setting(args.dtype[0]))
        return
    on_cpu = args.device == "cpu"
    name = "two threads" if on_cpu else torch.cuda.get_device_name(args.device)
    for dtype in args.dtype:
        for batch_size in args.batch_sizes:
            setting = Setting(dtype, args.device, batch_size, args.compile, args.tf32)
            print(f"{setting}; ViT-L/14 at {SIZE} px, {name}")
            measure_seconds(setting, args.runs, passes=1 if on_cpu else 10)
        if on_cpu and not args.compile:
            measure_memory(dtype)


if __name__ == "__main__":
    main()
