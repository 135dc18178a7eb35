# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from bulk.rows import assert_scores, read_rows

from anomalyclip_hf.bulk import ray_engine
from anomalyclip_hf.bulk.ray_engine import RayEngine, check_versions, fit_workers, import_ray


pytest_plugins = ["bulk.runs", "export.exports"]
CLUSTER = {"workers": 2, "cpus_per_worker": 1}


@pytest.fixture
def exported(exports) -> str:
    """The same model for a runtime without PyTorch, with which workers start sooner."""
    return str(exports("onnxruntime"))


@pytest.fixture
def score(score, exported):
    return partial(score, model=exported)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two machines with a processor each, as processes of this one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # or whether Ray asks for a token depends on the home folder
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


def actors_of(cluster) -> list[int]:
    """Return the process ids of the actors that score, of this cluster alone."""
    raylets = {info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended
        if b"MapWorker" in name and parent in raylets:
            found.append(int(folder.name))
    return found


def test_killed_workers_cost_no_image_and_double_none(score, cluster, pictures, expected, tmp_path):
    killed = []

    def kill(status):
        running = actors_of(cluster)
        if status.parts_done > len(killed) and len(killed) < 3 and running:
            os.kill(random.choice(running), signal.SIGKILL)
            killed.append(status.parts_done)

    result = score(pictures, ray=cluster.address, on_status=kill, part_size=2, **CLUSTER)
    assert len(killed) == 3
    assert (result.scored, result.status.left) == (40, 0)
    assert_scores(tmp_path / "out", expected)


def test_a_killed_driver_goes_on(score, cluster, pictures, expected, exported, tmp_path):
    program = f"""
import os, signal
from anomalyclip_hf import score_dataset
def kill(status):
    if status.parts_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
score_dataset({str(pictures)!r}, {str(tmp_path / "out")!r}, model={exported!r}, part_size=2,
              ray={cluster.address!r}, workers=2, cpus_per_worker=1, on_status=kill)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert b"WARNING" not in done.stderr
    assert b" E " not in done.stderr
    assert len(read_rows(tmp_path / "out")) >= 2
    result = score(pictures, ray=cluster.address, part_size=2, **CLUSTER)
    assert result.status.left == 0
    assert_scores(tmp_path / "out", expected)


def test_a_signal_stops_after_the_parts_in_progress(score, cluster, pictures, expected, tmp_path):
    def stop(status):
        if status.parts_done == 1 and not (tmp_path / "out" / "_runs" / "default" / "stop").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            while not (tmp_path / "out" / "_runs" / "default" / "stop").exists():
                time.sleep(0.01)

    result = score(pictures, ray=cluster.address, on_status=stop, part_size=2, **CLUSTER)
    assert result.is_stopped
    assert 0 < result.scored < 40
    assert score(pictures, ray=cluster.address, part_size=2, **CLUSTER).scored == result.status.left
    assert_scores(tmp_path / "out", expected)


def test_a_machine_that_goes_half_way_costs_no_image(score, cluster, pictures, expected, tmp_path):
    node, removed = cluster.add_node(num_cpus=1), []

    def remove(status):
        if status.parts_done >= status.parts // 2 and not removed:
            removed.append(status.parts_done)
            cluster.remove_node(node, allow_graceful=False)

    result = score(pictures, ray=cluster.address, on_status=remove, part_size=2, workers=3, cpus_per_worker=1)
    assert removed
    assert (result.scored, result.status.left) == (40, 0)
    assert_scores(tmp_path / "out", expected)


def test_a_plan_that_does_not_fit_is_refused_before_work_is_done(score, cluster, pictures, tmp_path):
    for options, named in (
        ({"workers": 9}, "9 workers"),
        ({"gpus_per_worker": 1}, "GPU"),
        ({"cpus_per_worker": 2}, "2"),
    ):
        with pytest.raises(ValueError, match=named):
            score(pictures, ray=cluster.address, **options)
    assert not (tmp_path / "out").exists()


def test_machines_that_join_later_are_waited_for(cluster, monkeypatch):
    added, original = [], ray_engine.fit_workers

    def fit_and_add(*arguments):
        try:
            return original(*arguments)
        finally:
            if not added:
                added.append(cluster.add_node(num_cpus=3))

    monkeypatch.setattr(ray_engine, "fit_workers", fit_and_add)
    with RayEngine(cluster.address, workers=1, cpus=3, wait=60) as engine:
        assert engine.cpus == 3
    cluster.remove_node(*added)


def test_a_cluster_with_another_version_of_this_package_is_refused(score, cluster, pictures, monkeypatch, tmp_path):
    monkeypatch.setattr(ray_engine, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"anomalyclip_hf .* 9\.9"):
        score(pictures, ray=cluster.address)
    assert not (tmp_path / "out").exists()


def test_no_cluster_is_named():
    with pytest.raises(ConnectionError, match=re.escape("127.0.0.1:9")):
        RayEngine("127.0.0.1:9")


@pytest.mark.parametrize("package", ["anomalyclip_hf", "ray"])
@pytest.mark.parametrize("version", ["1.0", "none"])
def test_the_machine_with_another_version_is_named(package, version):
    own = {"anomalyclip_hf": "2.0", "ray": "2.60.0"}
    check_versions({"head": own}, own)
    with pytest.raises(ValueError, match=f"worker-7.*{package}.*{version}"):
        check_versions({"head": own, "worker-7": {**own, package: version}}, own)


@pytest.mark.parametrize(
    ("nodes", "asked", "plan"),
    [
        ([{"CPU": 64, "GPU": 8}], (None, None, None), (8, 1.0, 8.0)),
        ([{"CPU": 64, "GPU": 8}], (None, 0.5, None), (16, 0.5, 4.0)),
        ([{"CPU": 8}, {"CPU": 16, "GPU": 1}, {"CPU": 4, "GPU": 1}], (None, None, None), (2, 1.0, 4.0)),
        ([{"CPU": 2}], (None, None, None), (1, 0.0, 2.0)),
        ([{"CPU": 1}], (None, None, None), (1, 0.0, 1.0)),
        ([{"CPU": 8, "GPU": 1}], (3, 0, 2), (3, 0.0, 2.0)),
    ],
)
def test_workers_fit_the_machines(nodes, asked, plan):
    assert fit_workers(nodes, *asked) == plan


@pytest.mark.parametrize(
    ("nodes", "asked"),
    [
        ([{"CPU": 4}], (5, 0, 1)),
        ([{"CPU": 4}, {"CPU": 4}], (None, 0, 8)),  # two machines of 4 are none of 8
        ([{"CPU": 4, "GPU": 1}], (2, 1, 1)),
        ([{"CPU": 4}], (0, 0, 1)),
        ([{"CPU": 4}], (1, 0, 0)),
        ([], (None, None, None)),
    ],
)
def test_workers_that_do_not_fit_are_refused(nodes, asked):
    with pytest.raises(ValueError, match="workers"):
        fit_workers(nodes, *asked)


def test_without_ray_the_extra_is_named(score, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"anomalyclip-hf\[bulk\]"):
        import_ray()
    with pytest.raises(ImportError, match=r"anomalyclip-hf\[bulk\]"):
        score(pictures, ray="local")
    assert score(pictures / "line0").scored > 0
