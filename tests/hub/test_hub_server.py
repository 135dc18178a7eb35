# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The test Hub, asked by the real client."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from hub.hub_server import OTHER_TOKEN, READ_TOKEN, TOKEN, Fault
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


REPO = "someone/model"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi()


@pytest.fixture
def repo(api) -> str:
    api.create_repo(REPO)
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes"}
    operations = [CommitOperationAdd(path, io.BytesIO(data)) for path, data in files.items()]
    api.create_commit(REPO, operations, commit_message="first")
    return REPO


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def test_who_is_asking(api):
    assert api.whoami()["name"] == "someone"
    assert api.whoami(token=READ_TOKEN)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_nobody")


def test_repositories_are_made_once_and_go(hub, api):
    assert api.create_repo("model").repo_id == REPO  # in the namespace of the token
    assert api.repo_exists(REPO)
    assert api.list_repo_files(REPO) == [".gitattributes"]
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    assert api.create_repo(REPO, exist_ok=True).url == f"{hub.endpoint}/{REPO}"
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)


def test_files_come_back_as_they_went(hub, api, repo):
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


def test_every_revision_stays_readable(api, repo):
    first = api.model_info(repo).sha
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="try/other")
    api.upload_file(path_or_fileobj=b"[2]", path_in_repo="config.json", repo_id=repo, revision="try/other")
    api.upload_file(path_or_fileobj=b"[3]", path_in_repo="config.json", repo_id=repo)
    for revision, content in {first: b"{}", "v1": b"{}", "try/other": b"[2]", "main": b"[3]", None: b"[3]"}.items():
        assert read(hf_hub_download(repo, "config.json", revision=revision)) == content
    refs = api.list_repo_refs(repo)
    assert {branch.name for branch in refs.branches} == {"main", "try/other"}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
    assert [commit.commit_id for commit in api.list_repo_commits(repo)][1] == first
    api.delete_tag(repo, tag="v1")
    api.delete_branch(repo, branch="try/other")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="v1")


def test_a_pull_request_leaves_main_alone(api, repo):
    commit = api.upload_file(path_or_fileobj=b"pr", path_in_repo="new.txt", repo_id=repo, create_pr=True)
    assert (commit.pr_num, commit.pr_revision) == (1, "refs/pr/1")
    assert not api.file_exists(repo, "new.txt")
    assert read(hf_hub_download(repo, "new.txt", revision="refs/pr/1")) == b"pr"
    assert [pr.ref for pr in api.list_repo_refs(repo, include_pull_requests=True).pull_requests] == ["refs/pr/1"]


def test_commits_delete_and_check_their_parent(api, repo):
    parent = api.model_info(repo).sha
    api.create_commit(repo, [CommitOperationDelete("sub/")], commit_message="drop", parent_commit=parent)
    assert "sub/notes.txt" not in api.list_repo_files(repo)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo, parent_commit=parent)
    with pytest.raises(EntryNotFoundError):
        api.delete_file("sub/notes.txt", repo)


@pytest.mark.parametrize("multipart_size", [1 << 30, 1000], ids=["basic", "multipart"])
def test_large_files_arrive_in_one_or_many_parts(hub, api, multipart_size):
    hub.storage.multipart_size = multipart_size
    api.create_repo(REPO)
    for _ in range(2):  # the second time in another place, and not sent again
        api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo=f"{len(hub.requests)}.bin", repo_id=REPO)
    assert len(hub.asked("PUT /upload/")) == -(-len(WEIGHTS) // multipart_size)
    assert sum(request.received for request in hub.asked("PUT /upload/")) == len(WEIGHTS)
    files = [file for file in api.list_repo_tree(REPO) if file.path.endswith(".bin")]
    assert [file.lfs.sha256 for file in files] == [hashlib.sha256(WEIGHTS).hexdigest()] * 2
    assert read(hf_hub_download(REPO, files[0].path)) == WEIGHTS


def test_large_text_is_lfs_by_its_size(hub, api):
    api.create_repo(REPO)
    text = b"x" * (hub.storage.lfs_limit + 1)
    api.upload_file(path_or_fileobj=text, path_in_repo="log.txt", repo_id=REPO)
    (info,) = api.get_paths_info(REPO, ["log.txt", "nothing.txt"])
    assert (info.size, info.lfs.sha256) == (len(text), hashlib.sha256(text).hexdigest())


def test_listings_have_pages_and_folders(hub, api):
    hub.storage.page_size = 3
    hub.storage.put(REPO, {f"a/b/{number}.txt": b"%d" % number for number in range(7)} | {"top.txt": b""})
    assert len(api.list_repo_files(REPO)) == 9
    tree = [entry.path for entry in api.list_repo_tree(REPO, recursive=True)]
    assert tree == [".gitattributes", "a", "a/b", *(f"a/b/{number}.txt" for number in range(7)), "top.txt"]
    assert len(hub.asked("/tree/")) == 2 * 4
    assert [entry.path for entry in api.list_repo_tree(REPO)] == [".gitattributes", "a", "top.txt"]
    assert [entry.path for entry in api.list_repo_tree(REPO, "a")] == ["a/b"]
    folder = snapshot_download(REPO, allow_patterns="a/*")
    assert sorted(path.name for path in Path(folder).rglob("*.txt")) == [f"{number}.txt" for number in range(7)]


def test_spaces_are_uploaded_as_folders(api, tmp_path):
    (tmp_path / "space" / "examples").mkdir(parents=True)
    (tmp_path / "space" / "README.md").write_text("---\nsdk: gradio\ntitle: Demo\n---\n")
    (tmp_path / "space" / "examples" / "a.png").write_bytes(b"\x89PNG" + WEIGHTS)
    api.create_repo("someone/demo", repo_type="space", space_sdk="gradio")
    api.upload_folder(repo_id="someone/demo", folder_path=tmp_path / "space", repo_type="space")
    info = api.space_info("someone/demo")
    assert (info.sdk, info.card_data.title) == ("gradio", "Demo")
    picture = hf_hub_download("someone/demo", "examples/a.png", repo_type="space")
    assert read(picture) == b"\x89PNG" + WEIGHTS
    assert not api.repo_exists("someone/demo")  # as a model


def test_cards_are_read_and_checked(api, repo):
    card = "---\nlibrary_name: transformers\npipeline_tag: anomaly-detection\ntags: [anomaly]\n---\n# Text\n"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo)
    info = api.model_info(repo, files_metadata=True)
    assert (info.library_name, info.pipeline_tag) == ("transformers", "anomaly-detection")
    assert "anomaly" in info.tags
    assert {file.rfilename: file.size for file in info.siblings}["model.safetensors"] == len(WEIGHTS)
    with pytest.raises(ValueError, match="Invalid metadata in README.md"):
        api.upload_file(path_or_fileobj=b"---\ntags: [\n---\n", path_in_repo="README.md", repo_id=repo)


def test_private_repositories_do_not_exist_for_others(api):
    api.create_repo(REPO, private=True)
    assert api.model_info(REPO).private
    for token in (OTHER_TOKEN, False):
        with pytest.raises(RepositoryNotFoundError):
            api.model_info(REPO, token=token)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download(REPO, "config.json", token=token)
    api.update_repo_settings(REPO, private=False)
    assert not api.model_info(REPO, token=False).private


def test_gated_repositories_show_themselves_but_no_files(hub, api, repo):
    api.update_repo_settings(repo, gated="manual")
    assert api.model_info(repo, token=OTHER_TOKEN).gated == "manual"
    for token in (OTHER_TOKEN, False):
        with pytest.raises(GatedRepoError):
            hf_hub_download(repo, "config.json", token=token)
    hub.storage.repositories["models", repo].admitted.add("another")
    assert read(hf_hub_download(repo, "config.json", token=OTHER_TOKEN)) == b"{}"


@pytest.mark.parametrize("token", [READ_TOKEN, OTHER_TOKEN, False])
def test_writing_needs_the_right(api, repo, token):
    for write in (
        lambda: api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo, token=token),
        lambda: api.create_repo("someone/new", token=token),
        lambda: api.create_branch(repo, branch="new", token=token),
        lambda: api.delete_repo(repo, token=token),
    ):
        with pytest.raises(HfHubHTTPError, match="40[13]"):
            write()
    assert api.repo_exists(repo)


def test_what_is_not_there_is_named(api, repo):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("someone/nothing", "config.json")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("nothing", "config.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "config.json", revision="nothing")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(repo, "nothing.json")
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(path_or_fileobj=b"", path_in_repo="x", repo_id=repo, revision="nothing")


def test_downloads_resume_in_the_middle(hub, repo, monkeypatch, waits):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what came before the last whole chunk is kept
    hub.faults.append(Fault("GET /files/", cut_response=0.5))
    assert read(hf_hub_download(repo, "model.safetensors")) == WEIGHTS
    first, second = hub.asked("GET /files/")
    assert (first.status, second.status) == (200, 206)
    assert (first.sent, second.headers["range"]) == (5120, "bytes=5000-")


def test_faults_strike_as_often_as_told(hub, api, repo, waits):
    hub.faults.append(Fault("GET .*/tree/", status=503, times=2, headers={"Retry-After": "7"}))
    assert "config.json" in [entry.path for entry in api.list_repo_tree(repo)]
    assert [request.status for request in hub.asked("/tree/")] == [503, 503, 200]
    assert waits == [8, 8]
    assert "hf_hub" in hub.requests[-1].user_agent


def test_a_stopped_hub_refuses_connections(hub, api, repo):
    hub.stop()
    with pytest.raises(Exception, match="refused"):
        api.model_info(repo)


def test_other_processes_use_it_with_the_environment(hub, repo):
    program = f"from huggingface_hub import hf_hub_download; print(hf_hub_download({repo!r}, 'config.json'))"
    done = subprocess.run([sys.executable, "-c", program], env=hub.environment, capture_output=True, text=True)
    assert read(done.stdout.strip()) == b"{}", done.stderr
    assert done.stdout.startswith(constants.HF_HUB_CACHE)
    assert hub.requests[-1].authorised


def test_tests_without_it_stay_offline():
    assert constants.HF_HUB_OFFLINE
    assert constants.ENDPOINT.startswith("http://127.0.0.1:")
    with pytest.raises(Exception, match="offline mode"):
        HfApi().whoami(token=TOKEN)
