# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure the seconds an image takes on a CPU with CLIPs of the usual sizes, to choose one where there is no GPU.

    python benchmarks/towers.py [--towers B/32 B/16] [--dtypes float32 float16] [--threads 2] [--runs 5]

Random weights, batch 1. Prints the time of the fastest run, and the least processor time of a run, which other
programs on the machine affect less.
"""

import argparse
import time

import torch

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel


BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
SMALL_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
# Vision tower, text tower, joint dimensions, and input sizes in pixels: CLIP's own and this package's default.
TOWERS = {
    "B/32": (BASE | {"image_size": 224, "patch_size": 32}, SMALL_TEXT, 512, (224, 512)),
    "B/16": (BASE | {"image_size": 224, "patch_size": 16}, SMALL_TEXT, 512, (224, 512)),
    "L/14": (LARGE | {"image_size": 336, "patch_size": 14}, LARGE_TEXT, 768, (336, 518)),
}


@torch.inference_mode()
def fastest_run(model: AnomalyCLIPModel, size: int, runs: int) -> tuple[float, float]:
    """Return the least seconds of a forward pass of one image, and the least processor seconds."""
    pixel_values = torch.randn(1, 3, size, size, dtype=model.dtype)
    model(pixel_values)  # warms up, and embeds the prompts
    seconds, processor_seconds = [], []
    for _ in range(runs):
        start, processor_start = time.perf_counter(), time.process_time()
        model(pixel_values)
        seconds.append(time.perf_counter() - start)
        processor_seconds.append(time.process_time() - processor_start)
    return min(seconds), min(processor_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towers", nargs="+", choices=list(TOWERS), default=list(TOWERS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16", "float16"], default=["float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.towers:
        vision, text, dimensions, sizes = TOWERS[name]
        config = AnomalyCLIPConfig(vision_config=vision, text_config=text, projection_dim=dimensions)
        model = AnomalyCLIPModel(config).eval()
        parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        for dtype in args.dtypes:
            model = model.to(getattr(torch, dtype))
            for size in sizes:
                seconds, processor_seconds = fastest_run(model, size, args.runs)
                times = f"{seconds:.2f} s an image, {processor_seconds:.2f} s of processor time"
                print(f"ViT-{name}  {parameters:4.0f} M  {dtype:8s}  {size} px  {times}", flush=True)


if __name__ == "__main__":
    main()
