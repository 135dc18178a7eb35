# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Understand words that mean normal or anomalous, in names of folders and in tables."""

from collections.abc import Iterable
from typing import Any


NORMAL, ANOMALOUS = 0, 1
GOOD = "good"  # the defect type of a normal image
NORMAL_WORDS = frozenset(
    (
        *("0", "0.0", "false", "no", "n", "normal", "good", "gut", "ok", "okay", "io", "healthy", "negative", "neg"),
        *("pass", "passed", "clean", "intact", "undamaged", "benign", "nondefective", "nondefect", "nodefect"),
        *("defectfree", "noanomaly", "nonanomalous"),
    )
)
ANOMALOUS_WORDS = frozenset(
    (
        *("1", "1.0", "true", "yes", "y", "anomalous", "anomaly", "anomalies", "abnormal"),
        *("bad", "ng", "nok", "notok"),
        *("ko", "nio", "defect", "defects", "defective", "faulty", "fail", "failed", "reject", "rejected", "damaged"),
        *("broken", "positive", "pos", "malignant", "sick"),
    )
)


def plain(word: str) -> str:
    """Return a word in lower case, without blanks, dashes and underscores."""
    has_letters = any(char.isalpha() for char in word)  # "-1" is not "1"
    return "".join(char for char in word.casefold() if char not in (" -_\t" if has_letters else " \t"))


def label_of(word: str, normal_words: Iterable[str] = ()) -> int | None:
    """Return the label that a word means: 0 normal, 1 anomalous, `None` for other words.

    Args:
        word (`str`): The word; case, blanks, dashes and underscores are ignored.
        normal_words (`Iterable[str]`): Further words that mean normal.
    """
    wanted = plain(word)
    if wanted in NORMAL_WORDS or wanted in map(plain, normal_words):
        return NORMAL
    return ANOMALOUS if wanted in ANOMALOUS_WORDS else None


def parse_label(value: str | None, where: str, normal_words: Iterable[str] = ()) -> int | None:
    """Return the label that a table states; `None` if it states none.

    Raises:
        ValueError: If the word is unknown.
    """
    if value is None:
        return None
    label = label_of(value, normal_words)
    if label is None:
        accepted = ", ".join(sorted(NORMAL_WORDS | ANOMALOUS_WORDS))
        raise ValueError(
            f"{where}: label {value!r} is unknown; expected one of {accepted}. If it means normal, pass "
            f"normal_labels=[{value!r}] (in a command --normal-label {value})."
        )
    return label


def clean(value: Any) -> str | None:
    """Return a value as text without surrounding blanks; `None` for empty text, `nan`, `none` and `null`."""
    text = "" if value is None else str(value).strip()
    return None if text.casefold() in ("", "nan", "none", "null") else text
