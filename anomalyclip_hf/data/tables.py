# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read tables and indexes that name images, labels and masks: csv, jsonl and the authors' `meta.json`."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import folder_name, path_inside
from .layouts import Row, Words
from .words import ANOMALOUS, GOOD, NORMAL, clean, parse_label


TABLE_COLUMNS = ("image", "label", "category", "defect_type", "split", "mask")


@dataclass(frozen=True)
class Table:
    """Read a csv or jsonl file that names images, labels and masks; paths are relative to its folder."""

    file: str
    columns: Mapping[str, str] = field(default_factory=dict)  # our names to the file's, where they differ
    image_path: str = "{image}"  # how the image column becomes a path
    category: str = ""
    name: str = "table"
    encoding: str | None = None
    allow_outside: bool = False

    @property
    def expects(self) -> str:
        return f"{self.file} with the columns {', '.join(self._column(ours) for ours in ('image', 'label'))}"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return (root / self.file).is_file() and (root / self.image_path.partition("{")[0]).is_dir()

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        file, seen = root / self.file, set[str]()
        if unknown := [ours for ours in self.columns if ours not in TABLE_COLUMNS]:
            raise ValueError(f"columns= names {unknown[0]!r}; expected some of {', '.join(TABLE_COLUMNS)}.")
        for number, record in enumerate(read_records(file, self.encoding), start=1):
            seen |= record.keys()
            if not {self._column("image"), self._column("label")} <= record.keys():
                found = ", ".join(map(repr, record))
                raise ValueError(f"{file} has the columns {found}; expected {self.expects}. Map them with columns=.")
            yield self._row(root, record, f"{file}, record {number}", normal_words)
        if lacking := [theirs for theirs in self.columns.values() if seen and theirs not in seen]:
            raise ValueError(f"{file} has no column {lacking[0]!r}; it has {', '.join(map(repr, sorted(seen)))}.")

    def _row(self, root: Path, record: dict[str, str | None], where: str, normal_words: Words) -> Row:
        value = {ours: record.get(self._column(ours)) for ours in TABLE_COLUMNS}
        if value["image"] is None:
            raise ValueError(f"{where}, names no image.")
        label = parse_label(value["label"], where, normal_words)
        kind = value["defect_type"] or ("anomaly" if label == ANOMALOUS else None)
        mask = value["mask"] if label != NORMAL else None
        image = self.image_path.format(image=value["image"])
        return Row(
            image=path_inside(root, image, root / self.file, self.allow_outside),
            label=label,
            category=value["category"] or self.category or folder_name(root),
            defect_type=GOOD if label == NORMAL else kind,
            split=value["split"] or "test",
            mask=path_inside(root, mask, root / self.file, self.allow_outside) if mask else None,
        )

    def _column(self, ours: str) -> str:
        return self.columns.get(ours, ours)


def read_records(file: Path, encoding: str | None = None) -> Iterator[dict[str, str | None]]:
    """Read a csv (comma, semicolon or tab) or jsonl file, without blanks around names and values.

    Args:
        file (`Path`): The table.
        encoding (`str`, *optional*): By default UTF-16 if the file begins with its mark, else UTF-8 or cp1252.

    Raises:
        ValueError: If it cannot be read. The message names the file.
    """
    try:
        text = _decode(file.read_bytes(), encoding)
        records = _read_jsonl(text) if file.suffix.lower() == ".jsonl" else _read_csv(text)
        for record in records:
            if not isinstance(record, dict) or any(record.pop(None, None) or ()):
                raise ValueError(f"{file} has a record that does not fit its columns: {record}.")
            yield {name.strip(): clean(value) for name, value in record.items() if name.strip()}
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError, csv.Error) as error:
        raise ValueError(
            f"{file} cannot be read as {file.suffix[1:]} ({error}); try encoding= (--encoding)."
        ) from error


def _decode(content: bytes, encoding: str | None) -> str:
    if encoding is not None:
        return content.decode(encoding).removeprefix("\ufeff")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")  # what Excel writes in western Europe


def _read_jsonl(text: str) -> Iterator[dict[Any, Any]]:
    # Not splitlines(), which also splits at characters that JSON strings may contain.
    return (json.loads(line) for line in text.split("\n") if line.strip())


def _read_csv(text: str) -> Iterator[dict[Any, Any]]:
    header, _, rest = text.partition("\n")
    if header.strip().strip('"').lower().startswith("sep="):  # Excel's own line
        delimiter, text = header.strip().strip('"')[4:5] or "\t", rest
    else:
        delimiter = max(",;\t", key=header.count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)


@dataclass(frozen=True)
class MetaJson:
    """Read the index that the scripts of AnomalyCLIP's authors write beside their re-arranged copies.

    Some of these scripts write absolute paths, and splits called "Train" and "Test".
    """

    name: str = "authors' copy with meta.json"
    expects: str = "meta.json beside the images that it lists"

    def fits(self, root: Path, normal_words: Words) -> bool:
        return (root / "meta.json").is_file()

    def rows(self, root: Path, normal_words: Words) -> Iterator[Row]:
        file = root / "meta.json"
        try:
            index = json.loads(file.read_text(encoding="utf-8"))
            splits = {split.casefold(): categories for split, categories in index.items()}
            entries = [
                (split, category, entry)
                for split in ("train", "test")
                for category, listed in splits.get(split, {}).items()
                for entry in listed
            ]
            for split, category, entry in entries:
                label = parse_label(str(entry["anomaly"]), str(file))
                mask = path_inside(root, entry["mask_path"], file) if label and entry.get("mask_path") else None
                kind = entry.get("specie_name") or "anomaly"
                image = path_inside(root, entry["img_path"], file)
                yield Row(image, label, category.replace(" ", "_"), kind if label else GOOD, split, mask)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is not the authors' index ({type(error).__name__}: {error}).") from error
