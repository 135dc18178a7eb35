# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What the test Hub keeps: users, repositories, commits with their full file tables, and LFS objects."""

import hashlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

import yaml


LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".png", ".jpg", ".arrow")
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass(frozen=True)
class User:
    """Owner of one token; `role` is `write` or `read`."""

    name: str
    role: str = "write"


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit; of an LFS file, git itself holds a pointer only."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.sha256}",
            f"size {len(self.content)}",
        )
        return ("\n".join(lines) + "\n").encode()

    @property
    def git_oid(self) -> str:
        blob = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    @property
    def etag(self) -> str:
        """What clients know the content by, and call it in their cache."""
        return self.sha256 if self.lfs else self.git_oid

    def as_tree_entry(self, path: str) -> dict:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


@dataclass(frozen=True)
class Commit:
    oid: str
    files: dict[str, StoredFile]
    title: str
    message: str
    author: str
    date: str
    parent: "Commit | None"

    def history(self):
        commit = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def tree(self, folder: str = "", recursive: bool = True) -> list[dict]:
        """Files and folders below `folder`, as the Hub lists them."""
        prefix = f"{folder}/" if folder else ""
        entries = {}
        for path, file in sorted(self.files.items()):
            if not path.startswith(prefix):
                continue
            for parent in PurePosixPath(path).parents:
                name = str(parent)
                if name != "." and name.startswith(prefix) and (recursive or "/" not in name[len(prefix) :]):
                    oid = hashlib.sha1(name.encode()).hexdigest()
                    entries[name] = {"type": "directory", "path": name, "size": 0, "oid": oid}
            if recursive or "/" not in path[len(prefix) :]:
                entries[path] = file.as_tree_entry(path)
        return [entries[path] for path in sorted(entries)]


@dataclass
class Repository:
    kind: str  # "models", "spaces" or "datasets", as in the Hub's paths
    name: str  # with its namespace
    private: bool = False
    gated: str | bool = False
    refs: dict[str, str] = field(default_factory=dict)  # such as refs/heads/main, refs/tags/v1, refs/pr/1
    commits: dict[str, Commit] = field(default_factory=dict)
    admitted: set[str] = field(default_factory=set)  # users whom a gated repository lets in

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, a full reference or a hash."""
        for reference in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if reference in self.refs:
                return self.commits[self.refs[reference]]
        return self.commits.get(revision)

    def commit(
        self, reference: str, files: dict[str, StoredFile], author: str, title: str, message: str = ""
    ) -> Commit:
        parent = self.commits.get(self.refs.get(reference, ""))
        table = json.dumps([parent and parent.oid, reference, title, len(self.commits), sorted(files)])
        oid = hashlib.sha1(table.encode() + b"".join(files[path].etag.encode() for path in sorted(files))).hexdigest()
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.commits[oid] = Commit(oid, dict(files), title, message, author, date, parent)
        self.refs[reference] = oid
        return self.commits[oid]

    def listed(self, prefix: str) -> list[dict]:
        found = [(ref, oid) for ref, oid in self.refs.items() if ref.startswith(prefix)]
        return [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid} for ref, oid in found]

    def info(self, commit: Commit, with_blobs: bool = False) -> dict:
        """What `model_info` and `space_info` answer, the card's metadata as the Hub reads it."""
        siblings = []
        for path, file in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if with_blobs:
                entry = file.as_tree_entry(path)
                siblings[-1] |= {"size": entry["size"], "blobId": entry["oid"]}
                if file.lfs:
                    siblings[-1]["lfs"] = {**entry["lfs"], "sha256": file.sha256}
        readme = commit.files.get("README.md")
        card = card_metadata(readme.content.decode()) if readme else {}
        config = json.loads(commit.files["config.json"].content) if "config.json" in commit.files else {}
        return {
            "_id": hashlib.sha1(self.name.encode()).hexdigest()[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.owner,
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": [*commit.history()][-1].date,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [self.kind, *card.get("tags", ())],
            "cardData": card,
            "siblings": siblings,
            "config": {key: config[key] for key in ("architectures", "model_type", "auto_map") if key in config},
            **{key: card[key] for key in ("pipeline_tag", "library_name", "model-index", "sdk") if key in card},
        }


class Storage:
    """Everything behind one test Hub. Thread-safe where requests change it: they hold `lock`.

    Args:
        users (`dict`): By token.
    """

    def __init__(self, users: dict[str, User]):
        self.users = users
        self.lfs_limit = 1 << 20  # bytes above which a file is LFS whatever its name
        self.multipart_size = 1 << 30  # bytes above which LFS uploads come in parts of this size
        self.page_size = 1000  # entries on a page of a listing
        self.lock = threading.RLock()
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lfs_objects: dict[str, bytes] = {}  # by SHA-256; kept without a commit, so that uploads resume
        self.lfs_parts: dict[tuple[str, int], bytes] = {}

    def create(self, kind: str, name: str, private: bool = False) -> Repository:
        repository = Repository(kind, name, private)
        files = {".gitattributes": StoredFile(GIT_ATTRIBUTES, lfs=False)}
        repository.commit("refs/heads/main", files, repository.owner, "initial commit")
        self.repositories[kind, name] = repository
        return repository

    def is_lfs(self, path: str, size: int) -> bool:
        return path.endswith(LFS_SUFFIXES) or size > self.lfs_limit

    def put(self, name: str, files: dict[str, bytes], kind: str = "models", revision: str = "main") -> Repository:
        """Commit files as if another client had pushed them."""
        with self.lock:
            repository = self.repositories.get((kind, name)) or self.create(kind, name)
            head = repository.find(revision) or repository.find("main")
            stored = {path: StoredFile(data, self.is_lfs(path, len(data))) for path, data in files.items()}
            self.lfs_objects |= {file.sha256: file.content for file in stored.values() if file.lfs}
            repository.commit(f"refs/heads/{revision}", head.files | stored, repository.owner, "put")
            return repository

    def next_pull_request(self, repository: Repository) -> int:
        return next(number for number in itertools.count(1) if f"refs/pr/{number}" not in repository.refs)


def card_metadata(text: str) -> dict:
    """The YAML block at the top of a card; raises `ValueError` where it is no mapping."""
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return {}
    try:
        metadata = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError(f"metadata should be a mapping, got {type(metadata).__name__}")
    return metadata or {}
