# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Keep progress on disk, so that a killed evaluation can continue, with any number of processes."""

import json
import uuid
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.samples import SampleReader
from ..io.atomic import atomic_write
from ..io.fingerprints import fingerprint
from ..metrics import AnomalyDetectionMetric
from ..scoring.engine import AnomalyScorer


@dataclass
class Counted:
    """Hold the counts and rows of one process.

    Args:
        metric ([`AnomalyDetectionMetric`]): Counts of the scored images.
        rows (`list[dict]`): One row for each image that was scored or could not be read (with `error`).
    """

    metric: AnomalyDetectionMetric
    rows: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: "Counted") -> None:
        """Add the counts of another process or an earlier run."""
        self.metric.merge(other.metric)
        self.rows += other.rows


class Progress:
    """Store the counts of an evaluation in a folder, one file per process.

    A file that includes the counts of earlier files lists them. If the process is killed before it deletes them, they
    are ignored, so that no image is counted twice.

    Args:
        folder (`Path`): Created with the first file.
        key (`str`): Identifies the evaluation, as returned by [`evaluation_key`].
    """

    def __init__(self, folder: Path, key: str):
        self.folder, self.key = folder, key
        self.own = folder / f"{uuid.uuid4().hex}.npz"
        self.replaced: list[str] = []

    def load(self, aupro_limit: float) -> Counted:
        """Return the counts of all earlier runs. The next [`save`] writes them together with new counts.

        Args:
            aupro_limit (`float`): See [`evaluate_model`].

        Raises:
            ValueError: If the folder holds progress of another evaluation.
        """
        # Half-written files of a killed process begin with a dot.
        found = {path.name: self._read(path) for path in sorted(self.folder.glob("[!.]*.npz"))}
        parts = {name: part for name, part in found.items() if part is not None}
        stale = {name for header, _ in parts.values() for name in header["replaces"]}
        counted = Counted(AnomalyDetectionMetric(aupro_limit))
        for name, (header, metric) in parts.items():
            if name not in stale:
                counted.merge(Counted(metric, header["rows"]))
        self.replaced = list(found)
        return counted

    def save(self, counted: Counted) -> None:
        """Write the counts of this process and delete the files that they include."""
        header = {"key": self.key, "replaces": self.replaced, "rows": counted.rows}
        arrays: dict[str, Any] = {f"metric.{name}": array for name, array in counted.metric.state().items()}
        with atomic_write(self.own) as partial:
            np.savez_compressed(partial, header=np.array(json.dumps(header)), **arrays)
        for name in self.replaced:
            (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all progress files, and the folder if it is empty then."""
        for path in self.folder.glob("*.npz"):
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _read(self, path: Path) -> tuple[dict[str, Any], AnomalyDetectionMetric] | None:
        """Read one file; `None` if it is damaged, so that its images are scored again."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
                header = json.loads(str(arrays.pop("header")))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
            return None
        if header["key"] != self.key:
            raise ValueError(
                f"{self.folder} holds progress of an evaluation with another model, dataset or setting. Choose "
                "another output folder, or start again with restart=True (--restart)."
            )
        state = {name.removeprefix("metric."): array for name, array in arrays.items()}
        return header, AnomalyDetectionMetric.from_state(state)


def evaluation_key(scorer: AnomalyScorer, reader: SampleReader, settings: dict[str, Any]) -> str:
    """Compute a digest of everything that the metrics depend on.

    Args:
        scorer ([`AnomalyScorer`]): The engine, with its model and settings.
        reader ([`SampleReader`]): The images: names, labels, categories, size and time of the files.
        settings (`dict`): Other settings of the evaluation.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    return fingerprint(
        scorer.score_key,
        sorted((scorer.settings | settings | {"mask_rule": reader.mask_rule}).items()),
        *(reader.state(index) for index in range(len(reader))),
    )
