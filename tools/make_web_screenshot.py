# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Take the screenshots `docs/images/web.webp` and `web_phone.webp` of an exported page with a sample image.

python tools/make_web_screenshot.py FOLDER
"""

import functools
import http.server
import io
import shutil
import sys
import threading

from make_demo_screenshot import ROOT, SAMPLE
from PIL import Image
from playwright.sync_api import sync_playwright


VIEWS = {"web": (1240, 1000, "light"), "web_phone": (390, 844, "dark")}


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, scheme) in VIEWS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_selector("#choose:enabled")
            page.set_input_files("#file", SAMPLE)
            page.wait_for_selector("#verdict strong", timeout=120_000)
            page.wait_for_timeout(500)
            path = ROOT / "docs" / "images" / f"{name}.webp"
            Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB").save(path, quality=88, method=6)
            print(path, path.stat().st_size)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
