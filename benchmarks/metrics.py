# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure time and memory of the pixel metrics, beside the textbook way.

    pip install -e ".[benchmarks]"  # scikit-learn and scikit-image
    python benchmarks/metrics.py [--maps 3000] [--runs 5]

Time: 20 maps of 518x518 px in one thread. AnomalyDetectionMetric is compared with scikit-learn's AUROC and average
precision over all pixels and with AUPRO at 200 thresholds over the regions of scikit-image.

Memory: `--maps` maps in 15 categories, in batches of 8. The peak above the start, in a new process (Linux only), is
compared with the size of all maps and masks.
"""

import os


os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
from scipy import ndimage

from anomalyclip_hf.metrics import AnomalyDetectionMetric


SIZE = 518
CATEGORIES = 15
BATCH = 8
NEEDED = {"sklearn": "scikit-learn", "skimage": "scikit-image"}


def make_maps(number: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Make smooth maps in (0, 1), like those of a model; every second image has three anomalous regions."""
    rng = np.random.default_rng(seed)
    maps, masks = np.empty((number, SIZE, SIZE), np.float32), np.zeros((number, SIZE, SIZE), np.uint8)
    labels = np.arange(number) % 2
    for index in range(number):
        for _ in range(3 * labels[index]):
            top, left = rng.integers(0, SIZE - 80, 2)
            height, width = rng.integers(10, 80, 2)
            masks[index, top : top + height, left : left + width] = 1
        logits = ndimage.zoom(rng.normal(size=(37, 37)), SIZE / 37, order=1) - 2
        logits += 2 * ndimage.gaussian_filter(masks[index].astype(np.float32), 8)
        maps[index] = ndimage.gaussian_filter(1 / (1 + np.exp(-2 * logits)), 4)
    return {"image_scores": maps.max((1, 2)), "labels": labels, "anomaly_maps": maps, "masks": masks}


def ours(batch: dict[str, np.ndarray]) -> dict[str, float]:
    return AnomalyDetectionMetric().compute(**batch)


def textbook(batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Compute AUROC and average precision of all pixels, and the published AUPRO, region by region."""
    from skimage import measure
    from sklearn.metrics import auc, average_precision_score, roc_auc_score

    maps, masks = batch["anomaly_maps"], batch["masks"]
    metrics = {
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
    }
    low, high = float(maps.min()), float(maps.max())
    rates, overlaps = [], []
    for threshold in np.arange(low, high, (high - low) / 200):
        found = maps > threshold
        regions = []
        for mask, detected in zip(masks, found, strict=True):
            for region in measure.regionprops(measure.label(mask)):
                regions.append(detected[region.coords[:, 0], region.coords[:, 1]].mean())
        overlaps.append(np.mean(regions))
        rates.append(found[masks == 0].mean())
    rates, overlaps = np.array(rates), np.array(overlaps)
    kept = rates < 0.3
    stretched = (rates[kept] - rates[kept].min()) / (rates[kept].max() - rates[kept].min())
    return metrics | {"pixel_aupro_published": auc(stretched, overlaps[kept])}


def exact(batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Compute F1-max and the standard AUPRO of single pixels; not timed, because the textbook way has neither."""
    from sklearn.metrics import precision_recall_curve

    maps, masks = batch["anomaly_maps"], batch["masks"] > 0
    precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    values = np.unique(maps)[::-1]
    found = np.arange(1, len(values) + 1)
    places = np.searchsorted(-values, -maps)
    rate = np.cumsum(np.bincount(places[~masks], minlength=len(found))) / (~masks).sum()
    overlaps = np.zeros(len(found))
    regions = 0
    for mask, place in zip(masks, places, strict=True):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += count
        for number in range(1, count + 1):
            inside = place[labelled == number]
            overlaps += np.bincount(inside, minlength=len(found)) / len(inside)
    overlap = np.concatenate([[0], np.cumsum(overlaps) / regions])
    rate = np.concatenate([[0], rate])
    end = np.searchsorted(rate, 0.3, side="right")
    x = np.append(rate[:end], 0.3)
    y = np.append(overlap[:end], np.interp(0.3, rate, overlap))
    return {"pixel_f1_max": f1.max(), "pixel_aupro": ((x[1:] - x[:-1]) * (y[1:] + y[:-1])).sum() / 0.6}


def measure_seconds(runs: int) -> None:
    batch = make_maps(20)
    sides = {"ours": ours, "textbook": textbook}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    results = {}
    for run in range(runs + 1):
        for side, compute in sides.items():
            start = time.perf_counter()
            results[side] = compute(batch)
            if run:  # the first warms up
                seconds[side].append(time.perf_counter() - start)
    print(f"20 maps of {SIZE}x{SIZE} px, one thread")
    for side, values in seconds.items():
        print(f"  {side:12s} median {statistics.median(values):.4f} s  (min {min(values):.4f}, max {max(values):.4f})")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["textbook"], strict=True)]
    print(f"  time ratio   median 1/{statistics.median(ratios):.0f}  (1/{max(ratios):.0f} to 1/{min(ratios):.0f})")
    for name, value in (results["textbook"] | exact(batch)).items():
        print(f"  {name:22s} {value:.7f}, ours differs by {abs(results['ours'][name] - value):.1e}")
    print(f"  bound that ours reports: {results['ours']['pixel_error_bound']:.1e}")


def status_kilobytes(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def print_memory(maps: int) -> None:
    """Print the peak of resident memory above the start, in MB, and the seconds spent counting and computing."""
    made = make_maps(4 * CATEGORIES, seed=1)
    rng = np.random.default_rng(2)
    metric, spent = AnomalyDetectionMetric(), 0.0
    ours({name: column[:2] for name, column in made.items()})  # loads all code
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = status_kilobytes("VmRSS")
    for start in range(0, maps, BATCH):
        indices = np.arange(start, min(start + BATCH, maps)) % (4 * CATEGORIES)
        batch = {name: column[indices] for name, column in made.items()}
        batch["anomaly_maps"] *= rng.uniform(0.5, 1, (len(indices), 1, 1)).astype(np.float32)  # new values each time
        begin = time.perf_counter()
        metric.add_batch(**batch, categories=[f"category {index % CATEGORIES}" for index in indices])
        spent += time.perf_counter() - begin
    begin = time.perf_counter()
    metric.compute()
    peak = (status_kilobytes("VmHWM") - before) / 1024
    print(peak, spent, time.perf_counter() - begin)


def measure_memory(maps: int) -> None:
    command = [sys.executable, __file__, "--memory", "--maps", str(maps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, counting, computing = (float(number) for number in done.stdout.split())
    kept = maps * SIZE * SIZE * 5 / 2**20
    print(f"{maps} maps of {SIZE}x{SIZE} px in {CATEGORIES} categories, batches of {BATCH}")
    print(
        f"  ours         peak {peak:.0f} MB above the start; {counting:.1f} s to count, {computing:.1f} s to compute"
    )
    print(f"  maps, masks  {kept:.0f} MB to keep, before any sorting")
    print(f"  memory ratio 1/{kept / peak:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print_memory(args.maps)
        return
    if missing := [name for module, name in NEEDED.items() if find_spec(module) is None]:
        parser.error(f'{" and ".join(missing)} not found; run `pip install -e ".[benchmarks]"` in the repository.')
    measure_seconds(args.runs)
    measure_memory(args.maps)


if __name__ == "__main__":
    main()
