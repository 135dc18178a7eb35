# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Progress on disk: a run that was killed goes on where it was, with any number of processes."""

import hashlib
import json
import os
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..io.atomic import atomic_write
from ..metrics import AnomalyDetectionMetric
from .scoring import Evaluation, Scorer


class Progress:
    """Parts of an evaluation in a folder, one file a process.

    A part that continues others names them, so that a kill between writing it and deleting them counts nothing twice.

    Args:
        folder (`Path`): Made when first written to.
        key (`str`): Of [`evaluation_key`].

    Raises:
        ValueError: If the folder holds progress of another evaluation.
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        self.own = folder / f"{uuid.uuid4().hex}.npz"
        self.replaced: list[str] = []

    def load(self, aupro_limit: float) -> Evaluation:
        """All that earlier runs have done; `save` then writes it along with what is new, in one file."""
        # A dot begins what a kill has left half-written.
        found = {path.name: self._read(path) for path in sorted(self.folder.glob("[!.]*.npz"))}
        parts = {name: part for name, part in found.items() if part is not None}
        stale = {name for header, _ in parts.values() for name in header["replaces"]}
        evaluation = self.fresh(aupro_limit)
        for name, (header, metric) in parts.items():
            if name not in stale:
                evaluation.merge(Evaluation(metric, header["rows"]))
        self.replaced = list(found)
        return evaluation

    @staticmethod
    def fresh(aupro_limit: float) -> Evaluation:
        """An evaluation of nothing yet."""
        return Evaluation(AnomalyDetectionMetric(aupro_limit))

    def save(self, evaluation: Evaluation) -> None:
        """Write all that this process has done, and delete what it continues."""
        header = {"key": self.key, "replaces": self.replaced, "rows": evaluation.rows}
        arrays: dict[str, Any] = {f"metric.{name}": array for name, array in evaluation.metric.state().items()}
        with atomic_write(self.own) as partial:
            np.savez_compressed(partial, header=np.array(json.dumps(header)), **arrays)
        for name in self.replaced:
            (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all parts; the results are written."""
        for path in self.folder.glob("*.npz"):
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self, path: Path) -> tuple[dict[str, Any], AnomalyDetectionMetric] | None:
        """One part; None for a damaged file, whose images are then scored again."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
                header = json.loads(str(arrays.pop("header")))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
            return None
        if header["key"] != self.key:
            raise ValueError(
                f"{self.folder} holds progress of an evaluation with another model, data set or setting; choose "
                "another output folder, or start over with --restart."
            )
        state = {name.removeprefix("metric."): array for name, array in arrays.items()}
        return header, AnomalyDetectionMetric.from_state(state)


def evaluation_key(scorer: Scorer, settings: dict[str, Any]) -> str:
    """A digest of everything that the metrics depend on.

    Args:
        scorer ([`Scorer`]): Every weight and setting of its model and processor; and of the data set paths, labels and
            categories, size and time of the files, and how masks are read.
        settings (`dict`): What else matters, ready for JSON.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    model, rows = scorer.model, scorer.dataset
    settings = settings | {"mask_rule": scorer.mask_rule, "dtype": str(model.dtype)}
    for text in (
        model.config.to_json_string(),
        scorer.processor.to_json_string(),
        json.dumps(settings, sort_keys=True),
    ):
        digest.update(text.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for row in rows:
        files = [_state(row[column]) for column in ("image", "mask")]
        digest.update(repr((row["path"], row["label"], row["category"], files)).encode())
    return digest.hexdigest()


def _state(source: dict[str, Any] | None) -> tuple[int, int] | None:
    """Size and time of a file; nothing for what is kept in the data set itself."""
    if source is None or source["path"] is None or not os.path.exists(source["path"]):
        return None
    state = os.stat(source["path"])
    return state.st_size, state.st_mtime_ns
