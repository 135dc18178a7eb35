# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Run every check of speed that needs a GPU, in under four minutes; without one, the same with a small model.

    python benchmarks/gpu.py [--device cuda] [--images 384] [--workers N] [--no-compile]

ViT-L/14 with random weights at 518x518 px, without a GPU a small model at 112x112 px, and JPEGs of 1024x1024 px.
Prints

- the forward pass against transformers' `CLIPVisionModel`: float32, on a GPU with TF32, and bfloat16, eager with
  batches of 1, 8 and 32 and compiled with batches of 8;
- images a second from files, in bfloat16 on a GPU and float32 on a CPU: of the pipeline, of `predict` with its
  default outputs, and of `evaluate` with pixel metrics;
- what counting the pixels of a map costs on the CPU and on the GPU, and whether both give the same counts.

A table at the end holds all figures.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
from forward import SIZE, TOWERS, Setting, measure_seconds
from PIL import Image
from throughput import write_images
from transformers import pipeline

from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel, AnomalyCLIPProcessor, AnomalyScorer, evaluate_model
from anomalyclip_hf.metrics import PixelCounts
from anomalyclip_hf.scoring.inputs import find_images
from anomalyclip_hf.scoring.outputs import ResultFolder
from anomalyclip_hf.scoring.predicting import predict_images


SMALL_SIZE = 112
SMALL_TOWERS = {
    "vision_config": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6,
                      "num_attention_heads": 4, "image_size": 112, "patch_size": 14},
    "text_config": {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4},
    "projection_dim": 128,
    "image_size": SMALL_SIZE,
}  # fmt: skip

Rows = list[tuple[str, str]]


def measure_forward(device: str, compiled: bool) -> Rows:
    """Compare our forward pass with CLIP's in each setting."""
    on_gpu = device != "cpu"
    common = {"device": device} | ({} if on_gpu else {"towers": SMALL_TOWERS, "size": SMALL_SIZE})
    settings = [Setting("float32", batch_size=8, tf32=on_gpu, **common)]  # first, since TF32 outlasts its setting
    settings += [Setting("bfloat16", batch_size=size, **common) for size in (1, 8, 32)]
    settings += [Setting("bfloat16", batch_size=8, compiled=True, **common)] if compiled else []
    rows = []
    for setting in settings:
        print(f"forward, {setting}", flush=True)
        seconds = measure_seconds(setting, runs=5, passes=10 if on_gpu else 1)
        ours, clip = (setting.batch_size / seconds[side] for side in ("anomalyclip", "clip"))
        rows.append(
            (f"forward, {setting}", f"{ours:.1f} images/s; CLIPVisionModel {clip:.1f}; time {clip / ours:.3f}")
        )
    return rows


def images_per_second(count: int, work: Callable[[], object]) -> str:
    start = time.perf_counter()
    work()
    return f"{count / (time.perf_counter() - start):.1f} images/s"


def measure_engine(device: str, folder: Path, count: int, workers: int) -> Rows:
    """Measure the pipeline, `predict` and `evaluate` from files to results."""
    on_gpu = device != "cpu"
    torch.manual_seed(0)
    config = AnomalyCLIPConfig(**(TOWERS if on_gpu else SMALL_TOWERS))
    model = AnomalyCLIPModel(config).to(device, torch.bfloat16 if on_gpu else torch.float32).eval()
    processor = AnomalyCLIPProcessor.from_config(config)
    paths = write_images(folder, count, 1024)
    mask_path = str(folder / "mask.png")
    mask = np.zeros((1024, 1024), np.uint8)
    mask[300:500, 200:600] = 255
    Image.fromarray(mask).save(mask_path)
    rows: Rows = []

    pipe = pipeline("anomaly-detection", model=model, processor=processor, device=device)
    for number in sorted({0, workers}):
        options = {"batch_size": 32, "num_workers": number}
        pipe(paths[:32], **options)
        speed = images_per_second(count, lambda options=options: pipe(paths, **options))
        rows.append((f"pipeline(list, batch_size=32, num_workers={number})", speed))

    scorer = AnomalyScorer(model, processor, batch_size=32, num_workers=workers, resolution="model")
    list(scorer.score(paths[:32]))  # warms up
    batch = np.stack([scorer.preprocessing(Image.open(path)) for path in paths[:32]])
    passes = max(1, count // len(batch))
    bare = images_per_second(passes * len(batch), lambda: [scorer.backend.run(batch) for _ in range(passes)])
    rows.append((f"scorer.backend.run, batch {len(batch)}", bare))
    images, _ = find_images(paths)
    results = ResultFolder(folder / "results")
    speed = images_per_second(count, lambda: predict_images(scorer, images, results))
    rows.append(("predict, default outputs", speed))

    labels = [index % 2 for index in range(count)]
    table = {"image": paths, "label": labels, "mask": [mask_path if label else None for label in labels]}
    dataset = datasets.Dataset.from_dict(table)
    speed = images_per_second(count, lambda: evaluate_model(scorer, dataset, show_progress=False))
    return [*rows, ("evaluate with pixel metrics", speed)]


def measure_counting(device: str, maps: int = 20) -> Rows:
    """Count the same maps on the CPU and, if there is another, on the device; the counts must be the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(maps, 1, 37, 37, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")[:, 0]
    masks = (smooth > 0.9).numpy()
    milliseconds, states = {}, []
    for place in dict.fromkeys(["cpu", device]):
        counted = [one.to(place) if place != "cpu" else one.numpy() for one in smooth]
        for _ in range(2):  # the first warms up
            counts, start = PixelCounts(), time.perf_counter()
            for one, mask in zip(counted, masks, strict=True):
                counts.add(one, mask)
            states.append(counts.state())
            milliseconds[place] = 1000 * (time.perf_counter() - start) / maps
    figures = ", ".join(f"{cost:.2f} ms a map on {place}" for place, cost in milliseconds.items())
    if device != "cpu":
        same = all(np.array_equal(states[0][name], state[name]) for state in states for name in state)
        figures += f"; counts the same: {same}"
    return [("counting pixels", figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, help="default: 384 on a GPU, 64 on a CPU")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="that read images")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes a minute")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    start, on_gpu = time.perf_counter(), args.device != "cpu"
    name = torch.cuda.get_device_name(args.device) if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    model = f"ViT-L/14 at {SIZE} px" if on_gpu else f"a small model at {SMALL_SIZE} px"
    model += f", from files in {'bfloat16' if on_gpu else 'float32'}"
    rows = measure_forward(args.device, not args.no_compile)
    with tempfile.TemporaryDirectory() as folder:
        rows += measure_engine(args.device, Path(folder), args.images or (384 if on_gpu else 64), args.workers)
    rows += measure_counting(args.device)
    print(f"\n{name}; {model}; PyTorch {torch.__version__}; {time.perf_counter() - start:.0f} s in all")
    for label, figures in rows:
        print(f"{label:56s} {figures}")


if __name__ == "__main__":
    main()
