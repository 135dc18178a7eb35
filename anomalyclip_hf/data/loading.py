# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Load any dataset of the catalogue, or your own, with the same columns."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from datasets.exceptions import DatasetGenerationError

from ..image_processing_anomalyclip import MASK_RULES
from .features import AnomalyImage, AnomalyMask
from .listing import Scan, scan
from .samples import read_text
from .words import GOOD, NORMAL, parse_label


LABEL_NAMES = ("normal", "anomalous")
STORED = ("hub", "parquet")  # already datasets: columns instead of files
STORED_SPLITS = ("train", "validation", "test")
COLUMNS = ("image", "mask", "label", "category", "defect_type", "path")


def load_anomaly_dataset(
    name: str,
    data_dir: str | os.PathLike,
    split: str = "test",
    category: str | None = None,
    streaming: bool = False,
    *,
    columns: Mapping[str, str] | None = None,
    mask_rule: str | None = None,
    normal_labels: str | Sequence[str] = (),
    encoding: str | None = None,
    allow_outside: bool = False,
    cache_dir: str | os.PathLike | None = None,
    **hub_options: Any,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a dataset for anomaly detection from its unpacked folder, a table or the Hub.

    Images stay where they are and are opened when a row is read.

    Args:
        name (`str`): A name that `anomalyclip datasets` lists; or `folder`, `csv`, `jsonl`, `parquet`, `hub`.
        data_dir (`str` or `os.PathLike`):
            The unpacked folder, or one or two levels above it; for a table the file; for `hub` the repository's id.
        split (`str`, *optional*, defaults to `"test"`): `"test"`, or `"train"` where there is one.
        category (`str`, *optional*): Only this category.
        streaming (`bool`, *optional*, defaults to `False`): Return an `IterableDataset`.
        columns (`Mapping[str, str]`, *optional*):
            For tables and stored datasets: our column names (`image`, `mask`, `label`, `category`, …) to theirs.
        mask_rule (`str`, *optional*):
            `"auto"`, `"classes"`, or `"nonzero"` as in the paper's code, see [`load_mask`]. Defaults to the rule of
            the dataset.
        normal_labels (`str` or `Sequence[str]`, *optional*):
            Further words that mean normal, in names of folders and in tables.
        encoding (`str`, *optional*): Encoding of a table; by default UTF-8, UTF-16 or cp1252 is detected.
        allow_outside (`bool`, *optional*, defaults to `False`): Accept paths in a table that lead out of its folder.
        cache_dir (`str` or `os.PathLike`, *optional*): For `parquet` and `hub`, instead of the cache of `datasets`.
        **hub_options: For `hub`: `revision`, `token` and other arguments of [`~datasets.load_dataset`].

    Returns:
        [`~datasets.Dataset`] or [`~datasets.IterableDataset`] with the columns `image` (RGB), `mask` (mode L, 0 and
        255; None for normal images and without ground truth), `label` (`ClassLabel`: normal, anomalous; None where
        unknown), `category`, `defect_type` (`"good"` for normal) and `path` (below the folder).

    Raises:
        FileNotFoundError: If the folder, or the layout in it, does not exist. The message says where to get it.
        ValueError: If name, category, split or columns are unknown, or files contradict each other.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from anomalyclip_hf import load_anomaly_dataset

    >>> folder = Path(tempfile.mkdtemp()) / "bolts"
    >>> for kind in ("good", "scratch"):
    ...     (folder / kind).mkdir(parents=True)
    ...     Image.new("L", (8, 6)).save(folder / kind / "000.png")
    >>> dataset = load_anomaly_dataset("folder", folder)
    >>> dataset["path"][:], dataset["label"][:], dataset["defect_type"][:]
    (['good/000.png', 'scratch/000.png'], [0, 1], ['good', 'scratch'])

    ```
    """
    words = (normal_labels,) if isinstance(normal_labels, str) else tuple(normal_labels)
    if mask_rule not in (None, *MASK_RULES):
        raise ValueError(f"mask_rule is {mask_rule!r}; expected one of {', '.join(MASK_RULES)}.")
    if name in STORED:
        if encoding or allow_outside:
            raise ValueError(f"encoding= and allow_outside= are options of csv and jsonl; {name} has columns.")
        hub_options["cache_dir"] = None if cache_dir is None else str(cache_dir)
        stored = _load_stored(name, str(data_dir), split, streaming, hub_options)
        rows = _standardise(stored, str(data_dir), split, dict(columns or {}), mask_rule or "auto", words)
        return rows if category is None else _choose_category(rows, category, str(data_dir))
    if hub_options:
        raise ValueError(f"unknown options {', '.join(hub_options)}; only hub takes more.")
    scanned = scan(
        name, data_dir, dict(columns or {}), category,
        normal_labels=words, encoding=encoding, allow_outside=allow_outside,
    )  # fmt: skip
    for problem in scanned.problems:
        warnings.warn(problem, stacklevel=2)
    splits = sorted({row.split for row in scanned.rows})
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r} in {scanned.root}; expected one of {', '.join(splits)}.")
    dataset = _make_dataset(scanned, split, mask_rule or scanned.entry.mask_rule)
    return dataset.to_iterable_dataset() if streaming else dataset


def _make_dataset(scanned: Scan, split: str, mask_rule: str) -> datasets.Dataset:
    """Make the dataset; images are stored as paths."""
    rows = [row for row in scanned.rows if row.split == split]
    entry = scanned.entry
    info = datasets.DatasetInfo(
        description=f"{entry.title}, read as {scanned.reader.name}",
        homepage=entry.page,
        license=entry.license,
        features=features(mask_rule),
    )
    return datasets.Dataset.from_dict(
        {
            "image": [_reference(row.image) for row in rows],
            "mask": [None if row.mask is None else _reference(row.mask) for row in rows],
            "label": [row.label for row in rows],
            "category": [row.category for row in rows],
            "defect_type": [row.defect_type for row in rows],
            "path": [scanned.path_of(row) for row in rows],
        },
        features=info.features,
        info=info,
        split=datasets.NamedSplit(split),
    )


def _reference(source: Path | bytes) -> dict[str, Any]:
    is_file = isinstance(source, Path)
    return {"bytes": None if is_file else source, "path": os.path.abspath(source) if is_file else None}


def features(mask_rule: str = "auto") -> datasets.Features:
    """Return the columns that every dataset has."""
    return datasets.Features(
        {
            "image": AnomalyImage(),
            "mask": AnomalyMask(mask_rule=mask_rule),
            "label": datasets.ClassLabel(names=list(LABEL_NAMES)),
            "category": datasets.Value("string"),
            "defect_type": datasets.Value("string"),
            "path": datasets.Value("string"),
        }
    )


def _load_stored(
    name: str, source: str, split: str, streaming: bool, options: dict[str, Any]
) -> datasets.Dataset | datasets.IterableDataset:
    if name == "hub":
        return datasets.load_dataset(source, split=split, streaming=streaming, **options)
    files = {split: _parquet_files(Path(source), split)}
    try:
        return datasets.load_dataset("parquet", data_files=files, split=split, streaming=streaming, **options)
    except (pyarrow.ArrowInvalid, DatasetGenerationError) as error:
        raise ValueError(f"{source} cannot be read as Parquet ({error}); write it again.") from error


def _standardise(
    stored: datasets.Dataset | datasets.IterableDataset,
    source: str,
    split: str,
    columns: dict[str, str],
    mask_rule: str,
    normal_words: Sequence[str],
) -> datasets.Dataset | datasets.IterableDataset:
    """Bring a dataset of the Hub or of Parquet files to our columns."""
    if unknown := [ours for ours in columns if ours not in COLUMNS]:
        raise ValueError(f"columns= names {unknown[0]!r}; expected some of {', '.join(COLUMNS)}.")
    theirs = {ours: columns.get(ours, ours) for ours in COLUMNS}
    found = stored.column_names or []
    needed = dict.fromkeys(("image", "label", *columns))
    if lacking := [theirs[ours] for ours in needed if theirs[ours] not in found]:
        raise ValueError(f"{source} lacks {', '.join(lacking)}; it has {', '.join(found)}. Map them with columns=.")
    features_of = {ours: stored.features.get(theirs[ours]) for ours in COLUMNS}
    for ours in ("image", "mask"):
        if theirs[ours] in found:
            stored = stored.cast_column(theirs[ours], datasets.Image(decode=False))

    def standardise(row: dict[str, Any], number: int) -> dict[str, Any]:
        given = {ours: row.get(column) for ours, column in theirs.items()}
        for ours in ("label", "category", "defect_type", "path"):
            given[ours] = read_text(given[ours], features_of[ours])
        label = parse_label(given["label"], f"{source}, row {number}", normal_words)
        kind = given["defect_type"] or ("anomaly" if label else None)
        return {
            "image": given["image"],
            "mask": None if label == NORMAL else given["mask"],
            "label": label,
            "category": given["category"] or Path(source).stem,
            "defect_type": GOOD if label == NORMAL else kind,
            "path": given["path"] or (given["image"] or {}).get("path") or f"{split}/{number}",
        }

    our_features = features(mask_rule)
    if isinstance(stored, datasets.Dataset):
        return stored.map(standardise, with_indices=True, remove_columns=found, features=our_features)
    # With features=, a stream would take the result of `standardise` for decoded images.
    return stored.map(standardise, with_indices=True, remove_columns=found).cast(our_features)


def _choose_category(
    rows: datasets.Dataset | datasets.IterableDataset, category: str, source: str
) -> datasets.Dataset | datasets.IterableDataset:
    chosen = rows.filter(lambda value: value == category, input_columns="category")
    if isinstance(chosen, datasets.Dataset) and not len(chosen):
        found = ", ".join(sorted(set(rows["category"])))
        raise ValueError(f"{source} has no category {category!r}; expected one of {found}.")
    return chosen


def _parquet_files(path: Path, split: str) -> list[str]:
    """Return the file, or the files of a split in a folder; files whose path names no split are `test`."""
    if path.is_file():
        return [str(path)]
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a Parquet file, or a folder with some.")
    files: dict[str, list[str]] = {}
    for file in sorted(path.rglob("*.parquet")):
        words = re.split("[^a-z0-9]+", file.relative_to(path).as_posix().lower())
        of_split = next((word for word in reversed(words) if word in {*STORED_SPLITS, split}), "test")
        files.setdefault(of_split, []).append(str(file))
    if not files:
        raise FileNotFoundError(f"{path} contains no .parquet files; name a folder with some, or a file.")
    if split not in files:
        raise ValueError(f"{path} has no split {split!r}; expected one of {', '.join(sorted(files))}.")
    return files[split]
