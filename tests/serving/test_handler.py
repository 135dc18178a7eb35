# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import base64
import http.server
import io
import ipaddress
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hub.children import bare_environment, write_repository
from PIL import Image
from transformers import pipeline

from anomalyclip_hf import DEFAULT_MODEL
from anomalyclip_hf.serving import handler as module
from anomalyclip_hf.serving.handler import EndpointHandler, TimeLimit, fetch_public_url, is_public
from anomalyclip_hf.serving.space import write_handler


PHOTO = Path(__file__).parents[2] / "examples" / "images" / "corrugated_stained.png"
# How Hugging Face's inference toolkit loads a handler and answers: one request a line, one answer a line.
TOOLKIT = """
import importlib.util, json, sys
try:
    import anomalyclip_hf
    raise SystemExit("the package is there")
except ImportError:
    pass
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


@pytest.fixture(scope="module")
def handler():
    return EndpointHandler(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def expected():
    return pipeline("anomaly-detection", device="cpu")(str(PHOTO), pixel_threshold=0.3, output="json")


def same(result: dict, expected: dict) -> bool:
    def pixels(text):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int)

    return (
        result["score"] == pytest.approx(expected["score"], abs=1e-5)
        and np.abs(pixels(result["anomaly_map"]) - pixels(expected["anomaly_map"])).max() <= 1
        and (pixels(result["mask"]) == pixels(expected["mask"])).all()
        and [region["box"] for region in result["regions"]] == [region["box"] for region in expected["regions"]]
        and result["anomaly_map_maximum"] == expected["anomaly_map_maximum"]
    )


def test_in_a_repository_where_the_package_is_not_installed(tmp_path, expected):
    repository = write_repository(tmp_path / "my-model")
    assert write_handler(repository) == repository / "handler.py"
    requests = [
        {"inputs": as_base64(PHOTO.read_bytes()), "parameters": {"pixel_threshold": 0.3}},
        {"inputs": "no base64!"},
        {"inputs": as_base64(PHOTO.read_bytes()), "parameters": {"treshold": 0.3}},
        {"inputs": "http://127.0.0.1:9/x.png"},
        {"inputs": as_base64(png(Image.new("1", (9000, 9000))))},
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
    first, *errors = map(json.loads, done.stdout.splitlines())
    assert same(first[0], expected)
    for answer, words in zip(errors, ("no valid base64", "treshold", "not fetched here", "9000x9000"), strict=True):
        assert words in answer["error"]
        assert "\n" not in answer["error"]
    needed = (repository / "requirements.txt").read_text().splitlines()
    assert [line for line in needed if line.startswith("transformers") and ">=5" in line]
    assert not [line for line in needed if line.startswith(("typer", "gradio", "datasets", "anomalyclip"))]


def test_every_form_of_an_image(handler, expected):
    content = PHOTO.read_bytes()
    text = as_base64(content)
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for inputs in (text, wrapped, f"data:image/png;base64,{text}", content, bytearray(content), Image.open(PHOTO)):
        (result,) = handler({"inputs": inputs, "parameters": {"pixel_threshold": "0.3", "threshold": None}})
        assert same(result, expected)
        json.dumps(result)


def test_thresholds(handler):
    data = {"inputs": PHOTO.read_bytes()}
    score = handler(data)[0]["score"]
    assert handler(data)[0]["mask"] is None
    assert handler({**data, "parameters": {"threshold": score + 1e-3}})[0]["label"] == "normal"
    assert handler({**data, "parameters": {"threshold": score - 1e-3}})[0]["label"] == "anomalous"


GOOD = {"inputs": as_base64(b"x")}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], 'no "inputs"'),
        ({}, 'no "inputs"'),
        (GOOD | {"threshold": 0.5}, "threshold"),
        (GOOD | {"parameters": [0.5]}, "parameters is list"),
        (GOOD | {"parameters": {"output": "pil"}}, "output"),
        (GOOD | {"parameters": {"threshold": "high"}}, "threshold is 'high'"),
        (GOOD | {"parameters": {"threshold": True}}, "threshold is True"),
        (GOOD | {"parameters": {"threshold": float("nan")}}, "threshold is nan"),
        (GOOD | {"parameters": {"threshold": 10**400}}, "expected a number"),
        (GOOD | {"parameters": {"threshold": 1.5}}, "threshold is 1.5"),
        (GOOD | {"parameters": {"pixel_threshold": -1}}, "pixel_threshold is -1"),
        ({"inputs": None}, "inputs is NoneType"),
        ({"inputs": ["a", "b"]}, "inputs is list"),
        ({"inputs": {"url": "x"}}, "inputs is dict"),
        ({"inputs": ""}, "is empty"),
        ({"inputs": "/etc/passwd"}, "not an image|no valid base64"),
        ({"inputs": "photo.png"}, "no valid base64"),
        ({"inputs": "żółw"}, "no valid base64"),
        ({"inputs": "data:image/png,rawbytes"}, "data: URL of another form"),
        ({"inputs": "data:image/svg+xml;base64," + as_base64(b"<svg/>")}, "not an image"),
        ({"inputs": as_base64(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")}, "not an image"),
        ({"inputs": as_base64(PHOTO.read_bytes()[:20_000])}, "damaged or cut short"),
        ({"inputs": bytes(20_000_001)}, "has 20000001 bytes, the limit is 20000000"),
        ({"inputs": "A" * 28_000_100}, "more than 20000000 bytes"),
        ({"inputs": as_base64(png(Image.new("1", (9000, 9000))))}, "9000x9000 px, the limit is 50000000"),
        ({"inputs": Image.new("1", (9000, 9000))}, "9000x9000 px, the limit is 50000000"),
        ({"inputs": "HTTPS://example.com/x.png"}, "not fetched here"),
    ],
)
def test_mistakes_of_callers_end_in_one_line(handler, data, words):
    with pytest.raises(ValueError, match=words) as caught:
        handler(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_path_that_is_no_folder_is_not_looked_up_on_the_hub():
    with pytest.raises(ValueError, match="owner/model is no folder"):
        EndpointHandler("owner/model")


def test_time_is_limited():
    limited, gate = TimeLimit(0.2), threading.Event()
    with pytest.raises(ValueError, match="longer than 0.2 seconds"):
        limited(gate.wait)
    gate.set()
    assert limited(lambda: 3) == 3
    with pytest.raises(KeyError):
        limited({}.__getitem__, "own errors pass through")


def test_a_pixel_limit_of_ones_own(photo):
    small = EndpointHandler(DEFAULT_MODEL, max_pixels=1000, max_bytes=30_000)
    with pytest.raises(ValueError, match="80x50 px, the limit is 1000"):
        small({"inputs": png(photo)})


# ------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "fec0::1",
     "ff0e::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "2001::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    ipaddress.ip_address(address)
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_addresses_that_are_public(address):
    assert is_public(address)


@pytest.fixture
def web():
    """A server on the loopback address; what it answers stands in `web.answers`, by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append((self.path, self.headers["Host"]))
            status, headers, chunks = server.answers[self.path.split("?")[0]]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                server.hung_up = True

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.requests, server.hung_up = {}, [], False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def network(monkeypatch, web):
    """Names and routes: `network.names` are the answers of DNS, and public addresses lead to the server `web`."""

    class Network:
        names: dict = {}
        asked: list = []
        dialled: list = []

    network = Network()
    network.names, network.asked, network.dialled = {}, [], []
    real_connect, real_names = socket.socket.connect, socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        network.asked.append(host)
        if host not in network.names:
            return real_names(host, port, *args, **kwargs)
        answers = network.names[host]
        addresses = answers.pop(0) if isinstance(answers[0], list) else answers
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def connect(self, address):
        network.dialled.append(address[0])
        return real_connect(self, web.server_address if is_public(address[0]) else address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return network


def test_fetches_from_a_public_address(network, web):
    network.names["pictures.example"] = ["93.184.216.34"]
    web.answers["/a.png"] = (200, {}, [PHOTO.read_bytes()])
    assert fetch_public_url("http://pictures.example/a.png?size=1#top") == PHOTO.read_bytes()
    assert web.requests == [("/a.png?size=1", "pictures.example")]
    assert network.dialled == ["93.184.216.34"]


def test_the_handler_fetches_where_it_is_switched_on(network, web, monkeypatch, expected):
    network.names["pictures.example"] = ["93.184.216.34"]
    web.answers["/a.png"] = (200, {}, [PHOTO.read_bytes()])
    data = {"inputs": "http://pictures.example/a.png", "parameters": {"pixel_threshold": 0.3}}
    assert same(EndpointHandler(DEFAULT_MODEL, allow_urls=True)(data)[0], expected)
    monkeypatch.setenv("ANOMALYCLIP_ALLOW_URLS", "1")
    switched_on = EndpointHandler(DEFAULT_MODEL)
    assert same(switched_on(data)[0], expected)
    with pytest.raises(ValueError, match="not a public address"):
        switched_on({"inputs": f"http://127.0.0.1:{web.server_port}/a.png"})
    monkeypatch.setenv("ANOMALYCLIP_ALLOW_URLS", "0")
    with pytest.raises(ValueError, match="not fetched here"):
        EndpointHandler(DEFAULT_MODEL)(data)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "0",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
    ],
)
def test_addresses_of_the_own_network_are_never_dialled(network, web, host):
    with pytest.raises(ValueError, match="not a public address|cannot be reached"):
        fetch_public_url(f"http://{host}:{web.server_port}/a.png")
    assert network.dialled == []
    assert web.requests == []


def test_one_private_address_among_public_ones_is_enough(network, web):
    network.names["mixed.example"] = ["93.184.216.34", "10.0.0.1"]
    with pytest.raises(ValueError, match=r"'mixed\.example' is not a public address"):
        fetch_public_url("http://mixed.example/a.png")
    assert network.dialled == []


def test_a_name_is_resolved_once(network, web):
    """DNS rebinding: the second answer would be private, but nobody asks for it."""
    network.names["rebinding.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    web.answers["/a.png"] = (200, {}, [b"content"])
    assert fetch_public_url("http://rebinding.example/a.png") == b"content"
    assert network.asked == ["rebinding.example"]
    assert network.dialled == ["93.184.216.34"]


def test_every_redirect_is_checked(network, web):
    network.names |= {"a.example": ["93.184.216.34"], "b.example": ["93.184.216.35"], "inner.example": ["192.168.0.1"]}
    web.answers["/a"] = (302, {"Location": "http://b.example/b"}, [])
    web.answers["/b"] = (307, {"Location": "/c"}, [])
    web.answers["/c"] = (200, {}, [b"content"])
    assert fetch_public_url("http://a.example/a") == b"content"
    assert network.dialled == ["93.184.216.34", "93.184.216.35", "93.184.216.35"]
    for target, words in (
        ("http://inner.example/x", "not a public address"),
        (f"http://127.0.0.1:{web.server_port}/c", "not a public address"),
        ("file:///etc/passwd", "no address of the web"),
        ("ftp://b.example/x", "no address of the web"),
        ("http://[", "no address"),
        ("http://b.example:99999/", "no address"),
    ):
        web.answers["/b"] = (307, {"Location": target}, [])
        network.dialled.clear()
        with pytest.raises(ValueError, match=words):
            fetch_public_url("http://a.example/a")
        assert network.dialled == ["93.184.216.34", "93.184.216.35"]
    web.answers["/a"] = (302, {"Location": "/a"}, [])
    with pytest.raises(ValueError, match="more than 3 redirects"):
        fetch_public_url("http://a.example/a")
    web.answers["/a"] = (302, {}, [])
    with pytest.raises(ValueError, match="answered 302"):
        fetch_public_url("http://a.example/a")


def test_size_is_limited_while_it_streams(network, web):
    network.names["a.example"] = ["93.184.216.34"]
    web.answers["/endless"] = (200, {}, (bytes(100_000) for _ in range(1_000_000)))
    with pytest.raises(ValueError, match="more than 300000 bytes"):
        fetch_public_url("http://a.example/endless", max_bytes=300_000)
    deadline = time.monotonic() + 10
    while not web.hung_up and time.monotonic() < deadline:
        time.sleep(0.01)
    assert web.hung_up


def test_a_server_that_drips_is_cut_off(network, web):
    network.names["a.example"] = ["93.184.216.34"]

    def drip():
        for _ in range(100):
            yield b"x"
            time.sleep(0.1)

    web.answers["/slow"] = (200, {"Content-Length": "1000"}, drip())
    with pytest.raises(ValueError, match="takes longer than 0.5 seconds"):
        fetch_public_url("http://a.example/slow", timeout=0.5)


def test_https_names_the_host_and_goes_to_the_checked_address(network, monkeypatch):
    network.names["secret.example"] = ["93.184.216.34"]
    hello = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(module, "_connect", lambda addresses, deadline: dial(addresses, server.getsockname()))

        def dial(addresses, place):
            assert [address for _, address in addresses] == [("93.184.216.34", 443)]
            channel = socket.socket()
            channel.connect(place)
            return channel

        def answer():
            channel, _ = server.accept()
            hello.append(channel.recv(4096))
            channel.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ValueError, match="cannot be reached"):
            fetch_public_url("https://secret.example/a.png")
        thread.join()
    assert hello[0][0] == 22  # the handshake of TLS
    assert b"secret.example" in hello[0]  # SNI


def test_names_that_lead_nowhere(network):
    network.names["gone.example"] = ["93.184.216.34"]
    for url in ("http://", "http:///x", "https://:80/", "gopher://a.example/"):
        with pytest.raises(ValueError, match="no address of the web"):
            fetch_public_url(url)
    with pytest.raises(ValueError, match="cannot be reached"):
        fetch_public_url("http://name.invalid/")
