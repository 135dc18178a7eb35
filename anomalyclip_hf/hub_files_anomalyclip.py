# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of a repository on the Hub: all of one commit, and each what the Hub says it is before anything reads it.

The Hub's client compares sizes, not hashes, so a proxy or a disk that spoils a byte leaves a cache that loads. The
cache names each file after the hash of its content: an entry `snapshots/<commit>/<file>` is a link to `blobs/<hash>`,
where 64 digits are the SHA-256 of a large file and 40 digits the SHA-1 that git gives a small one.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, cached_file, logging

from .limits_anomalyclip import one_line


logger = logging.get_logger(__name__)

HUB_ARGUMENTS = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of `kwargs` what says where on the Hub a file is and how to fetch it."""
    return {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}


def find_commit(source: str | os.PathLike | None, **kwargs: Any) -> str | None:
    """Find the commit of a repository on the Hub that a name and revision stand for.

    Args:
        source (`str` or `os.PathLike`, *optional*): Hub id or folder.
        **kwargs: Those of `from_pretrained`.

    Returns:
        `str` or `None`: the commit; the revision as given where the cache does not tell; `None` for a folder.

    Raises:
        OSError: If the repository or revision cannot be reached, or its `config.json` is damaged in the cache.
    """
    if source is None or os.path.exists(source):
        return None
    _check_id(source)
    with broken_connections(f"fetching {CONFIG_NAME} of {source}"):
        try:
            path = cached_file(source, CONFIG_NAME, **hub_arguments(kwargs))
        except OSError as error:
            if type(error) is not OSError or str(source) in str(error):
                raise
            raise OSError(f"{source} is no folder here, and cannot be fetched: {one_line(error)}") from error
    if path is not None and _is_damaged(path):
        # no second try here: who calls may hold what was read from this file already
        raise _discard(source, CONFIG_NAME, path)
    snapshot = re.search(r"snapshots[/\\]([^/\\]+)[/\\]", path or "")
    return snapshot[1] if snapshot else kwargs.get("revision")


def _check_id(source: str | os.PathLike) -> None:
    """Refuse what is neither a folder nor can be an id; the Hub's client would speak of ids alone."""
    try:
        validate_repo_id(str(source))
    except HFValidationError as error:
        kind = "is a file" if os.path.isfile(source) else "does not exist"
        raise OSError(f"{source} {kind}; expected the folder of a model, or a Hub id as OWNER/NAME.") from error


def pin_commit(source: str | os.PathLike | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a branch or tag by its commit, so that all files come from there whatever is pushed meanwhile.

    Args:
        source (`str` or `os.PathLike`, *optional*): Hub id or folder.
        kwargs (`Mapping`): Those of `from_pretrained`.

    Returns:
        `dict`: the same with another `revision`; unchanged for a folder.

    Raises:
        OSError: As of [`find_commit`].
    """
    commit = find_commit(source, **kwargs)
    return dict(kwargs) if commit is None else {**kwargs, "revision": commit}


def find_file(source: str | os.PathLike | None, name: str, **kwargs: Any) -> str | None:
    """Find one file of a checkpoint, where it has one, and fetch it where it is on the Hub.

    A file that is damaged in the cache is fetched once more. Caches without links (Windows without developer mode,
    `HF_HUB_DISABLE_SYMLINKS`) do not keep the hashes; there a file is taken as it is.

    Args:
        source (`str` or `os.PathLike`, *optional*): Hub id or folder.
        name (`str`): Of the file, such as `prompts.safetensors`.
        **kwargs: Those of `from_pretrained`; `revision`, `subfolder`, `token`, `cache_dir` and the like are used.

    Returns:
        `str` or `None`: path of the file, `None` where the checkpoint has none.

    Raises:
        OSError: If the Hub refuses or breaks off, or what it sends does not have the hash that it says.
    """
    if source is None:
        return None
    if os.path.isdir(source):
        file = os.path.join(source, kwargs.get("subfolder") or "", name)
        return file if os.path.isfile(file) else None
    _check_id(source)
    path = _fetch(str(source), name, kwargs)
    if path is not None and _is_damaged(path):
        error = _discard(source, name, path)
        path = _fetch(str(source), name, kwargs)
        if path is None:  # offline
            raise error
        if _is_damaged(path):
            raise _discard(source, name, path)
        logger.warning("%s of %s was damaged in the cache and has been fetched again.", name, source)
    return path


@contextmanager
def broken_connections(doing: str) -> Iterator[None]:
    """Turn errors that name no file, such as a full disk's or the HTTP library's own, into one line that does.

    Args:
        doing (`str`): What breaks off, as "fetching config.json of someone/bolts".

    Raises:
        OSError: If the Hub cannot be reached, the connection breaks, or the disk is full.
    """
    try:
        yield
    except Exception as error:
        # The client under huggingface_hub differs between its versions; all of them call its error HTTPError.
        is_of_client = "HTTPError" in {kind.__name__ for kind in type(error).__mro__}
        speaks_for_itself = error.errno is None if isinstance(error, OSError) else not is_of_client
        if speaks_for_itself:
            raise
        reason = f"{type(error).__name__}: {error}"
        raise OSError(f"{doing} broke off ({reason}); nothing is lost, try again.") from error


def _fetch(source: str, name: str, kwargs: Mapping[str, Any]) -> str | None:
    """Path in the cache; `None` where the repository has no such file, or there is no connection and no copy."""
    commit, path_in_repo = kwargs.get("revision"), "/".join(filter(None, (kwargs.get("subfolder"), name)))
    if re.fullmatch(r"[0-9a-f]{40}", commit or "") and not kwargs.get("force_download"):
        known = try_to_load_from_cache(source, path_in_repo, cache_dir=kwargs.get("cache_dir"), revision=commit)
        if not isinstance(known, str | None):
            return None  # the Hub has said before that this commit has none
    with broken_connections(f"fetching {name} of {source}"):
        try:
            return hf_hub_download(source, name, **hub_arguments(kwargs))
        except RemoteEntryNotFoundError:
            return None
        except LocalEntryNotFoundError as error:
            if isinstance(error.__cause__, HfHubHTTPError):
                raise OSError(f"the Hub did not deliver {name} of {source}: {error.__cause__}") from error
            return None


def _blob(path: str) -> str | None:
    """Where a file of the Hub's cache links to. One step only: the blob may itself be a link to a shared store."""
    target = os.readlink(path) if os.path.islink(path) else ""
    return os.path.join(os.path.dirname(path), target) if os.path.dirname(target).endswith("blobs") else None


def _is_damaged(path: str) -> bool:
    """Whether the content of a file in the Hub's cache has another hash than its name there says."""
    blob = _blob(path)
    expected = os.path.basename(blob) if blob else ""
    if not re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", expected):
        return False  # no hash to compare with
    with open(path, "rb") as file:
        if len(expected) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() != expected
        header = b"blob %d\0" % os.path.getsize(path)
        return hashlib.file_digest(file, lambda: hashlib.sha1(header)).hexdigest() != expected


def _discard(source: str | os.PathLike, name: str, path: str) -> OSError:
    """Take a damaged file out of the cache, and give the error that says so."""
    problem = f"{name} of {source} is damaged: its content does not have the hash that the Hub gives"
    blob = _blob(path) or path
    try:
        for part in {os.path.realpath(blob), blob, path}:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        return OSError(f"{problem}, and it cannot be removed from the cache ({error}); delete {blob}.")
    return OSError(f"{problem}; it was removed from the cache, load it again.")


__all__ = ["broken_connections", "find_commit", "find_file", "hub_arguments", "pin_commit"]
