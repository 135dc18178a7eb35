# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Score parts with Ray Data: one actor per model, on one machine or on a cluster."""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..version import __version__
from .manifest import Part
from .scoring import PartReport, PartScorer, WorkerSettings


SECONDS_TO_CONNECT = 10.0
SECONDS_BETWEEN_LOOKS = 2.0  # at the machines of a cluster that is starting
SECONDS_TO_ANSWER = 120.0  # for every machine to say which versions it has


class RayEngine:
    """A Ray cluster on which workers fit. Connecting checks versions and room, before any work is done.

    Args:
        address (`str`): `"local"` starts Ray on this machine; otherwise the address of a cluster, or `"auto"`.
        workers (`int`, *optional*): Number of actors; by default as many as fit.
        gpus (`float`, *optional*): GPUs of an actor; by default 1 where the cluster has any.
        cpus (`float`, *optional*): Processors of an actor, of which one runs the model and the others read images; by
            default an equal share of the smallest machine, or 2 without GPUs.
        wait (`float`, *optional*, defaults to 0): Seconds to wait until enough machines have joined.

    Raises:
        ImportError: If Ray is not installed.
        ConnectionError: If there is no cluster.
        ValueError: If the versions differ, or the workers do not fit.
    """

    def __init__(
        self,
        address: str,
        workers: int | None = None,
        gpus: float | None = None,
        cpus: float | None = None,
        wait: float = 0.0,
    ):
        self._ray = import_ray()
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            self._connect(address)
        try:
            self.workers, self.gpus, self.cpus = self._fit(workers, gpus, cpus, time.monotonic() + wait)
            check_versions(self._ask_versions(), {"anomalyclip_hf": __version__, "ray": self._ray.__version__})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and stop Ray where this engine has started it."""
        if self._is_own:
            self._ray.shutdown()

    def score(self, settings: WorkerSettings, parts: Sequence[Part]) -> Iterator[PartReport]:
        """Score parts; reports come as parts are done, in any order.

        Args:
            settings ([`WorkerSettings`]): Sent to each machine once, with the model in it.
            parts (`Sequence[Part]`): What to score.
        """
        if not parts:
            return
        from ray import data

        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        shared = self._ray.put(settings)  # the reference stays here, since an actor that starts again needs it
        rows = [{"part": json.dumps(asdict(part))} for part in parts]
        done = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.workers, len(parts))),
            fn_constructor_kwargs={"settings": [shared], "readers": max(1, int(self.cpus) - 1)},
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
        )
        for row in done.iter_rows():
            yield PartReport(**json.loads(row["report"]))

    def _connect(self, address: str) -> None:
        own = {"include_dashboard": False} if address == "local" else {}
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # a restart that is provided for is an error to Ray
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            _knock(address)
            self._ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except ConnectionError as error:
            raise ConnectionError(f"no Ray cluster answers at {address}; start one, or use --ray local.") from error
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:400]
            raise ValueError(f"the Ray cluster at {address} does not fit this process: {reason}") from error

    def _fit(
        self, workers: int | None, gpus: float | None, cpus: float | None, end: float
    ) -> tuple[int, float, float]:
        """Fit the workers to the machines that are there, waiting for more until a time."""
        while True:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            try:
                return fit_workers(nodes, workers, gpus, cpus)
            except ValueError:
                if time.monotonic() > end:
                    raise
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _ask_versions(self) -> dict[str, dict[str, str]]:
        """Return the versions that each machine of the cluster has."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def versions() -> dict[str, str]:  # an inner function is sent as code, so it runs without this package too
            import importlib

            found = {}
            for name, module in (("anomalyclip_hf", "anomalyclip_hf.version"), ("ray", "ray")):
                try:
                    found[name] = importlib.import_module(module).__version__
                except ImportError:
                    found[name] = "none"
            return found

        task = self._ray.remote(num_cpus=0)(versions)
        asked = {
            node["NodeManagerAddress"]: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in self._ray.nodes()
            if node["Alive"]
        }
        answers = self._ray.get(list(asked.values()), timeout=SECONDS_TO_ANSWER)
        return dict(zip(asked, answers, strict=True))


def _knock(address: str) -> None:
    """Raise [`ConnectionError`] where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise ConnectionError(str(error)) from error


class _Worker:
    """The actor: one model, one part at a time."""

    def __init__(self, settings: list[Any], readers: int):
        import ray

        known: WorkerSettings = ray.get(settings[0])
        if known.scorer.get("num_workers") is None:
            known.scorer["num_workers"] = readers
        if known.scorer.get("processor") is not None and known.scorer.get("device") is None:
            known.scorer["device"] = _accelerator()  # a model that was sent would stay on the CPU
        self._scorer = PartScorer(known)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        reports = []
        for text in batch["part"]:
            values = json.loads(text)
            part = Part(**{**values, "reuse": tuple(values["reuse"])})
            reports.append(json.dumps(asdict(self._scorer.score(part))))
        return {"report": reports}


def _accelerator() -> Any:
    """Return the GPU or other accelerator that Ray has given to this process; `None` without one."""
    import torch

    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def import_ray() -> Any:
    """Import Ray.

    Raises:
        ImportError: If it is not installed; names the extra.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("--ray needs Ray; install it with `pip install anomalyclip-hf[bulk]`.") from error
    return ray


def check_versions(found: Mapping[str, Mapping[str, str]], own: Mapping[str, str]) -> None:
    """Refuse a cluster on which other versions are installed.

    Args:
        found (`Mapping[str, Mapping[str, str]]`): Machine to package to version; `"none"` where it is missing.
        own (`Mapping[str, str]`): Package to version, of this process.

    Raises:
        ValueError: Naming the first machine and package that differ.
    """
    for machine, versions in found.items():
        for package, version in own.items():
            if versions.get(package) != version:
                raise ValueError(
                    f"machine {machine} of the Ray cluster has {package} {versions.get(package)}, this process has "
                    f"{version}; install the same version on all machines."
                )


def fit_workers(
    nodes: Sequence[Mapping[str, float]], workers: int | None, gpus: float | None, cpus: float | None
) -> tuple[int, float, float]:
    """Choose number and size of the workers, and refuse a plan that could never start.

    Args:
        nodes (`Sequence[Mapping[str, float]]`): `CPU` and `GPU` of each machine.
        workers (`int`, *optional*): Number of workers; by default as many as fit.
        gpus (`float`, *optional*): GPUs of each; by default 1 where there are any.
        cpus (`float`, *optional*): Processors of each; by default an equal share of the smallest machine with GPUs, or
            2 (or 1 where no machine has 2).

    Returns:
        `tuple[int, float, float]`: workers, GPUs and processors of each.

    Raises:
        ValueError: If the workers do not fit the machines.

    Example:
    ```python
    >>> from anomalyclip_hf.bulk.ray_engine import fit_workers

    >>> fit_workers([{"CPU": 64, "GPU": 8}], None, None, None)
    (8, 1.0, 8.0)

    ```
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) > 0]
    gpus = float(bool(with_gpu)) if gpus is None else float(gpus)
    if cpus is None and gpus and with_gpu:
        cpus = max(1.0, min(float(node.get("CPU", 0)) * gpus // node["GPU"] for node in with_gpu))
    elif cpus is None:
        cpus = min(2.0, max([1.0, *(float(node.get("CPU", 0)) for node in nodes)]))
    if gpus < 0 or cpus <= 0 or (workers is not None and workers < 1):
        raise ValueError(f"got {workers} workers with {cpus:g} CPUs and {gpus:g} GPUs; expected positive numbers.")
    room = [
        min(node.get("CPU", 0) // cpus, node.get("GPU", 0) / gpus // 1 if gpus else float("inf")) for node in nodes
    ]
    most = int(sum(room))
    if most < (workers or 1):
        machines = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise ValueError(
            f"{workers or 1} workers with {cpus:g} CPUs and {gpus:g} GPUs each do not fit the cluster, which has "
            f"room for {most} (machines: {machines}); change --workers, --cpus-per-worker or --gpus-per-worker."
        )
    return workers or most, gpus, float(cpus)
