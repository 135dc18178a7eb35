# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure the cost of training the prompts with and without cached features, at the paper's sizes.

    python benchmarks/training.py [--images 8] [--cached-steps 5]

ViT-L/14 at 518 px with random weights, layer 24, batches of 8: eight forward passes of CLIPVisionModel, one step
without the cache, the bare passes that give the features, filling the cache, and steps from the cache. The cost of a
whole training is computed from these: 15 epochs take 15 steps without the cache, or filling it once and 15 steps from
it, whatever the number of images.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
from forward import SIZE, TOWERS, status_kilobytes
from PIL import Image
from transformers import CLIPVisionModel

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor, load_anomaly_dataset
from anomalyclip_hf.modeling_anomalyclip import encode_image
from anomalyclip_hf.training.examples import TrainingImages, collate
from anomalyclip_hf.training.feature_cache import IMAGES_PER_PASS, cache_features


EPOCHS = 15


def make_parts(folder: Path, count: int) -> None:
    """Write half normal images, half with a bright square."""
    rng = np.random.default_rng(0)
    for kind in ("good", "scratch", "ground_truth/scratch"):
        (folder / kind).mkdir(parents=True)
    for number in range(count // 2):
        pixels, mask = rng.integers(60, 120, (2, SIZE, SIZE, 3), dtype=np.uint8), np.zeros((SIZE, SIZE), np.uint8)
        mask[100:180, 200:300] = 255
        pixels[1][mask > 0] = 250
        Image.fromarray(pixels[0]).save(folder / "good" / f"{number}.png")
        Image.fromarray(pixels[1]).save(folder / "scratch" / f"{number}.png")
        Image.fromarray(mask).save(folder / "ground_truth" / "scratch" / f"{number}.png")


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def make_step(model: AnomalyCLIPModel, examples: torch.utils.data.Dataset) -> Callable[[], None]:
    """Return a function that runs one optimiser step on all examples, including reading them."""
    optimizer = torch.optim.Adam(model.prompt_learner.parameters(), lr=1e-3, betas=(0.5, 0.999))

    def step() -> None:
        batch = collate([examples[index] for index in range(len(examples))])
        batch.pop("indices")
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


@torch.inference_mode()
def run_clip(config: AnomalyCLIPConfig, pixel_values: torch.Tensor) -> float:
    clip = CLIPVisionModel(config.vision_config).eval()
    return seconds(lambda: [clip(image[None], interpolate_pos_encoding=True) for image in pixel_values])


@torch.inference_mode()
def run_bare(model: AnomalyCLIPModel, pixel_values: torch.Tensor) -> float:
    """Return the seconds of the passes that give the features, without reading, resizing or writing."""
    batches = pixel_values.split(IMAGES_PER_PASS)
    return seconds(lambda: [encode_image(model.clip, batch, **model.config.dual_path) for batch in batches])


def build() -> AnomalyCLIPModel:
    torch.manual_seed(0)  # the same weights in every process, so that the cache fits
    return AnomalyCLIPModel(AnomalyCLIPConfig(**TOWERS)).eval()


def open_images(model: AnomalyCLIPModel, scratch: Path) -> TrainingImages:
    dataset = load_anomaly_dataset("folder", scratch / "parts")
    return TrainingImages(dataset, AnomalyCLIPProcessor.from_config(model.config))


def print_memory(scratch: Path) -> None:
    """Print the peak resident memory of a cached step above the loaded model, in MB (Linux)."""
    model = build()
    step = make_step(model, cache_features(model, open_images(model, scratch), scratch))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = status_kilobytes("VmRSS")
    step()
    print((status_kilobytes("VmHWM") - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="images of one step, an even number")
    parser.add_argument("--cached-steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-in", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    datasets.disable_progress_bars()
    if args.memory_in:
        print_memory(args.memory_in)
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make_parts(scratch / "parts", args.images)
        model = build()
        images = open_images(model, scratch)
        pixel_values = torch.stack([images[index]["pixel_values"] for index in range(len(images))])
        clip = run_clip(model.config, pixel_values)
        whole = seconds(make_step(model, images))
        bare = run_bare(model, pixel_values)
        filling = seconds(lambda: cache_features(model, images, scratch))
        step = make_step(model, cache_features(model, images, scratch))
        step()  # warms up
        cached = statistics.median(seconds(step) for _ in range(args.cached_steps))
        size = sum(path.stat().st_size for path in scratch.glob("*.arrow")) / len(images) / 1e6
        command = [sys.executable, __file__, "--memory-in", folder, "--threads", str(args.threads)]
        peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    print(f"ViT-L/14 at {SIZE} px, {args.images} images a step, {args.threads} threads, random weights")
    print(f"{args.images} forwards of CLIPVisionModel {clip:.1f} s, step without cache {whole:.1f} s")
    print(f"bare passes {bare:.1f} s, filling the cache {filling:.1f} s, {filling / bare:.2f} times as long")
    print(f"cached step {cached:.2f} s, {size:.2f} MB an image")
    print(f"peak memory of a cached step {peak:.0f} MB above the loaded model")
    print(f"ratio cached step / forwards of CLIPVisionModel {cached / clip:.4f}")
    total, total_cached = EPOCHS * whole, filling + EPOCHS * cached
    print(f"ratio {EPOCHS} epochs with / without cache, extrapolated: 1/{total / total_cached:.1f}")


if __name__ == "__main__":
    main()
