# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Mark checkpoints as complete: the last file that is written lists all others with their digests."""

import hashlib
import json
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..io.atomic import atomic_write


DIGESTS_FILE = "complete.json"


def mark_complete(checkpoint: Path) -> None:
    """Write the digests of all files of a checkpoint, which marks it as complete."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != DIGESTS_FILE]
    digests = {str(path.relative_to(checkpoint)): _digest(path) for path in files}
    with atomic_write(checkpoint / DIGESTS_FILE) as partial:
        partial.write_text(json.dumps(digests, indent=2, sort_keys=True))


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint was marked as complete and none of its files has changed since."""
    try:
        digests = json.loads((checkpoint / DIGESTS_FILE).read_text())
        return all(_digest(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def latest_complete_checkpoint(output_dir: Path) -> Path | None:
    """Return the complete checkpoint with the most steps, or `None`.

    Args:
        output_dir (`Path`): Output folder of the training.
    """
    steps = {path: path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-") for path in output_dir.glob("checkpoint-*")}
    newest_first = sorted((path for path in steps if steps[path].isdigit()), key=lambda path: -int(steps[path]))
    return next((path for path in newest_first if is_complete(path)), None)


def check_output_dir(output_dir: str | Path, resume: bool = False) -> None:
    """Refuse an output folder whose files a training would overwrite.

    With several processes, call it in each of them before any starts to write.

    Args:
        output_dir (`str` or `Path`): Output folder of the training that is about to start.
        resume (`bool`, *optional*, defaults to `False`): Whether the training resumes from a checkpoint in it.

    Raises:
        FileExistsError: If the folder contains a model, a model card or checkpoints and the training does not resume,
            or if none of its checkpoints is complete. The message names the first file found.
    """
    folder = Path(output_dir)
    results = ("config.json", "README.md", "training.json", "*.safetensors", "checkpoint-*/trainer_state.json")
    result = _first_match(folder, results)
    # Without any result, the first checkpoint was interrupted, and training can start again.
    can_resume = result is None or latest_complete_checkpoint(folder) is not None
    found = result or _first_match(folder, ("checkpoint-*",))
    if found is None or (resume and can_resume):
        return
    if can_resume:
        raise FileExistsError(f"{folder} already contains {found}; choose another --output-dir, or use --resume.")
    raise FileExistsError(
        f"{folder} already contains {found} and no complete checkpoint; choose another --output-dir."
    )


def _first_match(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """Return the first path below a folder that matches a pattern, relative to the folder."""
    return next((path.relative_to(folder) for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
