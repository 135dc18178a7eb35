# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""From a name and a folder to the rows of a data set, without opening images."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .catalogue import CATALOGUE, DatasetEntry
from .files import ARCHIVE_SUFFIXES, list_folders
from .layouts import ANOMALOUS, NORMAL, CategoryTree, Reader, Row, Table


TABLE_NAMES = ("csv", "jsonl")
SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class Scan:
    """What is found under a folder: which layout begins where, its rows, and what is odd about them.

    `others` are rows of the categories that were not chosen.
    """

    entry: DatasetEntry
    root: Path
    reader: Reader
    rows: list[Row]
    problems: list[str] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)

    def path_of(self, row: Row) -> str:
        """The image's path below the root, with forward slashes: its name in results."""
        return row.image.relative_to(self.root).as_posix()


def scan(
    name: str, data_dir: str | os.PathLike, columns: dict[str, str] | None = None, category: str | None = None
) -> Scan:
    """List a data set.

    Args:
        name (`str`): A name of the catalogue, `folder`, `csv` or `jsonl`.
        data_dir (`str` or `os.PathLike`): Where it was unpacked; for a table the file, or a folder with one in it.
        columns (`dict`, *optional*): Of a table: our column names to the file's.
        category (`str`, *optional*): Only this one.

    Raises:
        ValueError: If the name or category is unknown, or files contradict each other.
        FileNotFoundError: If the folder or the layout in it is not there; says what was looked for, and where.
    """
    folder = Path(data_dir)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist{_where_to_get(CATALOGUE.get(name))}.")
    if name in TABLE_NAMES:
        entry, root, reader = _find_table(name, folder, columns or {})
    elif name not in CATALOGUE:
        raise ValueError(f"data set {name!r} is unknown; expected one of {', '.join([*CATALOGUE, *TABLE_NAMES])}.")
    elif columns:
        raise ValueError(f"columns= maps the columns of a table; {name} has folders.")
    else:
        entry = CATALOGUE[name]
        root, reader = find_layout(name, folder)
    rows = list(reader.rows(root))
    if not rows:
        raise FileNotFoundError(
            f"{root} looks like {reader.name} of {entry.title}, but holds no image; unpack it again."
        )
    scanned = Scan(entry, root, reader, rows)
    scanned.problems.extend(find_problems(name, scanned))
    if category is None:
        return scanned
    chosen = [row for row in rows if row.category == category]
    if not chosen:
        found = ", ".join(sorted({row.category for row in rows}))
        raise ValueError(f"{root} has no category {category!r}; expected one of {found}.")
    return replace(scanned, rows=chosen, others=[row for row in rows if row.category != category])


def find_layout(name: str, folder: Path) -> tuple[Path, Reader]:
    """Look for a data set in a folder and the levels below it, nearest first, and first where a name points to it.

    Raises:
        FileNotFoundError: If no layout of the data set is there; says what was looked for, and where.
    """
    entry, level = CATALOGUE[name], [folder]
    for _ in range(entry.search_depth + 1):
        for candidate in level:
            for reader in entry.readers:
                if reader.fits(candidate):
                    return candidate, reader
        children = [(child, hinted_names(child)) for parent in level for child in list_folders(parent)]
        own = [child for child, names in children if name in names]
        level = own + [child for child, names in children if not names]  # never another data set that looks alike
    expected = "; or ".join(dict.fromkeys(reader.expects for reader in entry.readers))
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    shown = ", ".join(names[:8]) or "nothing"
    packed = [item for item in names if Path(item).suffix.lower() in ARCHIVE_SUFFIXES]
    remedy = f" Unpack {packed[0]} first." if packed else ""
    raise FileNotFoundError(
        f"{folder} holds no {entry.title}: looked for {expected}, found {shown}{_where_to_get(entry)}.{remedy}"
    )


def find_dataset(name: str, data_dir: Path) -> Path | None:
    """The folder right below `data_dir` whose name says that it holds a data set, as `MVTec_AD` for `mvtec`."""
    return next((folder for folder in list_folders(data_dir) if name in hinted_names(folder)), None)


def hinted_names(folder: Path) -> list[str]:
    """The data sets that a folder's name points to."""
    plain = "".join(filter(str.isalnum, folder.name.casefold()))
    return [name for name, entry in CATALOGUE.items() if any(hint in plain for hint in entry.folder_hints)]


def _where_to_get(entry: DatasetEntry | None) -> str:
    if entry is None or not entry.page.startswith("http"):
        return ""
    return f"; {entry.title} ({entry.licence}) is at {entry.page}"


def _find_table(name: str, path: Path, columns: dict[str, str]) -> tuple[DatasetEntry, Path, Reader]:
    files = [path] if path.is_file() else sorted(path.glob(f"*.{name}"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise FileNotFoundError(f"{path} should hold one .{name} file, found {found}; name the file itself.")
    reader = Table(files[0].name, columns, name=name)
    return (
        DatasetEntry(files[0].name, "any", "", "", (reader,), has_masks=False, mask_rule="auto"),
        files[0].parent,
        reader,
    )


def find_problems(name: str, scanned: "Scan") -> list[str]:
    """What is odd about a data set, each in a line: missing categories, files and masks, empty folders, counts."""
    entry, root, rows = scanned.entry, scanned.root, scanned.rows
    problems = []
    found = {row.category for row in rows}
    missing = [category for category in entry.categories if category not in found]
    if missing and len(found) > 1:
        problems.append(f"{root} has no images of {', '.join(missing)}: half-unpacked?")
    if isinstance(scanned.reader, CategoryTree) and (empty := scanned.reader.empty_folders(root)):
        problems.append(f"{_some(empty)} hold no images: half-unpacked?")
    if absent := [path for row in rows for path in (row.image, row.mask) if path and not path.exists()]:
        problems.append(f"{len(absent)} listed files do not exist: {_some(absent)}.")
    unmasked = [row.image for row in rows if row.label == ANOMALOUS and row.mask is None]
    if entry.has_masks and unmasked:
        problems.append(f"{len(unmasked)} anomalous images have no mask: {_some(unmasked)}.")
    labels = Counter(row.label for row in rows if row.split == "test")
    seen = (labels[NORMAL], labels[ANOMALOUS])
    if entry.counts and not missing and seen != entry.counts:
        problems.append(
            f"{name}: {seen[0]} normal and {seen[1]} anomalous test images; {entry.counts[0]} and {entry.counts[1]} "
            "are expected."
        )
    return problems


def _some(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(str, paths[:SHOWN])) + more


def fingerprint(rows: list[Row]) -> str:
    """A digest of what the rows say and of the size and time of every file, so that any change shows."""
    digest = hashlib.sha256()
    for row in rows:
        files = [(str(path), *_state(path)) for path in (row.image, row.mask) if path]
        digest.update(repr((row.label, row.category, row.defect_type, row.split, files)).encode())
    return digest.hexdigest()[:32]


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return (-1, -1)
    return (state.st_size, state.st_mtime_ns)
