# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Test the page in a browser, served by a Space that cannot see this checkout."""

import io
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving.children import CHROMIUM, CHROMIUM_ARGUMENTS, bare_environment, free_port, serving
from transformers import pipeline

from anomalyclip_hf import DEFAULT_MODEL
from anomalyclip_hf.serving.demo import build_demo
from anomalyclip_hf.serving.space import write_space


IMAGES = Path(__file__).parents[2] / "examples" / "images"
STAINED = IMAGES / "corrugated_stained.png"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; install it to drive the page in a browser")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(scratch):
    """Yield the address of the demo; at the end it must have connected to no other machine."""
    space = write_space(scratch / "space")
    environment = bare_environment(scratch, GRADIO_SERVER_PORT=str(free_port()))
    alone = [sys.executable, "-S", "-c", "import anomalyclip_hf"]
    assert subprocess.run(alone, env=environment, cwd=scratch, capture_output=True, check=False).returncode == 1
    command = ["-S", str(Path(__file__).with_name("run_watched.py")), str(scratch / "calls.txt")]
    with serving(command, scratch / "log.txt", env=environment, cwd=space) as address:
        yield address
    assert (scratch / "calls.txt").read_text() == ""


@pytest.fixture(scope="module")
def browser(scratch):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, demo):
    """Yield a function that opens the page; no error may be logged, and no request leave the machine."""
    contexts, errors, strangers = [], [], []

    def open_page(width=1280, height=1000):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: None if local(request.url) else strangers.append(request.url))
        with page.expect_request("**/heartbeat/*"):  # the page is complete and connected
            page.goto(demo)
        page.wait_for_selector("#image input[type=file]", state="attached")
        page.wait_for_selector("#json-file")  # the last part of the page
        return page

    def local(url):
        return url.startswith((demo, "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert strangers == []


@pytest.fixture(scope="module")
def expected():
    """Return what the pipeline gives for the same image."""
    return pipeline("anomaly-detection", model=DEFAULT_MODEL, device="cpu")(str(STAINED), pixel_threshold=0.5)


def upload(page, path):
    page.set_input_files("#image input[type=file]", path)
    page.wait_for_selector(".verdict, .problem")


def shown(page, other_than=None) -> tuple[str, np.ndarray]:
    """Wait for a heat map with another address than the given one; return its address and pixels."""
    page.wait_for_function(
        "old => { const map = document.querySelector('#overlay img'); return map && map.complete && map.src !== old }",
        arg=other_than,
    )
    source = page.get_attribute("#overlay img", "src")
    with urllib.request.urlopen(source) as response:
        return source, np.asarray(Image.open(io.BytesIO(response.read())).convert("RGB")).astype(int)


def slider(page, name):
    return page.locator(f"#{name} input[type=range]")


def table(page) -> list[list[float]]:
    rows = page.locator("#regions tbody tr").all()
    return [[float(cell) for cell in row.locator("td").all_inner_texts()] for row in rows]


def downloaded(page, button) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


# --------------------------------------------------------------------------------------------- what it shows


@needs_browser
def test_an_upload_gives_what_the_pipeline_gives(open_page, expected):
    page = open_page()
    upload(page, STAINED)
    assert page.inner_text(".verdict strong") == f"{expected['score']:.3f}"
    assert page.inner_text(".verdict span") == expected["label"] == "anomalous"
    assert f"score {expected['score']:.3f}" in page.get_attribute("#overlay img", "alt")

    name, content = downloaded(page, "#map-file")
    assert name == "corrugated_stained_map.tiff"
    values = np.asarray(Image.open(io.BytesIO(content)))
    assert (values.dtype, values.shape) == (np.float32, (320, 320))
    np.testing.assert_allclose(values, np.asarray(expected["anomaly_map"]), atol=1e-4)

    name, content = downloaded(page, "#json-file")
    result = json.loads(content)
    assert name == "corrugated_stained_result.json"
    assert (result["label"], result["threshold"]) == ("anomalous", float(slider(page, "threshold").input_value()))
    assert (result["height"], result["width"]) == (320, 320)
    assert result["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert result["pixel_threshold"] == float(slider(page, "pixel-threshold").input_value()) == 0.5
    assert len(result["regions"]) == len(expected["regions"])
    first, same = result["regions"][0], expected["regions"][0]
    assert first["box"] == {name: pytest.approx(value, abs=1) for name, value in same["box"].items()}
    np.testing.assert_allclose(table(page)[0], [*first["box"].values(), first["area"], first["peak"]], rtol=1e-3)


@needs_browser
def test_sliders_by_mouse_and_by_keys_draw_again(open_page, expected):
    page = open_page()
    upload(page, STAINED)
    source, before = shown(page)
    plain = np.asarray(Image.open(STAINED).convert("RGB")).astype(int)
    peak = np.unravel_index(np.asarray(expected["anomaly_map"]).argmax(), (320, 320))
    assert before[peak][0] - before[peak][2] > 80  # between yellow and red where the map peaks

    box = slider(page, "opacity").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)  # the far left: no opacity
    source, clear = shown(page, other_than=source)
    assert slider(page, "opacity").input_value() == "0"
    assert np.abs(clear[peak] - plain[peak]).max() < 40
    assert np.abs(clear - plain).mean() < 6  # but for the outline

    areas = [table(page)[0][4]]
    slider(page, "pixel-threshold").focus()
    for keys in (["ArrowLeft"] * 20, ["ArrowRight"] * 30):
        for key in keys:
            page.keyboard.press(key)
        source, drawn = shown(page, other_than=source)
        level = float(slider(page, "pixel-threshold").input_value())
        page.wait_for_function(
            "level => document.querySelector('#regions h2').innerText.includes(level)", arg=f" {level:.4g} "
        )
        reached = np.asarray(expected["anomaly_map"]) >= level
        assert sum(row[4] for row in table(page)) == pytest.approx(reached.sum(), abs=2)
        areas.append(table(page)[0][4])
    assert areas[1] > areas[0] > areas[2]

    slider(page, "threshold").focus()
    page.keyboard.press("End")
    page.wait_for_selector(".verdict.normal")
    assert page.inner_text(".verdict strong") == f"{expected['score']:.3f}"


@needs_browser
def test_a_normal_image_is_not_red(open_page):
    page = open_page()
    upload(page, IMAGES / "corrugated.png")
    _, drawn = shown(page)
    plain = np.asarray(Image.open(IMAGES / "corrugated.png").convert("RGB")).astype(int)
    assert page.inner_text(".verdict span") == "normal"
    assert np.abs(drawn - plain).mean() < 6  # WebP alone
    assert table(page) == []


@needs_browser
def test_by_keyboard_alone(open_page):
    page = open_page()
    focused = "(() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText })()"
    page.on("filechooser", lambda chooser: None)  # from now on the browser reports choosers instead of opening them
    page.keyboard.press("Tab")
    assert "upload" in page.evaluate(focused)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(IMAGES / "capsule.png")
    page.wait_for_selector(".verdict")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused) or "")
    for name in ("Upload file", "gear scratched", "slider for Opacity", "slider for Pixel threshold",
                 "slider for Image threshold", "Map (TIFF, float32)", "Result (JSON)"):  # fmt: skip
        assert any(name in label for label in reached), name
    page.locator("#json-file").focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "capsule_result.json"


@needs_browser
def test_samples(open_page, expected):
    page = open_page()
    names = page.locator("#examples button").all_inner_texts()
    assert names == sorted(path.stem.replace("_", " ") for path in IMAGES.glob("*.png"))
    page.get_by_role("button", name="corrugated stained").click()
    page.wait_for_selector(".verdict")
    assert page.inner_text(".verdict strong") == f"{expected['score']:.3f}"
    assert "demonstration model" in page.inner_text("#model-note")


@needs_browser
def test_a_telephone_needs_no_scrolling_sideways(open_page):
    page = open_page(390, 844)
    upload(page, STAINED)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("image", "verdict", "overlay", "opacity", "pixel-threshold", "threshold", "regions", "map-file"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 390, name
        assert box["width"] > 250, name


# --------------------------------------------------------------------------------------------- what it refuses


@needs_browser
def test_files_that_cannot_be_scored(open_page, tmp_path):
    page = open_page()
    upload(page, STAINED)
    shown(page)
    (tmp_path / "words.png").write_bytes(b"no image")
    Image.new("1", (7200, 7200)).save(tmp_path / "bomb.png")  # 52 megapixels in a few kilobytes
    for name, words in (("words.png", "words.png"), ("bomb.png", "7200x7200")):
        page.set_input_files("#image input[type=file]", tmp_path / name)
        page.wait_for_function("words => document.querySelector('#verdict').innerText.includes(words)", arg=words)
        assert page.get_attribute("#verdict p", "role") == "alert"
        assert page.locator("#overlay img").count() == 0  # nothing of the image before is left
        assert page.inner_text("#regions").strip() == ""
        assert page.is_disabled("#map-file")
        assert page.is_disabled("#json-file")


@needs_browser
def test_a_file_that_is_too_large_is_not_taken(open_page, tmp_path):
    page = open_page()
    (tmp_path / "large.png").write_bytes(bytes(20_000_001))
    page.set_input_files("#image input[type=file]", tmp_path / "large.png")
    page.get_by_text("exceed the maximum allowed size").first.wait_for()
    assert page.locator(".verdict").count() == 0


def request(url, body=None, headers=None) -> tuple[int, bytes]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if data else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, kind | (headers or {})), timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        "file=app.py",
        "file=https://example.com/x.png",
        "file=http://127.0.0.1:9/x.png",
        "file/https://example.com/x.png",
        "file=file:///etc/passwd",
        "proxy=https://example.hf.space/x.png",
    ],
)
def test_the_server_hands_out_no_files_and_no_other_sites(demo, path):
    status, body = request(f"{demo}/gradio_api/{path}")
    assert status == 403
    assert b"root:" not in body


def call(demo, data, function="_score") -> dict:
    """Send an event as the page does, and wait for its answer."""
    config = json.loads(request(f"{demo}/config")[1])
    images = [part["id"] for part in config["components"] if part["props"].get("elem_id") == "image"]
    sliders = [part["id"] for part in config["components"] if part["type"] == "slider"]
    wanted = images if function == "_score" else sliders
    (event,) = [
        event["id"] for event in config["dependencies"] if event["inputs"] and event["targets"][0][0] in wanted
    ]
    session = f"session{time.monotonic_ns()}"
    message = {"data": data, "fn_index": event, "session_hash": session, "trigger_id": wanted[0]}
    status, body = request(f"{demo}/gradio_api/queue/join", message)
    assert status == 200, body
    with urllib.request.urlopen(f"{demo}/gradio_api/queue/data?session_hash={session}", timeout=20) as answers:
        for line in answers:
            if line.startswith(b"data:") and b"process_completed" in line:
                return json.loads(line[5:])
    raise AssertionError("no answer")


META = {"_type": "gradio.FileData"}


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:{port}/x.png", "https://example.com/x.png", "HTTPS://example.com/x"]
)
@pytest.mark.parametrize("place", ["image", "slider"])
def test_urls_in_events_are_not_fetched(demo, path, place):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        file = {"path": path.format(port=listener.getsockname()[1]), "meta": META}
        answer = call(
            demo, [file, 0.5, 0.5, 0.7] if place == "image" else [None, file, 0.5, 0.7], {"image": "_score"}.get(place)
        )
        assert answer["success"] is False
        assert "Upload" in answer["output"]["error"]
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py", "anomalyclip_hf/assets/example_images/gear.png", "a\0b", 7])
@pytest.mark.parametrize("marked", [True, False])
def test_files_of_the_server_are_not_read(demo, path, marked):
    answer = call(demo, [{"path": path} | ({"meta": META} if marked else {}), 0.5, 0.5, 0.7])
    assert answer["success"] is False
    assert "Upload" in answer["output"]["error"]


def test_data_in_the_place_of_an_upload_is_not_decoded(demo):
    for file in ({"path": "", "url": "data:image/png;base64,AAAA", "meta": META}, {"url": "data:,"}, "x", 3, None):
        text = json.dumps(call(demo, [file, 0.5, 0.5, 0.7])["output"])
        assert "Upload, drop or paste" in text or "error" in text
        assert "strong" not in text  # no score


def test_large_uploads_are_refused(demo):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(20_000_001)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, _ = request(f"{demo}/gradio_api/upload", body + b"\r\n--x--\r\n", kind)
    assert status == 413


# --------------------------------------------------------------------------------------------- how it is built


def test_without_gradio_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "anomalyclip_hf.serving.demo_page", raising=False)
    with pytest.raises(ImportError, match=r"anomalyclip-hf\[demo\]"):
        build_demo()


def test_building_leaves_the_source_as_it_is():
    """Gradio writes stubs beside classes that derive from its components."""
    build_demo()
    assert list((Path(__file__).parents[2] / "anomalyclip_hf").rglob("*.pyi")) == []
