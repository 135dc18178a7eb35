# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Take the screenshots `docs/images/demo.png` and `demo_phone.png` of the demo with a sample image.

python tools/make_demo_screenshot.py
"""

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from anomalyclip_hf.serving.demo import build_demo


ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "examples" / "images" / "corrugated_stained.png"
VIEWS = {"demo": (1240, 1000), "demo_phone": (390, 844)}
COLOURS = 256  # of the PNG's palette, which keeps it small


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    demo = build_demo()
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height) in VIEWS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            score_sample(page, address)
            path = ROOT / "docs" / "images" / f"{name}.png"
            page.screenshot(path=path, full_page=True)
            shrink(path)
            print(path, path.stat().st_size)
        browser.close()
    demo.close()


def score_sample(page: Page, address: str) -> None:
    page.goto(address)
    page.set_input_files("#image input[type=file]", SAMPLE)
    page.wait_for_function("document.querySelector('#overlay img')?.complete && document.querySelector('.verdict')")
    page.evaluate("document.fonts.ready")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until nothing fades any more


def shrink(path: Path) -> None:
    image = Image.open(path).convert("RGB")
    image.quantize(palette=image.quantize(COLOURS), dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    main()
