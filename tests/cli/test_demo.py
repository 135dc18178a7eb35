# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from hub.children import free_port, serving


ROOT = Path(__file__).parents[2]
COMMAND = ["-m", "anomalyclip_hf.cli", "demo"]


def environment(scratch: Path, port: int = 0) -> dict[str, str]:
    """Also for `serving`, which looks for the port there; the verb itself is told by its option."""
    own = {"PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(scratch / "visitors"), "GRADIO_SERVER_PORT": str(port)}
    return os.environ | own


def test_serves_the_page_on_the_port_named_and_to_this_machine_only(model_folder, tmp_path):
    port = free_port()
    command = [*COMMAND, "--model", str(model_folder), "--port", str(port)]
    options = {"env": environment(tmp_path, port), "cwd": tmp_path}
    with (
        serving(command, tmp_path / "log.txt", **options) as address,
        urllib.request.urlopen(f"{address}/config") as page,
    ):
        config = page.read().decode()
    log = (tmp_path / "log.txt").read_text()
    assert '"title":"AnomalyCLIP"' in config
    assert "Pixel threshold" in config
    assert '"elem_id":"model-note"' not in config  # it is not the demonstration model
    assert '"type":"textbox"' not in config  # no addresses
    assert f"http://127.0.0.1:{port}" in log
    assert "public URL" not in log
    assert "Traceback" not in log


def run(*arguments: str, scratch: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, *COMMAND, *arguments]
    return subprocess.run(
        command, env=environment(scratch), cwd=scratch, capture_output=True, text=True, check=False, timeout=120
    )


def test_mistakes_end_in_one_line_and_code_2(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port), scratch=tmp_path)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("anomalyclip:")]
    assert str(port) in line
    assert "demonstration model" in done.stderr
    assert "Traceback" not in done.stderr

    done = run("--model", str(tmp_path / "nowhere"), scratch=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_help_imports_neither_gradio_nor_torch(tmp_path):
    program = "import sys; sys.argv = ['anomalyclip', 'demo', '--help']; from anomalyclip_hf.cli import main\n"
    program += "try: main()\nexcept SystemExit: pass\n"
    program += "print('heavy:', sorted({'torch', 'transformers', 'gradio', 'PIL'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert "--allow-urls" in done.stdout
    assert "heavy: []" in done.stdout
