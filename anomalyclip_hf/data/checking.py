# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Open every file of a data set once and say what is wrong with it, before an evaluation of hours meets it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..image_processing_anomalyclip import load_image, load_mask
from .files import is_image_name
from .layouts import ANOMALOUS, Row
from .listing import Scan


@dataclass
class CheckReport:
    """What `check` found; each list holds paths or one-line messages.

    Args:
        counts (`Counter`): Images by split, category and label.
        empty_masks (`list[str]`): Masks of anomalous images that mark nothing.
        unpaired (`list[str]`): Anomalous images without a mask, where the data set has masks.
        other_size (`list[str]`): Masks of another size than their image.
        unreadable (`list[str]`): Files that cannot be opened, with the reason.
        unused (`list[str]`): Images below the root that are in no row, as a mask without its image.
        has_masks (`bool`): Whether any image has one, or the data set should.
    """

    counts: Counter = field(default_factory=Counter)
    empty_masks: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    other_size: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    has_masks: bool = True

    @property
    def is_clean(self) -> bool:
        """Whether an evaluation would run without surprise; unused files do not matter for that."""
        return not (self.empty_masks or self.unpaired or self.other_size or self.unreadable)


def check(scanned: Scan, rows: Iterable[Row] | None = None) -> CheckReport:
    """Open every image and mask of a data set.

    Args:
        scanned ([`Scan`]): From [`scan`].
        rows (`Iterable[Row]`, *optional*): Its rows, wrapped in a progress bar; default: `scanned.rows`.

    Returns:
        [`CheckReport`]
    """
    has_masks = scanned.entry.has_masks or any(row.mask for row in scanned.rows)
    report = CheckReport(has_masks=has_masks)
    used = {path for row in scanned.others for path in (row.image, row.mask)}
    for row in scanned.rows if rows is None else rows:
        report.counts[row.split, row.category, row.label] += 1
        used |= {row.image, row.mask}
        size = _read_image(row.image, report)
        if row.mask is not None:
            _read_mask(row.mask, size, report)
        elif row.label == ANOMALOUS and has_masks:
            report.unpaired.append(str(row.image))
    files = (path for path in scanned.root.rglob("*") if is_image_name(path.name) and path not in used)
    report.unused = sorted(str(path) for path in files if path.is_file())
    return report


def _read_image(path: Path, report: CheckReport) -> tuple[int, int] | None:
    """(width, height), or None when the file is unreadable."""
    try:
        return load_image(path).size
    except (OSError, ValueError) as error:
        report.unreadable.append(str(error))
        return None


def _read_mask(path: Path, size: tuple[int, int] | None, report: CheckReport) -> None:
    try:
        mask = load_mask(path)
    except (OSError, ValueError) as error:
        report.unreadable.append(str(error))
        return
    if not mask.any():
        report.empty_masks.append(str(path))
    if size is not None and mask.shape != size[::-1]:
        report.other_size.append(f"{path} ({mask.shape[1]}x{mask.shape[0]}, its image {size[0]}x{size[1]})")
