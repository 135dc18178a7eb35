# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compare bulk scoring with the engine alone: throughput, cost an image, memory of the driver.

    python benchmarks/bulk.py [--images 20000] [--few 2000] [--model FOLDER] [--side 64] [--without-ray]

Writes small JPEGs and scores them, each way in a process of its own: by the engine alone (`AnomalyScorer.score`,
nothing written), by `score_dataset` in one process, and by `score_dataset` on Ray on this machine. Processor time does
not depend on what else the machine does, wall time does; with Ray it is that of the driver alone.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


BATCH_SIZE = 32
PART_SIZE = 250


def write_images(folder: Path, count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


def shrink_model(model: str, folder: Path, side: int) -> str:
    """Store the model at another image size."""
    from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, AnomalyCLIPProcessor

    AnomalyCLIPModel.from_pretrained(model or DEFAULT_MODEL, image_size=side).save_pretrained(folder)
    size = {"height": side, "width": side}
    AnomalyCLIPProcessor.from_pretrained(model or DEFAULT_MODEL, size=size).save_pretrained(folder)
    return str(folder)


def measure(way: str, inputs: str, model: str, count: int) -> dict[str, float]:
    """Score the first images one way, in this process."""
    from anomalyclip_hf import AnomalyScorer, score_dataset

    paths = sorted(str(path) for path in Path(inputs).rglob("*.jpg"))[:count]
    if way == "engine":
        scorer = AnomalyScorer(model, batch_size=BATCH_SIZE, resolution="model")
        list(scorer.score(paths[:BATCH_SIZE]))
        start, spent = time.perf_counter(), time.process_time()
        done = sum(result.error is None for result in scorer.score(paths))
        seconds, processor = time.perf_counter() - start, time.process_time() - spent
    else:
        reports: list[tuple[float, float, int]] = []

        def note(status) -> None:
            reports.append((time.perf_counter(), time.process_time(), status.done))

        with tempfile.TemporaryDirectory() as output:
            Path(output, "list.txt").write_text("\n".join(paths))
            options = {"ray": "local", "workers": 1, "cpus_per_worker": os.cpu_count()} if way == "ray" else {}
            result = score_dataset(
                f"{output}/list.txt", f"{output}/out", model=model, batch_size=BATCH_SIZE, part_size=PART_SIZE,
                on_status=note, **options,
            )  # fmt: skip
        # from the first report of a part on Ray, since starting it takes seconds whatever the number of images
        first = next(number for number, report in enumerate(reports) if report[2]) if way == "ray" else 0
        seconds, processor = reports[-1][0] - reports[first][0], reports[-1][1] - reports[first][1]
        done = result.scored - reports[first][2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": done, "wall_ms": 1000 * seconds / done, "processor_ms": 1000 * processor / done, "peak_mb": peak}


def run(way: str, folder: Path, model: str, count: int) -> dict[str, float]:
    """Measure one way in a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(folder), "--model", model, "--images", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    load = os.getloadavg()[0]
    print(
        f"{way:8s} {count:6} images: {1000 / found['wall_ms']:7.1f} images/s, {found['wall_ms']:6.2f} ms wall and "
        f"{found['processor_ms']:6.2f} ms processor an image, {found['peak_mb']:5.0f} MB peak; load {load:.1f}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--model", default="")
    parser.add_argument("--side", type=int, default=64, help="of images and model, in pixels")
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help="measure in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.model, arguments.images)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "images")
        folder.mkdir()
        write_images(folder, arguments.images, arguments.side)
        model = shrink_model(arguments.model, Path(scratch, "model"), arguments.side)
        ways = ["here"] if arguments.without_ray else ["here", "ray"]
        few = {way: run(way, folder, model, arguments.few) for way in ["engine", *ways]}
        for way in ways:
            own = run(way, folder, model, arguments.images)
            engine = run("engine", folder, model, arguments.few)  # its cost does not depend on their number
            print(
                f"{way}: {engine['wall_ms'] / own['wall_ms']:.2f} of the engine's throughput, "
                f"{own['wall_ms'] - engine['wall_ms']:+.2f} ms wall and "
                f"{own['processor_ms'] - engine['processor_ms']:+.2f} ms processor an image\n"
                f"  peak memory of the driver: {few[way]['peak_mb']:.0f} MB at {arguments.few:,} images, "
                f"{own['peak_mb']:.0f} MB at {arguments.images:,}"
            )


if __name__ == "__main__":
    main()
