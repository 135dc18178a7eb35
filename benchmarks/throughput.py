# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure what scoring an image costs beside the model: stage by stage, and from end to end.

    python benchmarks/throughput.py [--model FOLDER] [--images 64] [--side 1024] [--device cuda] [--backend compile]

Writes JPEGs of synthetic texture, and prints processor milliseconds an image for each stage, the ratio of all stages
beside the model to Pillow's floor (read, resize to the model's size, write a JPEG), and the wall time of `predict`
against the bare forward of the same batches in the same process.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer
from anomalyclip_hf.data.samples import SampleReader
from anomalyclip_hf.image_processing_anomalyclip import load_image
from anomalyclip_hf.postprocessing_anomalyclip import finish_map
from anomalyclip_hf.scoring.inputs import find_images
from anomalyclip_hf.scoring.outputs import JPEG_QUALITY, ResultFolder, draw_result, write_map
from anomalyclip_hf.scoring.predicting import predict_images


REPEATS = 3


def write_images(folder: Path, count: int, side: int) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        path = folder / f"{number:05}.jpg"
        noise.resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2)).save(path, quality=92)
        paths.append(str(path))
    return paths


def processor_ms(name: str, count: int, work: Callable[[], object]) -> tuple[float, object]:
    """Print and return processor milliseconds an image, of all threads of this process."""
    start = time.process_time()
    result = work()
    milliseconds = 1000 * (time.process_time() - start) / count
    print(f"  {name:32s} {milliseconds:7.1f} ms")
    return milliseconds, result


def pillow_floor(paths: list[str], size: tuple[int, int]) -> None:
    for path in paths:
        with Image.open(path) as image:
            picture = image.convert("RGB")
        picture.resize(size[::-1], Image.Resampling.BICUBIC)
        picture.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)


def _batches(pixels: list[np.ndarray], size: int) -> list[np.ndarray]:
    return [np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size)]


def measure_stages(scorer: AnomalyScorer, paths: list[str], folder: Path) -> None:
    reader, count = SampleReader(paths), len(paths)
    print("processor time an image:")
    size = scorer.preprocessing.size
    floor, _ = processor_ms("Pillow: read, resize, write", count, lambda: pillow_floor(paths, size))
    read, samples = processor_ms("read", count, lambda: [reader.read(index) for index in range(count)])
    resize, pixels = processor_ms(
        "resize and normalise", count, lambda: [scorer.preprocessing(sample.image) for sample in samples]
    )
    batches = _batches(pixels, scorer.batch_size)
    model, outputs = processor_ms("model", count, lambda: [scorer.backend.run(batch) for batch in batches])
    post, _ = processor_ms(
        "resize, threshold, find regions",
        count,
        lambda: [finish_map(map_, None, scorer.pixel_threshold) for batch in outputs for map_ in batch.anomaly_maps],
    )
    results, maximum = list(scorer.score_samples(reader, keep_images=True)), scorer.map_maximum
    draw, overlays = processor_ms(
        "draw the overlay",
        count,
        lambda: [draw_result(r, maximum, scorer.pixel_threshold) for r in results],
    )
    encode, _ = processor_ms(
        "encode the overlay", count, lambda: [o.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY) for o in overlays]
    )
    maps, _ = processor_ms(
        "write the map", count, lambda: [write_map(folder / "map.npz", r.anomaly_map) for r in results]
    )
    beside = read + resize + post + draw + encode + maps
    print(f"  beside the model {beside:.1f} ms, {beside / floor:.2f} times Pillow's floor; model {model:.1f} ms")


def measure_wall(scorer: AnomalyScorer, paths: list[str], folder: Path) -> None:
    images, _ = find_images(paths)
    batches = _batches([scorer.preprocessing(load_image(path)) for path in paths], scorer.batch_size)
    seconds: dict[str, list[float]] = {"bare forward": [], "predict": []}
    for repeat in range(REPEATS):
        start = time.perf_counter()
        for batch in batches:
            scorer.backend.run(batch)
        seconds["bare forward"].append(time.perf_counter() - start)
        results = ResultFolder(folder / f"out{repeat}")
        start = time.perf_counter()
        predict_images(scorer, images, results)
        seconds["predict"].append(time.perf_counter() - start)
    written = sum(file.stat().st_size for file in results.folder.rglob("*")) / len(paths)
    print(f"wall time of {len(paths)} images, {REPEATS} runs in turn:")
    for name, values in seconds.items():
        best = min(values)
        print(f"  {name:16s} {best:7.2f} s  {len(paths) / best:7.1f} images/s  (slowest run {max(values):.2f} s)")
    ratios = sorted(a / b for a, b in zip(seconds["predict"], seconds["bare forward"], strict=True))
    fastest = min(seconds["predict"]) / min(seconds["bare forward"])
    print(f"  predict over forward: median {ratios[REPEATS // 2]:.3f}, of the fastest runs {fastest:.3f}")
    print(f"  written: {written / 1e6:.2f} MB an image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=1024, help="of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scorer = AnomalyScorer(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        backend=arguments.backend,
        batch_size=arguments.batch_size,
        resolution="model",
    )
    device = scorer.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{arguments.images} JPEGs of {arguments.side}x{arguments.side} px; {device} ({name})")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), arguments.images, arguments.side)
        list(scorer.score(paths[: arguments.batch_size]))  # warm up
        measure_stages(scorer, paths[:32], Path(folder))
        measure_wall(scorer, paths, Path(folder))


if __name__ == "__main__":
    main()
