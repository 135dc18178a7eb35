# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import io
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving.children import bare_environment
from transformers import pipeline

from anomalyclip_hf import DEFAULT_MODEL, AnomalyScorer, calibrate_model, store_calibration
from anomalyclip_hf.serving.handler import EndpointHandler
from anomalyclip_hf.serving.space import write_handler


PHOTO = Path(__file__).parents[2] / "examples" / "images" / "corrugated_stained.png"
# How Hugging Face's inference toolkit loads a handler and answers: one request a line, one answer a line.
TOOLKIT = """
import importlib.util, json, sys
assert importlib.util.find_spec("anomalyclip_hf") is None
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", folder + "/handler.py")
sys.path.insert(0, folder)
module = importlib.util.module_from_spec(spec)
sys.modules["handler.EndpointHandler"] = module
spec.loader.exec_module(module)
handler = module.EndpointHandler(folder)
for line in sys.stdin:
    try:
        answer = handler(json.loads(line))
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def too_many_pixels() -> Image.Image:
    return Image.new("1", (9000, 9000))


@pytest.fixture(scope="module")
def handler():
    return EndpointHandler(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def expected():
    return pipeline("anomaly-detection", model=DEFAULT_MODEL, device="cpu")(
        str(PHOTO), pixel_threshold=0.3, output="json"
    )


def assert_same(result: dict, expected: dict) -> None:
    def pixels(text):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int)

    assert result["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert np.abs(pixels(result["anomaly_map"]) - pixels(expected["anomaly_map"])).max() <= 7  # of 65535: 1e-4
    assert (pixels(result["mask"]) != pixels(expected["mask"])).mean() < 1e-3
    assert len(result["regions"]) == len(expected["regions"])
    assert result["anomaly_map_maximum"] == expected["anomaly_map_maximum"]


def test_in_a_repository_without_the_package(tmp_path, expected):
    repository = tmp_path / "my-model"
    shutil.copytree(DEFAULT_MODEL, repository)
    assert write_handler(repository) == repository / "handler.py"
    requests = [
        {"inputs": as_base64(PHOTO.read_bytes()), "parameters": {"pixel_threshold": 0.3}},
        {"inputs": "http://127.0.0.1:9/x.png"},
        {"inputs": as_base64(png(too_many_pixels()))},
    ]
    done = subprocess.run(
        [sys.executable, "-S", "-c", TOOLKIT, str(repository)],
        input="\n".join(map(json.dumps, requests)),
        env=bare_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,), of_url, of_size = map(json.loads, done.stdout.splitlines())
    assert_same(result, expected)
    assert "inputs" in of_url["error"]
    assert "9000x9000" in of_size["error"]


@pytest.mark.parametrize("form", ["base64", "lines", "data", "bytes", "image"])
def test_forms_of_an_image(handler, expected, form):
    content = PHOTO.read_bytes()
    forms = {
        "base64": as_base64(content),
        "lines": base64.encodebytes(content).decode(),
        "data": f"data:image/png;base64,{as_base64(content)}",
        "bytes": content,
        "image": Image.open(PHOTO),
    }
    (result,) = handler({"inputs": forms[form], "parameters": {"pixel_threshold": "0.3", "threshold": None}})
    assert_same(result, expected)
    json.dumps(result)


def test_thresholds(handler):
    data = {"inputs": PHOTO.read_bytes()}
    (result,) = handler(data)
    assert result["mask"] is None
    assert handler({**data, "parameters": {"threshold": result["score"] + 1e-3}})[0]["label"] == "normal"
    assert handler({**data, "parameters": {"threshold": result["score"] - 1e-3}})[0]["label"] == "anomalous"


GOOD = {"inputs": as_base64(b"x")}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ([], "inputs"),
        ({}, "inputs"),
        (GOOD | {"threshold": 0.5}, "parameters"),
        (GOOD | {"parameters": [0.5]}, "parameters"),
        (GOOD | {"parameters": {"output": "pil"}}, "output"),
        (GOOD | {"parameters": {"max_pixels": 10**9}}, "max_pixels"),
        (GOOD | {"parameters": {"threshold": "high"}}, "threshold"),
        (GOOD | {"parameters": {"threshold": float("nan")}}, "threshold"),
        (GOOD | {"parameters": {"threshold": 10**400}}, "threshold"),
        (GOOD | {"parameters": {"threshold": 1.5}}, "threshold"),
        (GOOD | {"parameters": {"pixel_threshold": -1}}, "pixel_threshold"),
        ({"inputs": None}, "inputs"),
        ({"inputs": {"url": "x"}}, "inputs"),
        ({"inputs": ""}, "image"),
        ({"inputs": "photo.png"}, "inputs"),
        ({"inputs": "żółw"}, "inputs"),
        ({"inputs": "data:image/png,rawbytes"}, "image|inputs"),
        ({"inputs": as_base64(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")}, "image"),
        ({"inputs": as_base64(PHOTO.read_bytes()[:20_000])}, "image"),
        ({"inputs": bytes(20_000_001)}, "20000001"),
        ({"inputs": "A" * 28_000_200}, "28000200"),
        ({"inputs": as_base64(png(too_many_pixels()))}, "9000x9000"),
        ({"inputs": too_many_pixels()}, "9000x9000"),
    ],
)
def test_mistakes_of_callers_end_in_one_line(handler, data, name):
    with pytest.raises(ValueError, match=name) as caught:
        handler(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "file"])
def test_no_url_is_fetched(handler, scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        with pytest.raises(ValueError, match="inputs"):
            handler({"inputs": f"{scheme}://127.0.0.1:{server.getsockname()[1]}/etc/passwd"})
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_path_that_is_not_a_folder_is_not_looked_up_on_the_hub():
    with pytest.raises(NotADirectoryError, match="owner/model"):
        EndpointHandler("owner/model")


def test_a_calibrated_model_gives_its_decision(model_folder):
    scorer = AnomalyScorer(model_folder)
    found = calibrate_model(scorer, [str(PHOTO)], method="quantile")
    store_calibration(found, model_folder)
    picture = base64.b64encode(PHOTO.read_bytes()).decode()
    (result,) = EndpointHandler(str(model_folder))({"inputs": picture})
    assert result["decision"] == found.decide(result["score"])
    assert result["p_value"] == found.p_value(result["score"])
    json.dumps(result)
