# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever goes wrong on the way to or from the Hub: the right model or a clear error, never a broken cache."""

import errno
import functools
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hub.hub_server import OTHER_TOKEN, READ_TOKEN, Fault
from huggingface_hub import HfApi, constants

from anomalyclip_hf import AnomalyCLIPModel
from conftest import tiny_model


REPO = "someone/model"
SHARES = [0.0, 0.4, 0.9]  # of a file, after which the connection ends
# The client keeps whole chunks of an interrupted download; ours is smaller than its chunk of 10 MiB.
SMALL_CHUNK = 1 << 18
WEIGHTS = "GET /files/.*/model.safetensors"
UPLOAD = "PUT /upload/"
FORK = multiprocessing.get_context("fork")  # processes without seconds of imports


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread: more cost time for so small a model, and a forked process could wait for the others for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def right_weights() -> dict[str, torch.Tensor]:
    return tiny_model().state_dict()


def has_weights(model: AnomalyCLIPModel, expected: dict[str, torch.Tensor]) -> bool:
    """Compare bit for bit."""
    found = model.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def is_right(model: AnomalyCLIPModel) -> bool:
    return has_weights(model, right_weights())


def pull(**options) -> AnomalyCLIPModel:
    return AnomalyCLIPModel.from_pretrained(REPO, **options)


def assert_the_cache_is_sound() -> None:
    """Alone it gives the right model or an error; with the Hub back, the right one."""
    try:
        loaded = pull(local_files_only=True)
    except OSError:
        pass  # as good as the model
    else:
        assert is_right(loaded)
    assert is_right(pull())


def forget_cache() -> None:
    shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# ------------------------------------------------------------------------------------------------ cut connections


@pytest.mark.parametrize("share", SHARES)
def test_a_download_is_cut(hub, model_repo, waits, monkeypatch, share):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", SMALL_CHUNK)
    hub.faults.append(Fault(WEIGHTS, cut_response=share))
    assert is_right(pull())
    first, second = hub.asked(WEIGHTS)
    assert second.headers.get("range", "bytes=0-") == f"bytes={first.sent // SMALL_CHUNK * SMALL_CHUNK}-"
    assert_the_cache_is_sound()

    forget_cache()
    hub.faults.append(Fault(WEIGHTS, cut_response=share, reset=True, times=None))
    with pytest.raises(OSError, match=r"model\.safetensors.*someone/model"):
        pull()
    hub.faults.clear()
    assert_the_cache_is_sound()


def test_a_small_file_is_cut(hub, model_repo, waits):
    hub.faults.append(Fault("GET .*/config.json", cut_response=0.5))
    assert is_right(pull())
    forget_cache()
    hub.faults.append(Fault("GET .*/config.json", cut_response=0.5, times=None))
    with pytest.raises(OSError, match=r"config\.json.*someone/model"):
        pull()
    hub.faults.clear()
    assert_the_cache_is_sound()


@pytest.mark.parametrize("share", SHARES)
def test_an_upload_is_cut(hub, model, waits, share):
    hub.faults.append(Fault(UPLOAD, cut_request=share))
    model.push_to_hub(REPO)
    assert [request.status for request in hub.asked(UPLOAD)] == [None, 200]
    assert is_right(pull())

    changed = tiny_model()
    changed.prompt_learner.normal_prompt.data += 1
    hub.faults.append(Fault(UPLOAD, cut_request=share, times=None))
    with pytest.raises((OSError, RuntimeError), match=r"model\.safetensors"):
        changed.push_to_hub(REPO)
    assert is_right(pull())  # what was there before
    hub.faults.clear()
    changed.push_to_hub(REPO)
    assert has_weights(pull(), changed.state_dict())


def test_an_upload_in_parts_is_cut(hub, model, waits):
    hub.storage.multipart_size = 1 << 20
    hub.faults.append(Fault(f"{UPLOAD}.*/3", cut_request=0.5))
    model.push_to_hub(REPO)
    assert is_right(pull())
    assert len(hub.asked(f"{UPLOAD}.*/2")) == 1  # what has arrived is not sent again


def test_the_answer_to_a_commit_is_lost(hub, model):
    HfApi().create_repo(REPO)
    hub.faults.append(Fault("POST .*/commit/", cut_response=0.0))
    with pytest.raises(OSError, match=REPO):
        model.push_to_hub(REPO)
    assert is_right(pull())  # the Hub had all of it
    before = HfApi().model_info(REPO).sha
    model.push_to_hub(REPO)
    assert HfApi().model_info(REPO).sha == before
    assert len(hub.asked(UPLOAD)) == 1


def test_a_push_goes_on_where_the_last_one_ended(hub, model, waits):
    """Large files that have arrived are not sent again, also without a commit that names them."""
    push = functools.partial(model.push_to_hub, REPO, max_shard_size="100KB")
    hub.faults.append(Fault(UPLOAD, times=2))  # nothing is wrong with the first two
    hub.faults.append(Fault(UPLOAD, times=None, status=500))
    with pytest.raises((OSError, RuntimeError), match=r"safetensors"):
        push()
    arrived = set(hub.storage.lfs_objects)
    assert len(arrived) == 2
    hub.faults.clear()
    before = len(hub.requests)
    push()
    sent = {request.path.split("/")[-1] for request in hub.requests[before:] if request.method == "PUT"}
    assert sent
    assert not sent & arrived
    assert is_right(pull())


# ------------------------------------------------------------------------------------------------------ refused


def test_the_hub_says_when_to_come_back(hub, model_repo, model, waits):
    """429: the client waits for as long as the header says, and a second more."""
    hub.faults.append(Fault(WEIGHTS, status=429, headers={"Retry-After": "7"}))
    assert is_right(pull())
    hub.faults.append(Fault("POST .*/preupload/", status=429, headers={"Retry-After": "9"}))
    model.push_to_hub("someone/pushed")
    assert waits == [8, 10]
    forget_cache()
    hub.faults.append(Fault(WEIGHTS, status=429, headers={"Retry-After": "300"}, times=None))
    with pytest.raises(OSError, match="429"):
        pull()
    hub.faults.clear()
    assert_the_cache_is_sound()


@pytest.mark.parametrize("request_of_three", ["HEAD .*/config.json", "HEAD .*/model.safetensors"])
def test_503_three_times(hub, model_repo, waits, request_of_three):
    hub.faults.append(Fault(request_of_three, status=503, times=3))
    assert is_right(pull())
    assert [request.status for request in hub.asked(request_of_three)][:3] == [503] * 3


@pytest.mark.parametrize("request_of_three", ["POST .*/preupload/", UPLOAD])
def test_503_three_times_while_pushing(hub, model, waits, request_of_three):
    hub.faults.append(Fault(request_of_three, status=503, times=3))
    model.push_to_hub(REPO)
    assert [request.status for request in hub.asked(request_of_three)] == [503, 503, 503, 200]
    assert is_right(pull())


def test_503_for_ever(hub, model_repo, model, waits):
    hub.faults.append(Fault("", status=503, times=None))
    with pytest.raises(OSError, match=r"connect|503"):
        pull()
    with pytest.raises(OSError, match="503"):
        model.push_to_hub(REPO)
    hub.faults.clear()
    assert_the_cache_is_sound()
    hub.faults.append(Fault("", status=503, times=None))
    assert is_right(pull())  # all of it is in the cache


def test_who_may_not_read(hub, model_repo):
    HfApi().update_repo_settings(REPO, private=True)
    for token in (False, OTHER_TOKEN):
        with pytest.raises(OSError, match=REPO):
            pull(token=token)
    with pytest.raises(OSError, match=r"401|connect"):
        pull(token="hf_wrong")
    HfApi().update_repo_settings(REPO, private=False, gated="auto")
    for token in (False, OTHER_TOKEN):
        with pytest.raises(OSError, match="gated"):
            pull(token=token)
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))
    assert_the_cache_is_sound()


def test_who_may_not_write(hub, model_repo, model):
    before = HfApi().model_info(REPO).sha
    for token in (READ_TOKEN, OTHER_TOKEN, False):
        with pytest.raises(OSError, match="40[13]"):
            model.push_to_hub(REPO, token=token)
    assert HfApi().model_info(REPO).sha == before


def test_what_does_not_exist(hub, model_repo):
    with pytest.raises(OSError, match="someone/nothing"):
        AnomalyCLIPModel.from_pretrained("someone/nothing")
    with pytest.raises(OSError, match="v9"):
        pull(revision="v9")
    with pytest.raises(OSError, match=REPO):
        pull(subfolder="nothing")
    HfApi().delete_file("model.safetensors", REPO)
    with pytest.raises(OSError, match=rf"{REPO}.*weights"):
        pull()


# --------------------------------------------------------------------------------------------------- slow and silent


@pytest.fixture
def impatient(monkeypatch):
    """Let the client wait a fifth of a second where it would wait 10 or 60."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.2)


def test_the_hub_is_slow(hub, model_repo, impatient, waits, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", SMALL_CHUNK)
    hub.faults.append(Fault(WEIGHTS, pause=0.5))
    assert is_right(pull())  # what stalled over the timeout goes on where it was
    assert "range" in hub.asked(WEIGHTS)[-1].headers
    assert_the_cache_is_sound()


@pytest.mark.parametrize("request_", ["HEAD .*/config.json", WEIGHTS])
def test_the_hub_never_answers(hub, model_repo, impatient, waits, request_):
    hub.faults.append(Fault(request_, silent=True, times=None))
    with pytest.raises(OSError, match=r"model\.safetensors|config\.json|connect"):
        pull()
    hub.faults = [Fault(request_, silent=True)]
    assert is_right(pull())
    assert_the_cache_is_sound()


def test_the_hub_is_gone(hub, model_repo, waits):
    hub.stop()
    with pytest.raises(OSError, match="connect"):
        pull()


# ------------------------------------------------------------------------------------------- disks, processes, kills


@contextmanager
def files_no_larger_than(size: int):
    """Fail to write more to a file, in this process, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_disk_takes_no_more(hub, model_repo, model):
    with files_no_larger_than(1_000_000), pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
        pull()
    assert "model.safetensors" in str(caught.value)
    assert_the_cache_is_sound()
    before = len(hub.asked("POST .*/commit/"))
    with files_no_larger_than(1_000_000), pytest.raises(Exception, match=r".*"):  # safetensors raises its own
        model.push_to_hub("someone/other")
    assert len(hub.asked("POST .*/commit/")) == before


def pull_the_right_one() -> bool:
    return is_right(pull())


def test_two_processes_pull_at_once(hub, model_repo):
    right_weights()  # once, before the fork
    hub.faults.append(Fault("GET ", pause=0.1, times=None))
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        pulls = [pool.submit(pull_the_right_one) for _ in range(2)]
        assert [future.result(timeout=60) for future in pulls] == [True, True]
    assert len(hub.asked("HEAD .*/model.safetensors")) == 2  # both came before the cache was filled
    assert is_right(pull(local_files_only=True))


MOMENTS = {  # the request, what holds it up, and the share of the file after which the process is killed
    "before the first answer": ("HEAD .*/config.json", {"silent": True}, 0),
    "in the middle of config.json": ("GET .*/config.json", {"pause": 0.1}, 0.5),
    "in the middle of the weights": (WEIGHTS, {"pause": 0.1}, 0.5),
}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_pull_is_killed(hub, model_repo, moment):
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
    assert_the_cache_is_sound()
    assert is_right(pull(local_files_only=True))


def test_a_push_is_killed(hub, model):
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
    model.push_to_hub(**push)
    sent = {request.path.split("/")[-1] for request in hub.requests[before:] if request.method == "PUT"}
    assert sent == set(hub.storage.lfs_objects) - arrived
    assert is_right(pull())
