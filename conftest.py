# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Fixtures for the tests and for the examples in docstrings and documentation."""

import gc
import os
import shutil
import socket
import tempfile


# A port for the test Hub in tests/hub, bound now so that no other process takes it.
HUB_PORT = socket.socket()
HUB_PORT.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
HUB_PORT.bind(("127.0.0.1", 0))
OWN_HOME = tempfile.mkdtemp(prefix="anomalyclip-tests-")  # keeps the caches and tokens of the user out of the tests
# huggingface_hub reads these when it is imported. No test may reach a network: without the fixture `hub` it is
# offline, with it the only Hub is ours.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT.getsockname()[1]}",
    "HF_HUB_DISABLE_XET": "1",  # Xet's storage speaks a protocol of its own, which our Hub does not
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # it would send .bin weights' names and tokens to a Space elsewhere
    "HF_HOME": OWN_HOME,
    "HF_HUB_CACHE": f"{OWN_HOME}/hub",
    "HF_TOKEN_PATH": f"{OWN_HOME}/token",
    "HF_DATASETS_CACHE": f"{OWN_HOME}/datasets",
}
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(name, None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models of the tests are too small to gain from more threads

import json
import string
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hub.hub_server import TOKEN, HubServer
from huggingface_hub import close_session, constants
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.utils import logging

from anomalyclip_hf import (
    AnomalyCLIPConfig,
    AnomalyCLIPModel,
    AnomalyCLIPProcessor,
    AnomalyScorer,
    EvaluationResult,
    evaluate_model,
    load_anomaly_dataset,
)
from anomalyclip_hf.configuration_anomalyclip import ensemble_sentences


logging.disable_progress_bar()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the whole suite among processes; a few files take longer to distribute than to run."""
    return min(4, os.cpu_count() or 1) if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_collection_finish() -> None:
    """Leave what has been imported out of garbage collections, else half of the time of a short training."""
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(OWN_HOME, ignore_errors=True)


FIXTURES = Path(__file__).parent / "tests" / "fixtures"
TINY_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
TINY_VISION = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
TINY_VISION |= {"image_size": 32, "patch_size": 8}


def tiny_config(**overrides) -> AnomalyCLIPConfig:
    """Return a small configuration with all parts of the real one; `text` and `vision` override the towers."""
    settings = {"deep_prompt_depth": 3, "image_size": 40, "projection_dim": 24, **overrides}
    text, vision = settings.pop("text", {}), settings.pop("vision", {})
    return AnomalyCLIPConfig(text_config=TINY_TEXT | text, vision_config=TINY_VISION | vision, **settings)


def tiny_model(**overrides) -> AnomalyCLIPModel:
    torch.manual_seed(0)
    model = AnomalyCLIPModel(tiny_config(**overrides)).eval()
    for prompt in model.prompt_learner.parameters() if overrides.get("prompts") != "ensemble" else ():
        torch.nn.init.normal_(prompt.data, std=0.5)  # far from the words, so that a lost prompt shows
    return model


def is_same(model: AnomalyCLIPModel, other: AnomalyCLIPModel) -> bool:
    """Return whether two models have the same weights, bit for bit."""
    mine, others = model.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(tensor, others[name]) for name, tensor in mine.items())


def maps_of(model: AnomalyCLIPModel) -> torch.Tensor:
    """Return anomaly maps of a blank image; the last bits depend on the processor and on memory alignment."""
    with torch.no_grad():
        return model(torch.ones(1, 3, 40, 40)).anomaly_maps


def peak_map() -> torch.Tensor:
    """Two blobs, the smaller one higher, and one pixel that touches the first at a corner."""
    anomaly_map = torch.zeros(40, 40)
    anomaly_map[5:15, 5:25] = 0.6
    anomaly_map[15, 25] = 0.55
    anomaly_map[30:34, 30:32] = 0.9
    return anomaly_map


@pytest.fixture
def model() -> AnomalyCLIPModel:
    return tiny_model()


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A plain CLIP with its own tokenizer, as `CLIPModel.save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("clip")
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = CLIPTokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    corpus = [text for texts in ensemble_sentences() for text in texts]
    trained.train_from_iterator([*corpus, " ".join(string.ascii_lowercase)], trainer)  # any letter may end a word
    bpe = json.loads(trained.to_str())["model"]
    tokenizer = CLIPTokenizer(vocab=bpe["vocab"], merges=[tuple(merge) for merge in bpe["merges"]])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(text_config=TINY_TEXT | ids, vision_config=TINY_VISION, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The running test Hub; the client is online for this test, with a token and an empty cache below `hub.home`."""
    home = tmp_path / "huggingface"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # transformers asks huggingface_hub
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # of processes that are to use this Hub: `subprocess.run(..., env=hub.environment)`
    own = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN": TOKEN}
    with HubServer(HUB_PORT.getsockname()[1]) as server:
        server.home, server.environment = home, {**os.environ, **own, "HF_TOKEN_PATH": str(home / "token")}
        yield server
    close_session()  # or the client would go on with connections to this server


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that the Hub's client would wait before each retry; it does not wait."""
    seconds = []
    for module in ("huggingface_hub.utils._http", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def model_folder(tmp_path, model) -> Path:
    """Folder of a whole model with its processor."""
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0).save_pretrained(folder)
    return folder


@pytest.fixture
def model_repo(hub, model_folder) -> str:
    """Name of a repository on the test Hub with the same files."""
    hub.storage.put("someone/model", {path.name: path.read_bytes() for path in model_folder.iterdir()})
    return "someone/model"


@pytest.fixture
def runtime_package(tmp_path) -> Path:
    """A folder with the names of the files of the npm package onnxruntime-web, for tests that open no browser."""
    from anomalyclip_hf.export.web_runtime import BUILDS

    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"version": "1.2.3"}')
    for name in (name for names in BUILDS.values() for name in names):
        (folder / "dist" / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def parts_folder(tmp_path) -> Path:
    """Folder of a dataset in MVTec AD's layout: two categories with 4 normal and 4 anomalous images each."""
    rng = np.random.default_rng(4)
    folder = tmp_path / "parts"
    for category, size in (("bolt", (48, 64)), ("nut", (40, 40))):
        for kind in ("good", "scratch"):
            (folder / category / "test" / kind).mkdir(parents=True)
        (folder / category / "ground_truth" / "scratch").mkdir(parents=True)
        for number in range(4):
            normal, damaged = rng.integers(60, 120, (2, *size, 3), dtype=np.uint8)
            mask = np.zeros(size, dtype=np.uint8)
            top, left = 4 * number + 2, 6 * number + 3
            mask[top : top + 14, left : left + 14] = 255
            damaged[mask > 0] = 250
            Image.fromarray(normal).save(folder / category / "test" / "good" / f"{number:03}.png")
            Image.fromarray(damaged).save(folder / category / "test" / "scratch" / f"{number:03}.png")
            Image.fromarray(mask).save(folder / category / "ground_truth" / "scratch" / f"{number:03}_mask.png")
    return folder


@pytest.fixture
def parts(parts_folder):
    """The same as a dataset of 16 rows."""
    return load_anomaly_dataset("folder", parts_folder)


@pytest.fixture
def processor(model) -> AnomalyCLIPProcessor:
    """Processor of the tiny model."""
    return AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0)


@pytest.fixture
def evaluate(model, processor, parts_folder):
    """Evaluate the tiny model on the parts, as they lie on disk when it is called."""

    def evaluate_parts(batch_size: int = 8, **options) -> EvaluationResult:
        scorer = AnomalyScorer(model, processor, batch_size=batch_size)
        return evaluate_model(scorer, load_anomaly_dataset("folder", parts_folder), show_progress=False, **options)

    return evaluate_parts


@pytest.fixture
def images(parts, processor):
    """Training examples of the parts."""
    from anomalyclip_hf.training.examples import TrainingImages

    return TrainingImages(parts, processor)


@pytest.fixture
def photo() -> Image.Image:
    """An image with structure, wider than high."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 255, (50, 80, 3), dtype=torch.uint8, generator=generator)
    pixels[10:20, 30:50] = 255
    return Image.fromarray(pixels.numpy())


@pytest.fixture(params=["parity_a_fp32", "parity_a_top_fp32", "parity_a_as_published"])
def parity(request) -> tuple[str, dict[str, torch.Tensor], dict[str, str]]:
    """Name, tensors and settings of one reference run of the authors' code."""
    path = FIXTURES / f"{request.param}.safetensors"
    with safe_open(path, "pt") as file:
        return request.param, load_file(path), file.metadata()
