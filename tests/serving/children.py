# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Run programs in processes that cannot see this checkout."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def bare_environment(scratch: Path, **more: str) -> dict[str, str]:
    """Return the environment for `python -S`: installed packages, without the checkouts linked by .pth files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADIO"))}
    return environment | {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(scratch / "visitors"),
        **more,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(command: list[str], log: Path, **options):
    """Run a web server on the port in its environment, and yield its address."""
    with log.open("wb") as output:
        child = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, **options)
    address = f"http://127.0.0.1:{options['env']['GRADIO_SERVER_PORT']}"
    try:
        for _ in range(600):
            assert child.poll() is None, log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        yield address
    finally:
        child.terminate()
        child.wait(30)
