# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Fetch ONNX Runtime for the browser from npm, and copy it into the folder of a page."""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


RUNTIME_VERSION = "1.30.0"
RUNTIME_DIGEST = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512
NPM_TIMEOUT = 300  # seconds; the package has 33 MB
# Per kind of device: the library that the page calls, what loads the WebAssembly, and the WebAssembly itself.
BUILDS = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
HOW_TO_GET_IT = (
    f"run `npm pack onnxruntime-web@{RUNTIME_VERSION}` on a machine with npm and a network, and give the .tgz with "
    "--runtime-dir (runtime_dir=...)."
)
LICENSE = """\
The files in this folder are onnxruntime-web {version} (https://www.npmjs.com/package/onnxruntime-web), unchanged but
for their endings and compression. What they contain of others is listed in ThirdPartyNotices.txt of
https://github.com/microsoft/onnxruntime.

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def copy_runtime(folder: Path, runtime_dir: str | os.PathLike | None = None) -> dict[str, Any]:
    """Copy ONNX Runtime for the browser into a folder.

    The WebAssembly is compressed from 41 MB to 10 MB, since many static servers do not compress files. Modules end in
    `.js`, because some servers do not know `.mjs`.

    Args:
        folder (`Path`): New folder.
        runtime_dir (`str` or `os.PathLike`, *optional*):
            The unpacked npm package onnxruntime-web, or its `.tgz`. Fetched with npm by default.

    Returns:
        `dict`: `version`, and per kind of device (`"wasm"`, `"webgpu"`) the paths `api` and `loader` relative to
        the parent of `folder`, and `binary` with its `name` and size in `bytes`.

    Raises:
        FileNotFoundError: If `runtime_dir` is not the package, or npm is not installed.
        OSError: If npm cannot fetch the package.
        ValueError: If the fetched package has another SHA-512 than the tested one.
    """
    folder.mkdir()
    with _open_package(runtime_dir) as package:
        version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
        described: dict[str, Any] = {"version": version}
        for kind, names in BUILDS.items():
            api, loader, binary = (package / "dist" / name for name in names)
            compressed = gzip.compress(binary.read_bytes(), 6, mtime=0)
            (folder / f"{binary.name}.gz").write_bytes(compressed)
            for module in (api, loader):
                shutil.copyfile(module, folder / f"{module.stem}.js")
            described[kind] = {
                "api": f"{folder.name}/{api.stem}.js",
                "loader": f"{folder.name}/{loader.stem}.js",
                "binary": {"name": f"{folder.name}/{binary.name}.gz", "bytes": len(compressed)},
            }
    (folder / "LICENSE.txt").write_text(LICENSE.format(version=version), encoding="utf-8")
    return described


@contextlib.contextmanager
def _open_package(runtime_dir: str | os.PathLike | None) -> Iterator[Path]:
    """Yield the folder of the unpacked package, after checking that all files are there."""
    with tempfile.TemporaryDirectory() as scratch:
        source = _fetch_package(Path(scratch)) if runtime_dir is None else Path(runtime_dir)
        package = source
        if source.is_file():
            try:
                with tarfile.open(source) as archive:
                    archive.extractall(scratch, filter="data")
            except tarfile.TarError as error:
                raise FileNotFoundError(f"{source} is not an npm package ({error}); {HOW_TO_GET_IT}") from error
            package = Path(scratch, "package")
        needed = ["package.json", *(f"dist/{name}" for names in BUILDS.values() for name in names)]
        missing = [name for name in needed if not (package / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{source} is not the package onnxruntime-web: it has no {missing[0]}; {HOW_TO_GET_IT}"
            )
        yield package


def _fetch_package(scratch: Path) -> Path:
    """Fetch the package with npm, and check its SHA-512."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(f"the page needs onnxruntime-web from npm, and npm is not installed; {HOW_TO_GET_IT}")
    command = [npm, "pack", f"onnxruntime-web@{RUNTIME_VERSION}", "--silent", "--pack-destination", str(scratch)]
    try:
        subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True, timeout=NPM_TIMEOUT)
    except subprocess.SubprocessError as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise OSError(
            f"npm could not fetch onnxruntime-web ({lines[-1] if lines else error}); {HOW_TO_GET_IT}"
        ) from error
    path = scratch / f"onnxruntime-web-{RUNTIME_VERSION}.tgz"
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != RUNTIME_DIGEST:
        raise ValueError(
            f"npm gave a {path.name} with the SHA-512 {digest}; expected {RUNTIME_DIGEST}. Do not use it."
        )
    return path
