# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are known to be whole: the last file written lists all others with their digests."""

import hashlib
import json
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..io.atomic import atomic_write
from ..weight_files_anomalyclip import validate_weight_file


SEAL = "complete.json"


def mark_complete(folder: Path) -> None:
    """Say that a checkpoint is complete: write the digests of all its files."""
    digests = {str(path.relative_to(folder)): _digest(path) for path in _files(folder)}
    with atomic_write(folder / SEAL) as partial:
        partial.write_text(json.dumps(digests, indent=2, sort_keys=True))


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint was sealed and no file of it has changed since."""
    try:
        digests = json.loads((folder / SEAL).read_text())
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def check_states(folder: Path) -> None:
    """Refuse the state of an optimiser, schedule or random numbers that holds more than numbers.

    Args:
        folder (`Path`): A checkpoint.

    Raises:
        OSError: If a file's pickle wants to run anything; says what.
    """
    for path in sorted([*folder.glob("*.pt"), *folder.glob("*.pth"), *folder.glob("optimizer*.bin")]):
        validate_weight_file(path, with_numpy=True)


def latest_complete_checkpoint(output_dir: Path) -> Path | None:
    """The checkpoint to go on from, or None.

    Args:
        output_dir (`Path`): Of the training.

    Returns:
        `Path`: the one with the most steps among those that are whole.
    """
    found = [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.rsplit("-", 1)[1].isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True):
        if is_complete(path):
            return path
    return None


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
