# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever goes wrong on the way to or from the Hub: the right model or a clear error, never a broken cache.

`pytest -s tests/hub/test_faults.py` prints a table of faults and outcomes at its end.
"""

import errno
import functools
import itertools
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hub.hub_server import OTHER_TOKEN, READ_TOKEN, Fault
from huggingface_hub import HfApi, constants

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from conftest import maps_of, tiny_model


TENTHS = [tenth / 10 for tenth in range(10)]
REPO = "someone/model"
# The client keeps whole chunks of an interrupted download; ours is smaller than its chunk of 10 MiB.
SMALL_CHUNK = 1 << 18
WEIGHTS = "GET /files/.*/model.safetensors"
UPLOAD = "PUT /upload/"
FORK = multiprocessing.get_context("fork")  # processes without seconds of imports


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For so small a model more threads cost time, and a forked process could wait for the others for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def right_maps() -> torch.Tensor:
    return maps_of(tiny_model())


def is_right(model: AnomalyCLIPModel) -> bool:
    return torch.equal(maps_of(model), right_maps())


def pull(**options) -> AnomalyCLIPModel:
    return AnomalyCLIPModel.from_pretrained(REPO, **options)


@pytest.fixture(scope="module")
def table():
    rows: list[tuple[str, str]] = []
    yield rows
    print("\n\n| fault | outcome |\n| --- | --- |", *(f"| {fault} | {outcome} |" for fault, outcome in rows), sep="\n")


@pytest.fixture
def outcome_of(table):
    """Run something under a fault: what it returned, or its error, which must be clear; for the table as well."""

    def run(fault: str, action: Callable, *errors: type[Exception]):
        try:
            result = action()
            table.append((fault, "right" if isinstance(result, AnomalyCLIPModel) else "done"))
            return result
        except (OSError, *errors) as error:
            words = " ".join(str(error).split())
            table.append((fault, re.sub(r"[0-9a-f]{40,}|\(Request ID[^)]*\)|http://127.0.0.1:\d+", "…", words)[:230]))
            return error

    return run


def assert_the_cache_is_sound() -> None:
    """Alone it gives the right model or an error; with the Hub back, the right one."""
    try:
        loaded = pull(local_files_only=True)
    except OSError as error:
        assert REPO in str(error) or "cached files" in str(error)  # noqa: PT017 - an error is as good as the model
    else:
        assert is_right(loaded)
    assert is_right(pull())


def forget_cache() -> None:
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ cut connections


@pytest.mark.parametrize("share", TENTHS)
def test_a_download_is_cut(hub, model_repo, waits, monkeypatch, outcome_of, share):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", SMALL_CHUNK)
    hub.faults.append(Fault(WEIGHTS, cut_response=share))
    assert is_right(outcome_of(f"download cut at {share}, once", pull))
    first, second = hub.asked(WEIGHTS)
    assert second.headers.get("range", "bytes=0-") == f"bytes={first.sent // SMALL_CHUNK * SMALL_CHUNK}-"
    assert_the_cache_is_sound()

    forget_cache()
    hub.faults.append(Fault(WEIGHTS, cut_response=share, times=None))
    error = outcome_of(f"download cut at {share}, every time", pull)
    assert "fetching model.safetensors of someone/model broke off" in str(error)
    hub.faults.clear()
    assert_the_cache_is_sound()

    forget_cache()
    hub.faults.append(Fault(WEIGHTS, cut_response=share, reset=True))
    outcome = outcome_of(f"download reset at {share}, once", pull)
    assert isinstance(outcome, AnomalyCLIPModel) or "fetching model.safetensors" in str(outcome)
    assert_the_cache_is_sound()


def test_a_small_file_is_cut(hub, model_repo, waits, outcome_of):
    for times, fault in ((1, "once"), (None, "every time")):
        forget_cache()
        hub.faults = [Fault("GET .*/config.json", cut_response=0.5, times=times)]
        outcome = outcome_of(f"config.json cut in its middle, {fault}", pull)
        assert is_right(outcome) if times else "fetching config.json of someone/model broke off" in str(outcome)
    hub.faults.clear()
    assert_the_cache_is_sound()


@pytest.mark.parametrize("share", TENTHS)
def test_an_upload_is_cut(hub, model, waits, outcome_of, share):
    hub.faults.append(Fault(UPLOAD, cut_request=share))
    outcome_of(f"upload cut at {share}, once", lambda: model.push_to_hub(REPO))
    assert [request.status for request in hub.asked(UPLOAD)] == [None, 200]
    assert is_right(pull())

    changed = tiny_model()
    changed.prompt_learner.normal_prompt.data += 1
    hub.faults.append(Fault(UPLOAD, cut_request=share, times=None))
    error = outcome_of(f"upload cut at {share}, every time", lambda: changed.push_to_hub(REPO), RuntimeError)
    assert "model.safetensors" in str(error)
    assert is_right(pull())  # what was there before
    hub.faults.clear()
    changed.push_to_hub(REPO)
    assert torch.equal(maps_of(pull()), maps_of(changed))


def test_an_upload_in_parts_is_cut(hub, model, waits, outcome_of):
    hub.storage.multipart_size = 1 << 20
    hub.faults.append(Fault(f"{UPLOAD}.*/3", cut_request=0.5))
    outcome_of("upload in parts, one cut", lambda: model.push_to_hub(REPO))
    assert is_right(pull())
    assert len(hub.asked(f"{UPLOAD}.*/2")) == 1  # what has arrived is not sent again


def test_the_answer_to_a_commit_is_lost(hub, model, outcome_of):
    HfApi().create_repo(REPO)
    hub.faults.append(Fault("POST .*/commit/", cut_response=0.0))
    outcome_of("answer to the commit lost", lambda: model.push_to_hub(REPO), Exception)
    assert is_right(pull())  # the Hub had all of it
    before = HfApi().model_info(REPO).sha
    model.push_to_hub(REPO)
    assert HfApi().model_info(REPO).sha == before
    assert len(hub.asked(UPLOAD)) == 1


def test_a_push_goes_on_where_the_last_one_ended(hub, model, waits, outcome_of):
    """Large files that have arrived are not sent again, also without a commit that names them."""
    push = functools.partial(model.push_to_hub, REPO, max_shard_size="100KB")
    hub.faults.append(Fault(UPLOAD, times=2))  # nothing is wrong with the first two
    hub.faults.append(Fault(UPLOAD, times=None, status=500))
    outcome_of("storage takes two large files and refuses the rest", push, RuntimeError)
    arrived = set(hub.storage.lfs_objects)
    assert len(arrived) == 2
    hub.faults.clear()
    before = len(hub.requests)
    push()
    sent = {request.path.split("/")[-1] for request in hub.requests[before:] if request.method == "PUT"}
    assert sent
    assert not sent & arrived
    assert is_right(pull())


# --------------------------------------------------------------------------------------------- spoiled and refused


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_the_content_has_another_hash(hub, model_repo, outcome_of, name):
    hub.faults.append(Fault(f"GET .*/{name}", spoiled=True))
    outcome = outcome_of(f"{name} spoiled, once", pull)
    assert isinstance(outcome, OSError) == (name == "config.json")  # weights are fetched a second time
    assert_the_cache_is_sound()
    forget_cache()
    hub.faults.append(Fault(f"GET .*/{name}", spoiled=True, times=None))
    error = outcome_of(f"{name} spoiled, every time", pull)
    assert f"{name} of someone/model is damaged" in str(error)
    hub.faults.clear()
    assert_the_cache_is_sound()


def test_the_processor_is_spoiled(hub, model_repo, outcome_of):
    hub.faults.append(Fault("GET .*/processor_config.json", spoiled=True, times=2))
    error = outcome_of("processor_config.json spoiled", lambda: AnomalyCLIPProcessor.from_pretrained(REPO))
    assert "processor_config.json of someone/model is damaged" in str(error)
    assert AnomalyCLIPProcessor.from_pretrained(REPO).smoothing_sigma == 1.0


def gaps(hub, pattern: str) -> list[float]:
    times = [request.began for request in hub.asked(pattern)]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_the_hub_says_when_to_come_back(hub, model_repo, model, outcome_of):
    """429: the client waits for as long as the header says, and a second more."""
    hub.faults.append(Fault(WEIGHTS, status=429, headers={"Retry-After": "1"}))
    assert is_right(outcome_of("429 with Retry-After: 1 at the download", pull))
    assert min(gaps(hub, WEIGHTS)) >= 1
    hub.faults.append(Fault("POST .*/preupload/", status=429, headers={"Retry-After": "1"}))
    outcome_of("429 with Retry-After: 1 at the upload", lambda: model.push_to_hub("someone/pushed"))
    assert min(gaps(hub, "POST .*/preupload/")) >= 1
    assert_the_cache_is_sound()


def test_rate_limits_for_ever(hub, model_repo, waits, outcome_of):
    hub.faults.append(Fault(WEIGHTS, status=429, headers={"Retry-After": "300"}, times=None))
    error = outcome_of("429 for ever", pull)
    assert "429" in str(error)
    assert waits == [301] * 5
    hub.faults.clear()
    assert_the_cache_is_sound()


@pytest.mark.parametrize("request_of_three", ["HEAD .*/config.json", "HEAD .*/model.safetensors"])
def test_503_three_times(hub, model_repo, waits, outcome_of, request_of_three):
    hub.faults.append(Fault(request_of_three, status=503, times=3))
    assert is_right(outcome_of(f"503 three times at {request_of_three}", pull))
    assert [request.status for request in hub.asked(request_of_three)][:3] == [503] * 3
    assert_the_cache_is_sound()


def test_503_three_times_while_weights_are_sent(hub, model_repo, waits, outcome_of):
    """Here the client does not try again by itself, and says so; whoever calls again gets on."""
    hub.faults.append(Fault(WEIGHTS, status=503, times=3))
    for time_ in ("first", "second", "third"):
        error = outcome_of(f"503 three times at {WEIGHTS}, {time_} call", pull)
        assert "503" in str(error)
        assert "model.safetensors" in str(error)
    assert is_right(outcome_of(f"503 three times at {WEIGHTS}, fourth call", pull))
    assert_the_cache_is_sound()


@pytest.mark.parametrize("request_of_three", ["POST .*/preupload/", "POST .*/objects/batch", UPLOAD, "POST .*/verify"])
def test_503_three_times_while_pushing(hub, model, waits, outcome_of, request_of_three):
    hub.faults.append(Fault(request_of_three, status=503, times=3))
    outcome_of(f"503 three times at {request_of_three}", lambda: model.push_to_hub(REPO))
    assert [request.status for request in hub.asked(request_of_three)] == [503, 503, 503, 200]
    assert is_right(pull())


def test_503_for_ever(hub, model_repo, model, waits, outcome_of):
    hub.faults.append(Fault("", status=503, times=None))
    error = outcome_of("503 for ever, pull", pull)
    assert "We couldn't connect to" in str(error)
    error = outcome_of("503 for ever, push", lambda: model.push_to_hub(REPO))
    assert "503" in str(error)
    hub.faults.clear()
    assert_the_cache_is_sound()
    hub.faults.append(Fault("", status=503, times=None))
    assert is_right(outcome_of("503 for ever, all in the cache", pull))


def test_who_may_not_read(hub, model_repo, monkeypatch, outcome_of):
    HfApi().update_repo_settings(REPO, private=True)
    for token, who in ((False, "no token"), (OTHER_TOKEN, "another's token")):
        error = outcome_of(f"private repository, {who}", lambda token=token: pull(token=token))
        assert "someone/model is not a local folder and is not a valid model identifier" in str(error)
        assert "token" in str(error)
    error = outcome_of("a token that does not exist (401)", lambda: pull(token="hf_wrong"))
    assert "401" in str(error) or "connect" in str(error)
    HfApi().update_repo_settings(REPO, private=False, gated="auto")
    for token, who in ((False, "no token (401)"), (OTHER_TOKEN, "a token that is not admitted (403)")):
        error = outcome_of(f"gated repository, {who}", lambda token=token: pull(token=token))
        assert "You are trying to access a gated repo" in str(error)
        assert REPO in str(error)
    assert not Path(constants.HF_HUB_CACHE).exists() or not list(Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))
    assert_the_cache_is_sound()


def test_who_may_not_write(hub, model_repo, model, outcome_of):
    before = HfApi().model_info(REPO).sha
    cases = {READ_TOKEN: "a token for reading (403)", OTHER_TOKEN: "another's token (403)", False: "no token (401)"}
    for token, who in cases.items():
        error = outcome_of(f"push with {who}", lambda token=token: model.push_to_hub(REPO, token=token))
        assert re.search("40[13]", str(error))
        assert hub.endpoint in str(error)
    assert HfApi().model_info(REPO).sha == before


def test_what_does_not_exist(hub, model_repo, outcome_of):
    error = outcome_of("repository missing (404)", lambda: AnomalyCLIPModel.from_pretrained("someone/nothing"))
    assert "someone/nothing is not a local folder" in str(error)
    error = outcome_of("revision missing (404)", lambda: pull(revision="v9"))
    assert "v9 is not a valid git identifier" in str(error)
    error = outcome_of("folder missing (404)", lambda: pull(subfolder="nothing"))
    assert REPO in str(error)
    HfApi().delete_file("model.safetensors", REPO)
    error = outcome_of("weights missing (404)", pull)
    assert "someone/model has no weights" in str(error)


# --------------------------------------------------------------------------------------------------- slow and silent


@pytest.fixture
def impatient(monkeypatch):
    """A client that waits a fifth of a second where it would wait 10 or 60."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.2)


def test_the_hub_is_slow(hub, model_repo, impatient, waits, monkeypatch, outcome_of):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", SMALL_CHUNK)
    hub.faults.append(Fault(WEIGHTS, pause=0.05))
    assert is_right(outcome_of("download slow, within the timeout", pull))
    assert len(hub.asked(WEIGHTS)) == 1
    forget_cache()
    hub.faults.append(Fault(WEIGHTS, pause=0.5))
    assert is_right(outcome_of("download stalls once, over HF_HUB_DOWNLOAD_TIMEOUT", pull))
    assert "range" in hub.asked(WEIGHTS)[-1].headers
    assert_the_cache_is_sound()


@pytest.mark.parametrize(
    ("request_", "name"), [("HEAD .*/config.json", "config.json"), (WEIGHTS, "model.safetensors")]
)
def test_the_hub_never_answers(hub, model_repo, impatient, waits, outcome_of, request_, name):
    hub.faults.append(Fault(request_, silent=True))
    assert is_right(outcome_of(f"no answer to {request_}, once", pull))
    forget_cache()
    hub.faults.append(Fault(request_, silent=True, times=None))
    error = outcome_of(f"no answer to {request_}, ever", pull)
    assert name in str(error) or "We couldn't connect to" in str(error)
    hub.faults.clear()
    assert_the_cache_is_sound()


def test_the_hub_is_gone(hub, model_repo, waits, outcome_of):
    hub.stop()
    assert "We couldn't connect to" in str(outcome_of("connection refused", pull))


# ------------------------------------------------------------------------------------------- disks, processes, kills


@contextmanager
def files_no_larger_than(size: int):
    """As on a disk that fills up: writing more to a file fails, in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_takes_no_more(hub, model_repo, model, outcome_of):
    with files_no_larger_than(1_000_000):
        error = outcome_of("file size limit, pull", pull)
        assert "fetching model.safetensors of someone/model broke off" in str(error)
        assert os.strerror(errno.EFBIG) in str(error)
    assert_the_cache_is_sound()
    before = len(hub.asked("POST .*/commit/"))
    with files_no_larger_than(1_000_000):
        outcome_of("file size limit, push", lambda: model.push_to_hub("someone/other"), Exception)
    assert len(hub.asked("POST .*/commit/")) == before


FULL_DISK = """
import os, subprocess, sys
from anomalyclip_hf import AnomalyCLIPModel
for size in ("3m", "100m"):
    subprocess.run(["mount", "-o", f"remount,size={size}", os.environ["HF_HOME"]], check=True)
    for options in ({}, {"local_files_only": True}):
        try:
            AnomalyCLIPModel.from_pretrained("someone/model", **options)
            print("loaded")
        except OSError as error:
            print(str(error).replace(chr(10), " "))
"""


def test_the_disk_is_full(hub, model_repo, outcome_of):
    """A file system of 3 MB in a mount namespace of its own, made larger afterwards."""
    hub.home.mkdir(parents=True)
    shell = 'mount -t tmpfs -o size=3m tmpfs "$HF_HOME" && exec "$0" "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", shell]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], env=hub.environment).returncode:
        pytest.skip("a small file system needs unshare and the right to mount in a namespace of one's own")
    program = [sys.executable, "-c", FULL_DISK]
    done = subprocess.run([*command, *program], env=hub.environment, capture_output=True, text=True, timeout=120)
    full, full_offline, roomy, roomy_offline = done.stdout.splitlines()
    outcome_of("disk full, pull", lambda: (_ for _ in ()).throw(OSError(full)))
    assert "fetching model.safetensors of someone/model broke off" in full
    assert os.strerror(errno.ENOSPC) in full
    assert "has no weights" in full_offline
    assert (roomy, roomy_offline) == ("loaded", "loaded")


def pulled_maps() -> bytes:
    return maps_of(pull()).numpy().tobytes()


def test_two_processes_pull_at_once(hub, model_repo, outcome_of):
    hub.faults.append(Fault("GET ", pause=0.1, times=None))
    right = right_maps().numpy().tobytes()

    def pull_twice() -> list[bytes]:
        with ProcessPoolExecutor(2, mp_context=FORK) as pool:
            return [future.result(timeout=60) for future in [pool.submit(pulled_maps) for _ in range(2)]]

    assert outcome_of("two processes pull at once", pull_twice) == [right, right]
    assert len(hub.asked("HEAD .*/model.safetensors")) == 2  # both came before the cache was filled
    assert is_right(pull(local_files_only=True))


MOMENTS = {  # the request, what holds it up, and the share of the file after which the process is killed
    "before the first answer": ("HEAD .*/config.json", {"silent": True}, 0),
    "in the middle of config.json": ("GET .*/config.json", {"pause": 0.1}, 0.5),
    "before the weights begin": (WEIGHTS, {"silent": True}, 0),
    "at a tenth of the weights": (WEIGHTS, {"pause": 0.1}, 0.1),
    "in the middle of the weights": (WEIGHTS, {"pause": 0.1}, 0.5),
    "before the last tenth of the weights": (WEIGHTS, {"pause": 0.1}, 0.9),
}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_pull_is_killed(hub, model_repo, outcome_of, moment):
    pattern, options, share = MOMENTS[moment]
    hub.faults.append(Fault(pattern, **options))
    size = len(hub.storage.repositories["models", REPO].find("main").files[pattern.split("/")[-1]].content)
    child = FORK.Process(target=pull)
    child.start()
    wait_for(lambda: any(request.sent >= share * size for request in hub.asked(pattern)))
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    hub.faults.clear()
    outcome_of(f"SIGKILL {moment}", lambda: assert_the_cache_is_sound() or pull(local_files_only=True))


def test_a_push_is_killed(hub, model, outcome_of):
    """What had arrived is not sent again, and no half of a model is to be seen."""
    HfApi().create_repo(REPO)
    push = {"repo_id": REPO, "max_shard_size": "100KB"}
    hub.faults.append(Fault(UPLOAD, times=3))  # three arrive, the next ones hang
    hub.faults.append(Fault(UPLOAD, times=None, silent=True))
    child = FORK.Process(target=model.push_to_hub, kwargs=push)
    child.start()
    wait_for(lambda: len(hub.storage.lfs_objects) == 3)
    child.kill()
    child.join()
    hub.faults.clear()
    assert HfApi().list_repo_files(REPO) == [".gitattributes"]
    arrived, before = set(hub.storage.lfs_objects), len(hub.requests)
    outcome_of("SIGKILL within a push, pushed again", lambda: model.push_to_hub(**push))
    sent = {request.path.split("/")[-1] for request in hub.requests[before:] if request.method == "PUT"}
    assert sent == set(hub.storage.lfs_objects) - arrived
    assert is_right(pull())
