# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The page that scores images in the browser, driven in Chromium, against the pipeline."""

import contextlib
import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving.children import CHROMIUM, CHROMIUM_ARGUMENTS
from transformers import pipeline

from anomalyclip_hf import DEFAULT_MODEL, AnomalyCLIPModel, AnomalyCLIPProcessor, calibrate, export_web
from anomalyclip_hf.export.web import PAGE
from anomalyclip_hf.export.web_runtime import RUNTIME_VERSION
from anomalyclip_hf.image_processing_anomalyclip import load_image
from anomalyclip_hf.postprocessing_anomalyclip import IMAGE_SCORES, combine_scores, draw_overlay, judge
from anomalyclip_hf.scoring.runtimes import OnnxRuntimeBackend
from conftest import tiny_model


IMAGES = Path(__file__).parents[2] / "examples" / "images"
STAINED = IMAGES / "corrugated_stained.png"
GPU_ARGUMENTS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
CAMERA_ARGUMENTS = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; install it to drive the page in a browser")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """Fetch onnxruntime-web once."""
    if shutil.which("npm") is None:
        pytest.skip("no npm; install it to fetch onnxruntime-web")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", f"onnxruntime-web@{RUNTIME_VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=120)
    except subprocess.SubprocessError as error:
        pytest.skip(f"npm cannot fetch onnxruntime-web: {error}")
    return folder / f"onnxruntime-web-{RUNTIME_VERSION}.tgz"


@pytest.fixture(scope="module")
def site(package, tmp_path_factory) -> Path:
    model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    folder = tmp_path_factory.mktemp("web") / "site"
    export_web(model, folder, processor=AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL), runtime_dir=package)
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def serve():
    """Yield a function that serves a folder and returns its address."""
    servers = []

    def serve(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def playwright():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright):
    arguments = [*CHROMIUM_ARGUMENTS, *CAMERA_ARGUMENTS]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
    yield browser
    browser.close()


@contextlib.contextmanager
def opening(browser):
    """Yield a function that opens a page; no script may fail, and no request go to another origin."""
    contexts, errors, strangers = [], [], []

    def open_page(address: str, width: int = 1280, height: int = 1000, script: str = ""):
        def is_local(url: str) -> bool:
            return url.startswith((address.split("?")[0], "blob:", "data:"))

        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        contexts.append(context)
        context.add_init_script(script)
        context.on("request", lambda request: None if is_local(request.url) else strangers.append(request.url))
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert strangers == []


@pytest.fixture
def open_page(browser):
    with opening(browser) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def page(browser, serve, site):
    """The page with its model, opened once."""
    with opening(browser) as open_page:
        yield open_page(serve(site))


@pytest.fixture(scope="module")
def pipe():
    return pipeline("anomaly-detection", model=DEFAULT_MODEL, device="cpu")


def score(page, path: Path) -> dict:
    """Score the image in a file; return what the page saves as JSON."""
    page.wait_for_selector("#choose:enabled")
    page.set_input_files("#file", path)
    return result(page, path.name)


def result(page, name: str) -> dict:
    """Wait for the result of an image; return what the page saves as JSON."""
    page.wait_for_function(
        "name => document.querySelector('#status').textContent.startsWith(`${name}: scored`)", arg=name
    )
    return json.loads(saved(page, "#save-json"))


def saved(page, button: str) -> bytes:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def problem(page) -> str:
    page.wait_for_selector("#problem:not([hidden])")
    return page.inner_text("#problem")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Pictures that browsers and Pillow could read differently."""
    folder = tmp_path_factory.mktemp("pictures")
    photo = Image.open(IMAGES / "gear_scratched.png").convert("RGB")
    wide = photo.resize((1900, 1100))
    wide.save(folder / "wide.jpg", quality=92)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photo.resize((200, 150)).save(folder / "turned.jpg", quality=95, exif=exif)
    photo.convert("L").save(folder / "grey.png")
    transparent = photo.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(photo.size))
    transparent.save(folder / "transparent.png")
    photo.crop((0, 0, 61, 5)).save(folder / "strip.png")
    return [STAINED, *sorted(folder.iterdir())]


def test_scores_maps_regions_and_sizes_are_those_of_the_pipeline(page, pipe, pictures):
    for path in pictures:
        found, expected = score(page, path), pipe(str(path), pixel_threshold=0.5)
        assert found["image"] == path.name
        assert found["score"] == pytest.approx(expected["score"], abs=2e-3), path.name
        assert found["label"] == expected["label"]
        assert (found["width"], found["height"]) == expected["anomaly_map"].size
        assert found["map_peak"] == pytest.approx(np.max(expected["anomaly_map"]), abs=2e-3)
        assert len(found["regions"]) == len(expected["regions"])
        for region, other in zip(found["regions"], expected["regions"], strict=True):
            assert region["peak"] == pytest.approx(other["peak"], abs=2e-3)
            assert region["area"] == pytest.approx(other["area"], rel=0.1, abs=4)
            assert region["box"] == pytest.approx(other["box"], abs=0.02 * max(found["width"], found["height"]))


def test_the_saved_picture_is_the_overlay(page, pipe):
    score(page, STAINED)
    page.locator("#opacity").fill("0.9")
    page.locator("#pixel-threshold").fill("0.4")
    found = np.asarray(Image.open(io.BytesIO(saved(page, "#save-png"))).convert("RGB"), dtype=int)
    outputs = pipe(str(STAINED), pixel_threshold=0.4)
    expected = draw_overlay(
        load_image(STAINED), outputs["anomaly_map"], mask=np.asarray(outputs["mask"]) > 0, opacity=0.9
    )
    difference = np.abs(found - np.asarray(expected, dtype=int)).max(-1)
    assert np.mean(difference <= 3) > 0.999  # an outline may lie a pixel beside
    assert (difference <= 3).sum() > 0


def test_images_are_resized_as_pillow_does(serve, open_page):
    page = open_page(serve(PAGE))  # the scripts alone
    rng = np.random.default_rng(0)
    for height, width in [(40, 64), (150, 170), (300, 30), (3, 1)]:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = page.evaluate(
            """async ([values, height, width]) => {
                const { resizeImage } = await import("./resize.js");
                const rgba = new Uint8ClampedArray(height * width * 4).fill(255);
                values.forEach((value, index) => (rgba[Math.trunc(index / 3) * 4 + (index % 3)] = value));
                return [...resizeImage(await createImageBitmap(new ImageData(rgba, width)), 48, 64)];
            }""",
            [pixels.ravel().tolist(), height, width],
        )
        expected = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(np.reshape(found, expected.shape), expected)


def test_combined_scores_and_decisions_are_those_of_the_package(serve, open_page):
    page = open_page(serve(PAGE))  # the scripts alone
    values = np.random.default_rng(1).random((1, 30, 21), dtype=np.float32)
    calibration = calibrate(np.linspace(0.1, 0.6, 60, dtype=np.float32), alpha=0.1, review_alpha=0.3).to_dict()
    for kind in IMAGE_SCORES:
        (expected,) = combine_scores(np.float32([0.3]), 2 * values, 2.0, kind)
        found, judged = page.evaluate(
            """async ([values, kind, calibration]) => {
                const { combineScores, judge } = await import("./scores.js");
                const score = combineScores(0.3, Float32Array.from(values), 2, kind);
                return [score, [0.05, 0.4, 0.5, 0.59, 0.7].map((score) => judge(score, calibration))];
            }""",
            [(2 * values).ravel().tolist(), kind, calibration],
        )
        assert found == pytest.approx(expected, abs=1e-6)
    for score, answer in zip([0.05, 0.4, 0.5, 0.59, 0.7], judged, strict=True):
        assert (answer["p_value"], answer["decision"]) == judge(score, calibration)
    assert {answer["decision"] for answer in judged} == {"accept", "look", "reject"}


def test_works_with_the_keyboard_alone_on_a_narrow_screen(site, serve, open_page):
    page = open_page(serve(site), width=390, height=844)
    page.on("filechooser", lambda chooser: chooser.set_files(STAINED))  # now, since Chromium takes a moment
    page.wait_for_selector("#choose:enabled")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    page.keyboard.press("Enter")
    first = result(page, STAINED.name)
    order = []
    while "threshold" not in order and len(order) < 30:
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id"))
    assert [name for name in order if name] == ["choose", "photograph", "opacity", "pixel-threshold", "threshold"]
    page.keyboard.press("End")
    page.wait_for_selector("#verdict.normal")
    for name in ("save-png", "save-json"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    second = json.loads(Path(download.value.path()).read_bytes())
    assert (first["label"], second["label"]) == ("anomalous", "normal")
    assert second["threshold"] == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 44


GIVE = """async ([kind, bytes, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
    const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer })
                                   : new DragEvent("drop", { dataTransfer: transfer, cancelable: true });
    document.dispatchEvent(event);
}"""


def test_takes_dropped_and_pasted_images_samples_and_photos(page):
    for kind in ("drop", "paste"):
        page.evaluate(GIVE, [kind, list(STAINED.read_bytes()), f"{kind}.png"])
        assert result(page, f"{kind}.png")["label"] == "anomalous"
    page.click("#samples button[title='capsule contaminated']")
    assert result(page, "capsule_contaminated.png")["height"] > 0
    page.click("#photograph")
    page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
    page.click("#shoot")
    assert result(page, "photo.png")["width"] > 0
    assert page.locator("dialog[open]").count() == 0


def test_works_offline_and_with_threads_from_the_second_visit_on(site, serve, open_page):
    page = open_page(serve(site))
    first = score(page, STAINED)
    page.wait_for_function("() => document.querySelector('#offline').textContent")
    page.context.set_offline(True)
    page.reload()
    second = score(page, STAINED)
    assert second["score"] == pytest.approx(first["score"], abs=1e-4)
    assert page.evaluate("crossOriginIsolated")  # without it there are no threads


@pytest.mark.slow
def test_webgpu_gives_the_same_scores(package, serve, playwright, tmp_path):
    """The GPU is imitated, which takes minutes for the demonstration model."""
    export_web(tiny_model(), tmp_path / "site", runtime_dir=package)
    address = serve(tmp_path / "site")
    arguments = [*(argument for argument in CHROMIUM_ARGUMENTS if argument != "--disable-gpu"), *GPU_ARGUMENTS]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
    with contextlib.closing(browser), opening(browser) as open_page:
        page = open_page(f"{address}?runtime=webgpu")
        if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
            pytest.skip("this Chromium cannot imitate a GPU")
        on_gpu = score(page, STAINED)
        automatic = score(open_page(address), STAINED)
    assert on_gpu["runtime"] == "WebGPU"
    assert "WebAssembly" in automatic["runtime"]  # which is faster than a GPU that is imitated
    assert on_gpu["score"] == pytest.approx(automatic["score"], abs=1e-4)
    assert on_gpu["map_peak"] == pytest.approx(automatic["map_peak"], abs=1e-4)


def test_without_a_working_webgpu_it_computes_in_webassembly(site, serve, open_page):
    page = open_page(serve(site) + "?runtime=webgpu", script="delete Navigator.prototype.gpu")
    assert "WebAssembly" in score(page, STAINED)["runtime"]


def test_a_browser_without_simd_gets_one_line(site, serve, open_page):
    page = open_page(serve(site), script="WebAssembly.validate = () => false")
    assert "SIMD" in problem(page)
    assert page.inner_text("#status") == ""


def test_an_image_that_cannot_be_read_is_named_and_the_next_one_scored(page, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    page.wait_for_selector("#choose:enabled")
    page.set_input_files("#file", tmp_path / "notes.png")
    assert "notes.png" in problem(page)
    score(page, STAINED)
    assert page.locator("#problem").is_hidden()


@pytest.mark.parametrize("name", ["model.onnx", "anomalyclip.json", "runtime/ort-wasm-simd-threaded.wasm.gz"])
def test_missing_files_are_named(site, serve, open_page, tmp_path, name):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    (copy / name).unlink()
    assert name in problem(open_page(serve(copy)))


def test_a_truncated_model_is_named(site, serve, open_page, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    content = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(content[:-100])
    line = problem(open_page(serve(copy)))
    assert "model.onnx" in line
    assert str(len(content)) in line


def test_opened_as_a_file_it_says_how_to_serve_it(site, browser):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    assert "http.server" in problem(page)
    page.close()


def test_the_folder_is_small_and_complete(site):
    files = {path.relative_to(site).as_posix(): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(files.values()) <= 40e6
    assert {path.name for path in PAGE.iterdir()} <= set(files)
    assert "MIT License" in (site / "runtime" / "LICENSE.txt").read_text()
    kept = json.loads(re.search(r"^const FILES = (.*);$", (site / "service_worker.js").read_text(), re.M)[1])
    left_out = {"./", "service_worker.js", "processor_config.json"}
    assert set(kept) - {"./"} == set(files) - left_out
    others = re.findall(
        r"https?://(?!localhost|www\.w3\.org/2000/svg)[^\s\"'`]+", "".join(map(Path.read_text, PAGE.iterdir()))
    )
    assert others == []


def test_the_folder_runs_as_an_exported_model(site):
    backend = OnnxRuntimeBackend(site)
    processor = AnomalyCLIPProcessor.from_pretrained(DEFAULT_MODEL)
    model = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL).eval()
    inputs = processor(images=[load_image(path) for path in sorted(IMAGES.glob("*.png"))[:2]])
    expected = model(**inputs).image_scores.detach().numpy()
    np.testing.assert_allclose(backend.run(inputs["pixel_values"].numpy()).image_scores, expected, atol=1e-5)
