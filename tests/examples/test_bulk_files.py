# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Check the files for Kubernetes and Slurm against their schema, the command line and the pinned versions."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from anomalyclip_hf.bulk.ray_engine import fit_workers
from anomalyclip_hf.cli import app


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "bulk"


@pytest.fixture
def job() -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((FOLDER / "kuberay_job.yaml").read_text())


def pinned_ray() -> str:
    return re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M).group(1)


def parse(words: list[str]) -> dict:
    """Parse a call of `anomalyclip score` as the command line does, without running it."""
    command = typer.main.get_command(app).commands[words[1]]
    assert words[:2] == ["anomalyclip", "score"]
    return command.make_context("score", words[2:]).params


def test_the_kuberay_job_fits_the_schema(job):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "tests" / "bulk" / "rayjob.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(job, schema)
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    with pytest.raises(jsonschema.ValidationError, match="image"):
        jsonschema.validate(job, schema)


def test_the_command_of_the_kuberay_job_fits_its_machines(job):
    options = parse(shlex.split(job["spec"]["entrypoint"]))
    assert options["ray"] == "auto"
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["rayStartParams"]["num-cpus"]
    nodes = [{"CPU": float(head)}]
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        amounts = container["resources"]["limits"]
        nodes += [{"CPU": float(amounts["cpu"]), "GPU": float(amounts["nvidia.com/gpu"])}] * group["replicas"]
    workers, _, _ = fit_workers(nodes, None, options["gpus_per_worker"], options["cpus_per_worker"])
    assert workers == 32


def test_ray_is_the_pinned_version_everywhere(job):
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned_ray()
    assert f"FROM rayproject/ray:{pinned_ray()}-" in (FOLDER / "kuberay.Dockerfile").read_text()


def test_the_slurm_script_is_a_script_and_its_command_is_known():
    script = (FOLDER / "slurm.sh").read_text()
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", FOLDER / "slurm.sh"], check=True)
    command = re.search(r"^anomalyclip score .*?&$", script, re.M | re.S).group(0)
    command = command.replace("\\\n", " ").removesuffix("&").replace("$((SLURM_JOB_NUM_NODES * 32))", "128")
    options = parse(shlex.split(command))
    assert options["workers"] == 128
    gpus, cpus = (int(re.search(rf"{name}=(\d+)", script).group(1)) for name in ("gpus-per-node", "cpus-per-task"))
    nodes = [{"CPU": cpus, "GPU": gpus}] * 4
    fit_workers(nodes, options["workers"], options["gpus_per_worker"], options["cpus_per_worker"])
