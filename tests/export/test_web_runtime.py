# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import gzip
import os
import tarfile
from pathlib import Path

import pytest

from anomalyclip_hf import export_web
from anomalyclip_hf.export.web_runtime import BUILDS, RUNTIME_VERSION, copy_runtime
from conftest import tiny_model


def use_npm(monkeypatch, folder: Path, script: str) -> None:
    """Put a program called npm on the path, and no other."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


@pytest.mark.parametrize("packed", [False, True])
def test_copies_what_the_page_names(runtime_package, tmp_path, packed):
    source = runtime_package
    if packed:
        source = tmp_path / "onnxruntime-web.tgz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(runtime_package, "package")
    (tmp_path / "site").mkdir()
    described = copy_runtime(tmp_path / "site" / "runtime", source)
    assert described["version"] == "1.2.3"
    named = {path for kind in BUILDS for path in (described[kind]["api"], described[kind]["loader"])}
    for kind, (api, loader, binary) in BUILDS.items():
        assert (tmp_path / "site" / described[kind]["api"]).read_text() == f"content of {api}"
        assert (tmp_path / "site" / described[kind]["loader"]).read_text() == f"content of {loader}"
        content = (tmp_path / "site" / described[kind]["binary"]["name"]).read_bytes()
        assert len(content) == described[kind]["binary"]["bytes"]
        assert gzip.decompress(content).decode() == f"content of {binary}"
        named.add(described[kind]["binary"]["name"])
    files = {f"runtime/{path.name}" for path in (tmp_path / "site" / "runtime").iterdir()}
    assert files == named | {"runtime/LICENSE.txt"}


def test_a_folder_that_is_not_the_package_is_refused(runtime_package, tmp_path):
    (runtime_package / "dist" / BUILDS["wasm"][2]).unlink()
    with pytest.raises(FileNotFoundError, match=BUILDS["wasm"][2]):
        copy_runtime(tmp_path / "runtime", runtime_package)


def test_a_file_that_is_not_the_package_is_refused(tmp_path):
    (tmp_path / "other.tgz").write_text("no archive")
    with pytest.raises(FileNotFoundError, match=r"other\.tgz"):
        copy_runtime(tmp_path / "runtime", tmp_path / "other.tgz")


def test_without_npm_one_line_says_what_to_do_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="runtime-dir"):
        export_web(tiny_model(), tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_reason_of_npm_is_given(tmp_path, monkeypatch):
    use_npm(monkeypatch, tmp_path / "bin", "echo 'npm error network unreachable' >&2; exit 1")
    with pytest.raises(OSError, match="network unreachable"):
        copy_runtime(tmp_path / "runtime")


def test_a_package_other_than_the_tested_one_is_refused(tmp_path, monkeypatch):
    use_npm(monkeypatch, tmp_path / "bin", f'echo other > "$5/onnxruntime-web-{RUNTIME_VERSION}.tgz"')
    with pytest.raises(ValueError, match="SHA-512"):
        copy_runtime(tmp_path / "runtime")


def test_a_processor_that_resizes_otherwise_is_refused(processor, tmp_path):
    processor.image_processor.resample = 2
    with pytest.raises(ValueError, match="resample=2"):
        export_web(tiny_model(), tmp_path / "site", processor=processor)
