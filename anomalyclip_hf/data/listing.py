# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""List the rows of a dataset from its name and folder, without opening images."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .catalogue import CATALOGUE, DatasetEntry
from .files import ARCHIVE_SUFFIXES, list_folders
from .layouts import CategoryTree, Reader, Row
from .tables import Table
from .words import ANOMALOUS, NORMAL


TABLE_NAMES = ("csv", "jsonl")
SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class Scan:
    """Hold the rows found below a folder.

    Args:
        entry ([`DatasetEntry`]): The dataset.
        root (`Path`): Folder at which the layout begins.
        reader ([`Reader`]): The layout.
        rows (`list[Row]`): Images of the chosen category.
        problems (`list[str]`): Unexpected findings, one line each.
        others (`list[Row]`): Images of the categories that were not chosen.
    """

    entry: DatasetEntry
    root: Path
    reader: Reader
    rows: list[Row]
    problems: list[str] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)

    def path_of(self, row: Row) -> str:
        """Return the image's path below the root, with forward slashes, which is its name in results."""
        below = row.image.is_relative_to(self.root)
        return (row.image.relative_to(self.root) if below else row.image).as_posix()


def scan(
    name: str,
    data_dir: str | os.PathLike,
    columns: dict[str, str] | None = None,
    category: str | None = None,
    *,
    normal_labels: Sequence[str] = (),
    encoding: str | None = None,
    allow_outside: bool = False,
) -> Scan:
    """List a dataset.

    Args:
        name (`str`): A name of the catalogue, `csv` or `jsonl`.
        data_dir (`str` or `os.PathLike`): Folder that it was unpacked to; for a table, the file or its folder.
        columns (`dict`, *optional*): For a table: our column names to those of the file.
        category (`str`, *optional*): Only this category.
        normal_labels (`Sequence[str]`, *optional*): Further words that mean normal, in folders and tables.
        encoding (`str`, *optional*): Encoding of a table; detected by default.
        allow_outside (`bool`, *optional*, defaults to `False`): Accept paths in a table that lead out of its folder.

    Raises:
        ValueError: If the name, an option or the category is unknown, or files contradict each other.
        FileNotFoundError: If the folder or the layout in it does not exist. The message says what was expected.
    """
    folder, words = Path(data_dir), frozenset(normal_labels)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist{_where_to_get(CATALOGUE.get(name))}.")
    if name in TABLE_NAMES:
        entry, root, reader = _find_table(name, folder, columns or {}, encoding, allow_outside)
    elif name not in CATALOGUE:
        raise ValueError(f"dataset {name!r} is unknown; expected one of {', '.join([*CATALOGUE, *TABLE_NAMES])}.")
    elif columns or encoding or allow_outside:
        raise ValueError(f"columns=, encoding= and allow_outside= are options of tables; {name} has folders.")
    else:
        entry = CATALOGUE[name]
        root, reader = find_layout(name, folder, words)
    rows = list(reader.rows(root, words))
    if not rows:
        raise FileNotFoundError(
            f"{root} looks like {reader.name} of {entry.title}, but lists no image; check that it is complete."
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


def find_layout(name: str, folder: Path, normal_words: frozenset[str] = frozenset()) -> tuple[Path, Reader]:
    """Look for a dataset in a folder and the levels below it; the nearest, then folders with its name, come first.

    Raises:
        FileNotFoundError: If no layout of the dataset is found. The message says what was expected.
    """
    entry, level = CATALOGUE[name], [folder]
    for _ in range(entry.search_depth + 1):
        for candidate in level:
            for reader in entry.readers:
                if reader.fits(candidate, normal_words):
                    return candidate, reader
        children = [(child, hinted_names(child)) for parent in level for child in list_folders(parent)]
        own = [child for child, names in children if name in names]
        level = own + [child for child, names in children if not names]  # never another dataset that looks alike
    expected = "; or ".join(dict.fromkeys(reader.expects for reader in entry.readers))
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    shown = ", ".join(names[:8]) or "nothing"
    packed = [item for item in names if Path(item).suffix.lower() in ARCHIVE_SUFFIXES]
    remedy = f" Unpack {packed[0]} first." if packed else ""
    raise FileNotFoundError(
        f"{folder} does not look like {entry.title}: expected {expected}, found {shown}{_where_to_get(entry)}.{remedy}"
    )


def find_dataset(name: str, data_dir: Path) -> Path | None:
    """Return the folder directly below `data_dir` whose name is that of a dataset, such as `MVTec_AD` for `mvtec`."""
    return next((folder for folder in list_folders(data_dir) if name in hinted_names(folder)), None)


def hinted_names(folder: Path) -> list[str]:
    """Return the datasets that match a folder's name best; `mvtec_loco` does not count as `mvtec`."""
    plain = "".join(filter(str.isalnum, folder.name.casefold()))
    lengths = {
        name: max((len(hint) for hint in entry.folder_hints if hint in plain), default=0)
        for name, entry in CATALOGUE.items()
    }
    longest = max(lengths.values())
    return [name for name, length in lengths.items() if length == longest > 0]


def _where_to_get(entry: DatasetEntry | None) -> str:
    if entry is None or not entry.page.startswith("http"):
        return ""
    return f"; {entry.title} ({entry.license}) is at {entry.page}"


def _find_table(
    name: str, path: Path, columns: dict[str, str], encoding: str | None, allow_outside: bool
) -> tuple[DatasetEntry, Path, Reader]:
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix.lower() == f".{name}")
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise FileNotFoundError(f"{path} should hold one .{name} file, found {found}; name the file itself.")
    reader = Table(files[0].name, columns, name=name, encoding=encoding, allow_outside=allow_outside)
    return (
        DatasetEntry(files[0].name, "any", "", "", (reader,), has_masks=False, mask_rule="auto"),
        files[0].parent,
        reader,
    )


def find_problems(name: str, scanned: "Scan") -> list[str]:
    """Describe unexpected categories, files, labels, masks and counts, one line each."""
    entry, root, rows = scanned.entry, scanned.root, scanned.rows
    problems = []
    found = {row.category for row in rows}
    missing = [category for category in entry.categories if category not in found]
    if missing and len(found) > 1:
        problems.append(f"{root} has no images of {', '.join(missing)}: half-unpacked?")
    if isinstance(scanned.reader, CategoryTree) and (empty := scanned.reader.empty_folders(root)):
        problems.append(f"{_some(empty)} hold no images: half-unpacked?")
    if absent := [
        path for row in rows for path in (row.image, row.mask) if isinstance(path, Path) and not path.exists()
    ]:
        problems.append(f"{len(absent)} listed files do not exist: {_some(absent)}.")
    unlabelled = [number for number, row in enumerate(rows, start=1) if row.label is None]
    if unlabelled and isinstance(scanned.reader, Table):
        more = ", …" if len(unlabelled) > SHOWN else ""
        problems.append(
            f"{len(unlabelled)} rows of {scanned.reader.file} have no label: {str(unlabelled[:SHOWN])[1:-1]}{more}."
        )
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
