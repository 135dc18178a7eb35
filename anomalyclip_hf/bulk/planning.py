# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Compare the list of images with what is done already, and plan what is missing."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ..version import __version__
from .inputs import Listing
from .manifest import INDEX_NAME, Part, write_manifest
from .progress import METRICS_NAME, RunStatus
from .scoring import STOP_NAME
from .sink import Sink
from .stores import Folder


RUN_NAME = "run.json"


@dataclass
class Plan:
    """Parts of a run, and what is to be done.

    Args:
        parts (`list[Part]`): All parts.
        pending (`list[Part]`): Those to score.
        images_done (`int`): Images of the others.
        errors_done (`int`): Of these, images that could not be read.
        stale (`list[str]`): Files of parts that earlier lists had and this one has not.
        duplicates (`int`): Names that lead to an image which another name has led to.
    """

    parts: list[Part]
    pending: list[Part]
    images_done: int
    errors_done: int
    stale: list[str]
    duplicates: int = 0

    def status(self, run: str) -> RunStatus:
        """Return the status before any of the pending parts is scored."""
        images = sum(part.images for part in self.parts)
        done = len(self.parts) - len(self.pending)
        return RunStatus(
            run,
            images=images,
            done=self.images_done,
            errors=self.errors_done,
            parts=len(self.parts),
            parts_done=done,
        )

    def tidy(self, sink: Sink, folder: Folder) -> int:
        """Delete the files of parts that no longer are; to be called when all parts are done.

        Returns:
            `int`: number of such parts.
        """
        for path in self.stale:
            sink.delete(path)
        manifest = folder / "manifest"
        current = {INDEX_NAME, *(part.file for part in self.parts)}
        for name in manifest.files(".parquet").keys() - current:
            manifest.delete(name)
        return len(self.stale)


def claim_run(folder: Folder, marks: dict[str, str], settings: dict[str, Any], has_results: bool) -> None:
    """Write down what a run depends on, or check that it is the same as before.

    Args:
        folder (`Folder`): Of the run.
        marks (`dict[str, str]`): Digests of model and settings.
        settings (`dict`): What they were made of, and the inputs; ready for JSON.
        has_results (`bool`): Whether anything was scored; a run that has failed before that gives way to another.

    Raises:
        ValueError: If an earlier run of this name had other settings; names them.
    """
    folder.delete(STOP_NAME)
    known = json.loads(json.dumps({"model": marks["model"], **settings}))
    if not (has_results and folder.exists(RUN_NAME)):
        folder.write(RUN_NAME, json.dumps({"version": __version__, "settings": known}, indent=2).encode())
        return
    earlier = json.loads(folder.read(RUN_NAME))["settings"]
    changed = [name for name in {**earlier, **known} if earlier.get(name) != known.get(name)]
    if changed:
        values = "; ".join(f"{name} was {earlier.get(name)!r} and is {known.get(name)!r}" for name in changed)
        raise ValueError(
            f"{folder} is of a run with other settings: {values}. Choose another output folder, or give this run "
            "a name of its own with run= (--run)."
        )


def make_plan(
    sink: Sink,
    folder: Folder,
    marks: dict[str, str],
    listing: Listing,
    part_size: int,
    by_folder: bool = False,
    retry_errors: bool = False,
) -> Plan:
    """List the images, cut them into parts, and find out which parts are missing.

    Args:
        sink ([`Sink`]): With what is done.
        folder (`Folder`): Of the run; receives the manifest.
        marks (`dict[str, str]`): Digests of model and settings.
        listing ([`Listing`]): The images.
        part_size (`int`): Mean number of images of a part.
        by_folder (`bool`, *optional*, defaults to `False`): Let no part hold images of two folders.
        retry_errors (`bool`, *optional*, defaults to `False`): Do parts again that have errors.

    Raises:
        ValueError: If a folder cannot be a partition.
    """
    manifest = folder / "manifest"
    parts = write_manifest(manifest, "".join(marks.values()), listing, part_size, by_folder)
    paths = {sink.path(part): part for part in parts}
    written = sink.written()
    counts = sink.count(written & paths.keys())
    again = {path for path, (_, errors) in counts.items() if errors and retry_errors}
    pending = [part for path, part in paths.items() if path not in written or path in again]
    stale = sorted(written - paths.keys())
    owners = {(name, state): path for path in [*stale, *again] for name, state in sink.states(path).items()}
    if owners:
        pending = [_with_reuse(part, manifest, owners) for part in pending]
    if pending:
        folder.delete(METRICS_NAME)
    kept = [count for path, count in counts.items() if path not in again]
    done, errors = sum(images for images, _ in kept), sum(errors for _, errors in kept)
    return Plan(parts, pending, done, errors, stale, listing.duplicates)


def _with_reuse(part: Part, manifest: Folder, owners: dict[tuple[str, str], str]) -> Part:
    """Note in which earlier files a part finds rows of its images."""
    found = {owners.get((item.name, item.state)) for item in part.read(manifest)}
    return dataclasses.replace(part, reuse=tuple(sorted(path for path in found if path is not None)))
