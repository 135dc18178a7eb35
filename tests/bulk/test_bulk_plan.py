# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Tests of the simulation in `benchmarks/bulk_plan.py`, whose table is in the documentation."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest


PLAN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bulk_plan.py"))
simulate, limits, table = PLAN["simulate"], PLAN["limits"], PLAN["table"]
PLENTY = PLAN["Setup"](
    gpus=1, cores=64, decode_ms=1, latency_ms=1, megabytes=0.01, write_ms=1, machine_gbit=1e4, pixels_ahead=1e6
)


@pytest.mark.parametrize(
    ("change", "stage", "rate"),
    [
        ({"device_ms": 10}, "device", 100),
        ({"device_ms": 0.01, "cores": 5, "decode_ms": 40, "threads_per_core": 2}, "decoding", 100),
        ({"device_ms": 0.01, "cores": 5, "latency_ms": 39}, "reading", 100),
        ({"device_ms": 0.01, "machine_gbit": 0.008}, "network", 100),
        ({"device_ms": 0.01, "store_requests": 100}, "store", 100),
        ({"device_ms": 0.01, "write_ms": 5000, "part_size": 500}, "writing", 100),
    ],
)
def test_the_scarcest_stage_sets_the_rate(change, stage, rate):
    setup = replace(PLENTY, **change)
    found = limits(setup)
    assert min(found, key=lambda name: found[name]) == stage
    assert found[stage] == pytest.approx(rate, rel=0.05)
    assert 0.85 * rate <= simulate(setup) <= found[stage]


def test_no_stage_is_exceeded_and_more_gpus_never_do_less():
    rows = table(PLAN["Setup"](), [1, 2, 4, 8, 16, 32, 64])
    rates = [row["images/s"] for row in rows]
    assert rates == sorted(rates)
    assert rates[1] == pytest.approx(2 * rates[0])
    for row in rows:
        assert row["images/s"] <= min(limits(replace(PLAN["Setup"](), gpus=row["gpus"])).values())
        assert row["hours"] == pytest.approx(10_000_000 / row["images/s"] / 3600)
