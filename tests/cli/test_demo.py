# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import json
import socket
import subprocess
import sys
import urllib.request

import gradio as gr
import pytest
from serving.children import free_port

from anomalyclip_hf.cli import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run `anomalyclip demo` in this process; gives exit code and standard error."""

    def run_demo(*words):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "visitors"))
        monkeypatch.setattr(sys, "argv", ["anomalyclip", "demo", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return run_demo


def test_serves_the_page_on_the_given_port_and_to_this_machine_only(run, model_folder, monkeypatch):
    port, pages = free_port(), []

    def look_instead_of_waiting(page):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config") as answer:
            pages.append((page, json.load(answer)))
        page.close()

    monkeypatch.setattr(gr.Blocks, "block_thread", look_instead_of_waiting)
    code, error = run("--model", model_folder, "--port", port, "--tile", 64)
    assert code == 0, error
    ((page, config),) = pages
    assert (page.server_name, page.share_url) == ("127.0.0.1", None)
    names = [part["props"].get("elem_id") for part in config["components"]]
    assert "pixel-threshold" in names
    assert page.detector.scorer.tiling.tile == 64
    assert "model-note" not in names  # it is not the demonstration model


def test_mistakes_end_in_one_line_and_code_2(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, error = run("--port", port)
    assert code == 2
    *notes, line = [line for line in error.splitlines() if line.startswith("anomalyclip:")]
    assert str(port) in line
    assert len(notes) == 1
    assert "demonstration model" in notes[0]
    for words, named in ((("--model", tmp_path / "nowhere"), "nowhere"), (("--tile", 3), "tile is 3")):
        code, error = run(*words)
        assert code == 2
        assert named in error.splitlines()[-1]


def test_help_imports_neither_gradio_nor_torch():
    program = "import sys; sys.argv = ['anomalyclip', 'demo', '--help']; from anomalyclip_hf.cli import main\n"
    program += "try: main()\nexcept SystemExit: pass\n"
    program += "print('heavy:', sorted({'torch', 'transformers', 'gradio', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--share" in done.stdout
    assert "heavy: []" in done.stdout
