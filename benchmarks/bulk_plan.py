# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Simulate bulk scoring on 1 to 64 GPUs: which stage limits, and how long it takes.

    python benchmarks/bulk_plan.py [--images 10000000] [--megabytes 2] [--decode-ms 60] [--device-ms 4] [--cores 16]

The stage costs are those of `python benchmarks/throughput.py` on your machines: "read" and "resize and normalise"
together are --decode-ms, "model" is --device-ms. A worker is simulated image by image, as the engine works: threads
fetch and decode a bounded number of images ahead, the device takes them in batches, and each part ends with a write.
Machines, store and network are shared in equal parts, so one worker stands for all.
"""

import argparse
import heapq
from dataclasses import dataclass, replace


PARTS = 4  # to simulate; the first also fills the pipeline


@dataclass(frozen=True)
class Setup:
    """Costs and machines; times in milliseconds an image, on one core or GPU."""

    images: int = 10_000_000
    megabytes: float = 2.0
    megapixels: float = 6.0
    decode_ms: float = 60.0
    device_ms: float = 4.0
    write_ms: float = 150.0  # a part, to an object store
    latency_ms: float = 30.0  # of the store, an image
    connection_mb: float = 80.0  # megabytes a second of one connection
    machine_gbit: float = 25.0  # network of a machine
    store_requests: float = 5_500.0  # a second, of one prefix in the store
    gpus: int = 8
    gpus_per_machine: int = 8
    cores: int = 16  # of each GPU
    workers_per_gpu: int = 1
    threads_per_core: float = 1.0
    batch_size: int = 32
    part_size: int = 500
    pixels_ahead: float = 50.0  # megapixels that a worker reads ahead


def limits(setup: Setup) -> dict[str, float]:
    """Return the images a second that each stage alone could do, all GPUs together."""
    machines = -(-setup.gpus // setup.gpus_per_machine)
    fetch = setup.latency_ms + 1000 * setup.megabytes / setup.connection_mb
    threads = max(1, int((setup.cores / setup.workers_per_gpu - 1) * setup.threads_per_core)) * setup.workers_per_gpu
    in_flight = setup.workers_per_gpu * ahead(setup)
    return {
        "network": machines * setup.machine_gbit * 125 / setup.megabytes,
        "store": setup.store_requests,
        "reading": setup.gpus * 1000 * min(threads, in_flight) / (fetch + setup.decode_ms),
        "decoding": setup.gpus * 1000 * max(1, setup.cores - setup.workers_per_gpu) / setup.decode_ms,
        "device": setup.gpus * 1000 / setup.device_ms,
        "writing": setup.gpus * setup.workers_per_gpu * 1000 * setup.part_size / setup.write_ms,
    }


def ahead(setup: Setup) -> int:
    """Return how many images a worker reads ahead, as the engine bounds it."""
    return max(1, min(2 * setup.batch_size, int(setup.pixels_ahead / setup.megapixels)))


def simulate(setup: Setup) -> float:
    """Return the images a second of all GPUs together."""
    workers = setup.gpus * setup.workers_per_gpu
    found = limits(setup)
    share = min(found["network"], found["store"]) / workers  # images a second that may come in, of a worker
    fetch = setup.latency_ms + 1000 * setup.megabytes / setup.connection_mb
    cores = max(1.0, setup.cores / setup.workers_per_gpu - 1)
    threads = max(1, int(cores * setup.threads_per_core))
    slowdown = max(1.0, min(threads, ahead(setup)) * (setup.decode_ms / (fetch + setup.decode_ms)) / cores)
    service = fetch + setup.decode_ms * slowdown
    clock, end_of_first, next_arrival = 0.0, 0.0, 0.0
    for part in range(PARTS):
        if part == 1:
            end_of_first = clock
        free = [clock] * threads
        taken: list[float] = []  # when each image of the part left the queue
        ready: list[float] = []
        for number in range(setup.part_size):
            room = taken[number - ahead(setup)] if number >= ahead(setup) else clock
            next_arrival = max(next_arrival, clock) + 1000 / share
            begin = max(heapq.heappop(free), room)
            end = max(begin + service, next_arrival)
            heapq.heappush(free, end)
            # results are taken in order, and none while the device works on a batch
            ready.append(max(end, taken[-1] if taken else clock))
            taken.append(ready[-1])
            if (number + 1) % setup.batch_size == 0 or number + 1 == setup.part_size:
                batch = (number % setup.batch_size) + 1
                taken[-1] = ready[-1] + batch * setup.device_ms
        clock = taken[-1] + setup.write_ms
    rate = workers * 1000 * (PARTS - 1) * setup.part_size / (clock - end_of_first)
    return min(rate, *found.values())  # workers that share a GPU cannot do more than it can


def table(setup: Setup, gpus: list[int]) -> list[dict[str, object]]:
    """Simulate several numbers of GPUs."""
    rows = []
    for count in gpus:
        one = replace(setup, gpus=count)
        rate, found = simulate(one), limits(one)
        rows.append(
            {
                "gpus": count,
                "images/s": rate,
                "images/h": 3600 * rate,
                "hours": one.images / rate / 3600,
                "limit": min(found, key=lambda stage: found[stage]),
                "device busy": rate / found["device"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, field in Setup.__dataclass_fields__.items():
        kind = type(field.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default)
    setup = Setup(**vars(parser.parse_args()))
    print("limits of one GPU, images/s:", {name: round(rate) for name, rate in limits(replace(setup, gpus=1)).items()})
    print(f"{'GPUs':>5} {'images/s':>9} {'images/h':>11} {'hours':>7} {'device busy':>11}  limit")
    for row in table(setup, [1, 2, 4, 8, 16, 32, 64]):
        print(
            f"{row['gpus']:5} {row['images/s']:9.0f} {row['images/h']:11,.0f} {row['hours']:7.1f} "
            f"{row['device busy']:11.0%}  {row['limit']}"
        )


if __name__ == "__main__":
    main()
