# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Open every file of a dataset and report problems, before they interrupt a long evaluation."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..image_processing_anomalyclip import load_image, load_mask
from .files import is_image_name
from .layouts import Row
from .listing import Scan
from .words import ANOMALOUS


@dataclass
class CheckReport:
    """Hold the problems that [`check`] finds; each list contains paths or one-line messages.

    Args:
        counts (`Counter`): Images by split, category and label.
        empty_masks (`list[str]`): Masks of anomalous images that mark nothing.
        full_masks (`list[str]`): Masks that mark every pixel, and categories whose masks mark more than half of all.
        unpaired (`list[str]`): Anomalous images without a mask, where the dataset has masks.
        other_size (`list[str]`): Masks of another size than their image.
        unreadable (`list[str]`): Files that cannot be opened, with the reason.
        unmatched (`list[str]`): Images and masks that belong to no row.
        unused (`list[str]`): Images in folders of a published dataset that the package does not use.
        has_masks (`bool`): Whether any image has a mask, or the dataset should have some.
    """

    counts: Counter = field(default_factory=Counter)
    empty_masks: list[str] = field(default_factory=list)
    full_masks: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    other_size: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    has_masks: bool = True

    @property
    def is_clean(self) -> bool:
        """Return whether there is no problem that would affect an evaluation."""
        problems = (self.empty_masks, self.full_masks, self.unpaired, self.other_size, self.unreadable, self.unmatched)
        return not any(problems)


def check(scanned: Scan, rows: Iterable[Row] | None = None, value_range: Any = None) -> CheckReport:
    """Open every image and mask of a dataset.

    Args:
        scanned ([`Scan`]): From [`scan`].
        rows (`Iterable[Row]`, *optional*): Its rows, for example in a progress bar; defaults to `scanned.rows`.
        value_range (`tuple[float, float]` or `"auto"`, *optional*): See [`load_image`].

    Returns:
        [`CheckReport`]
    """
    has_masks = scanned.entry.has_masks or any(row.mask is not None for row in scanned.rows)
    report = CheckReport(has_masks=has_masks)
    shares: dict[str, list[float]] = {}
    for row in scanned.rows if rows is None else rows:
        report.counts[row.split, row.category, row.label] += 1
        size = _read_image(row.image, value_range, report)
        if row.mask is not None:
            share = _read_mask(row, size, scanned.entry.mask_rule, report)
            shares.setdefault(row.category, []).extend([] if share is None else [share])
        elif row.label == ANOMALOUS and has_masks:
            report.unpaired.append(str(row.image))
    for category, marked in shares.items():
        if marked and np.mean(marked) > 0.5:
            report.full_masks.append(f"{category}: masks mark {np.mean(marked):.0%} of the pixels; are they inverted?")
    _find_unused(scanned, report)
    return report


def _find_unused(scanned: Scan, report: CheckReport) -> None:
    """List the images below the root that belong to no row.

    Published datasets come with further folders on purpose, so only their folders with rows count as unmatched.
    """
    used = {path for row in [*scanned.rows, *scanned.others] for path in (row.image, row.mask, row.empty_mask)}
    folders = {path.parent for path in used if isinstance(path, Path)}
    files = (path for path in scanned.root.rglob("*") if is_image_name(path.name))
    for path in sorted(path for path in files if path not in used and path.parent not in used and path.is_file()):
        is_own = scanned.entry.domain == "any"
        (report.unmatched if is_own or path.parent in folders else report.unused).append(str(path))


def _read_image(path: Path, value_range: Any, report: CheckReport) -> tuple[int, int] | None:
    """Return (width, height), or `None` when the file is unreadable."""
    try:
        return load_image(path, value_range=value_range).size
    except (OSError, ValueError) as error:
        report.unreadable.append(str(error))
        return None


def _read_mask(row: Row, size: tuple[int, int] | None, mask_rule: str, report: CheckReport) -> float | None:
    """Return the share of pixels that a mask marks, or `None` when it is unreadable."""
    name = str(row.image if isinstance(row.mask, bytes) else row.mask)
    try:
        mask = load_mask(row.mask, mask_rule, name)
    except (OSError, ValueError) as error:
        report.unreadable.append(str(error))
        return None
    if not mask.any():
        report.empty_masks.append(name)
    elif mask.all():
        report.full_masks.append(name)
    if size is not None and mask.shape != size[::-1]:
        report.other_size.append(f"{name} ({mask.shape[1]}x{mask.shape[0]}, its image {size[0]}x{size[1]})")
    return float(mask.mean())
