# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The test Hub with the real client: what the other tests rely on without checking it."""

import hashlib
import io
import subprocess
from pathlib import Path

import pytest
from hub.hub_server import TOKEN
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download


REPO = "someone/model"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def repo(hub) -> str:
    HfApi().create_repo(REPO)
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes"}
    operations = [CommitOperationAdd(path, io.BytesIO(data)) for path, data in files.items()]
    HfApi().create_commit(REPO, operations, commit_message="first")
    return REPO


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def test_files_come_back_as_they_went(hub, repo):
    weights = hf_hub_download(repo, "model.safetensors")
    assert read(weights) == WEIGHTS
    assert Path(weights).resolve().name == hashlib.sha256(WEIGHTS).hexdigest()
    config = hf_hub_download(repo, "config.json")
    assert read(config) == b"{}"
    git = subprocess.run(["git", "hash-object", config], capture_output=True, text=True, check=True)
    assert Path(config).resolve().name == git.stdout.strip()
    assert Path(weights).is_relative_to(hub.home)
    assert read(hf_hub_download(repo, "notes.txt", subfolder="sub")) == b"notes"
    (download,) = hub.asked("GET /files/.*/model.safetensors")
    assert not download.authorised  # the token stays with the Hub
    assert all(request.authorised for request in hub.asked("/resolve/"))


def test_tests_without_it_stay_offline():
    assert constants.HF_HUB_OFFLINE
    assert constants.ENDPOINT.startswith("http://127.0.0.1:")
    with pytest.raises(Exception, match="offline mode"):
        HfApi().whoami(token=TOKEN)
