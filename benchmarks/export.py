# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Measure exports of ViT-L/14 at 518 px: seconds and memory to write them, their size, speed and differences.

    python benchmarks/export.py [--exports onnx:int8 openvino:int8] [--threads 2] [--runs 3] [--layers 24]
                                [--images DIR] [--keep DIR]

Random weights. Each export is written in a process of its own; then all of them and PyTorch in float32 score one image
in turn in one process. Prints the median seconds, the least processor time of a run, which other programs on the
machine affect less, the ratios of PyTorch's to both, the size, and the differences of scores and maps. INT8 is
calibrated on four images. Fewer layers take proportionally less time.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


EXPORTS = ("onnx:float32", "onnx:int8", "openvino:float32", "openvino:bfloat16", "openvino:int8")
CALIBRATION_IMAGES = 4


def random_model(layers: int):
    import torch
    from forward import TOWERS

    from anomalyclip_hf import AnomalyCLIPConfig, AnomalyCLIPModel

    torch.manual_seed(0)
    vision = TOWERS["vision_config"] | {"num_hidden_layers": layers}
    return AnomalyCLIPModel(AnomalyCLIPConfig(**TOWERS | {"vision_config": vision})).eval()


def write_export(name: str, folder: Path, layers: int, images: str) -> None:
    """Export, and print the seconds and the peak memory of this process."""
    from anomalyclip_hf import export_onnx, export_openvino

    file_format, precision = name.split(":")
    write = {"onnx": export_onnx, "openvino": export_openvino}[file_format]
    paths = sorted(str(path) for path in Path(images).rglob("*.png"))[:CALIBRATION_IMAGES]
    model, start = random_model(layers), time.perf_counter()
    differences = write(model, folder, precision=precision, calibration_images=paths if precision == "int8" else None)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "gigabytes": peak, "differences": str(differences)}))


def compare_speed(folders: dict[str, Path], layers: int, threads: int, runs: int, image: str) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from anomalyclip_hf.scoring.exported import read_exported
    from anomalyclip_hf.scoring.preprocessing import Preprocessing
    from anomalyclip_hf.scoring.runtimes import RUNTIMES
    from anomalyclip_hf.scoring.torch_backends import TorchBackend

    torch.set_num_threads(threads)
    backends = {"torch:float32": TorchBackend(random_model(layers))}
    sizes = {}
    for name, folder in folders.items():
        exported = read_exported(folder)
        backends[name] = RUNTIMES[exported.format](folder, exported)
        sizes[name] = sum(exported.files.values()) / 1e6
    settings = {key: value for key, value in exported.preprocessing.items() if key != "value_range"}
    pixel_values = Preprocessing(**settings)(Image.open(image).convert("RGB"))[None]
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    processor: dict[str, list[float]] = {name: [] for name in backends}
    outputs = {}
    for run in range(runs + 1):
        for name, backend in backends.items():
            start, processor_start = time.perf_counter(), time.process_time()
            outputs[name] = backend.run(pixel_values)
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - processor_start)
    reference = outputs["torch:float32"]
    wall, least = statistics.median(seconds["torch:float32"]), min(processor["torch:float32"])
    titles = ("s", "ratio", "processor s", "ratio", "MB", "score", "map max", "map mean")
    print(f"{'':20s}" + "".join(f"{title:>12s}" for title in titles))
    for name in backends:
        maps = np.abs(outputs[name].anomaly_maps - reference.anomaly_maps)
        score = np.abs(outputs[name].image_scores - reference.image_scores).max()
        median, own = statistics.median(seconds[name]), min(processor[name])
        print(
            f"{name:20s}{median:12.2f}{wall / median:12.2f}{own:12.2f}{least / own:12.2f}{sizes.get(name, 0):12.0f}"
            f"{score:12.1e}{maps.max():12.1e}{maps.mean():12.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", nargs="+", choices=EXPORTS, default=list(EXPORTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--images", default=str(Path(__file__).parents[1] / "examples" / "images"))
    parser.add_argument("--keep", type=Path, help="folder for the exports; those that are there are used again")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_export(args.write[0], Path(args.write[1]), args.layers, args.images)
        return
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {args.threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: (args.keep or Path(temporary)) / name.replace(":", "_") for name in args.exports}
        for name, folder in folders.items():
            if folder.exists():
                continue
            command = [sys.executable, __file__, "--images", args.images, "--layers", str(args.layers)]
            command += ["--write", name, str(folder)]
            report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            line = f"exported in {report['seconds']:.0f} s with {report['gigabytes']:.1f} GB; {report['differences']}"
            print(f"{name}: {line}", flush=True)
        image = sorted(str(path) for path in Path(args.images).rglob("*.png"))[-1]
        compare_speed(folders, args.layers, args.threads, args.runs, image)
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
