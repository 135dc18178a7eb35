# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Exports of the tiny model for tests of what runs them; test modules name this file in `pytest_plugins`."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from anomalyclip_hf import AnomalyCLIPProcessor, export_onnx, export_openvino
from conftest import tiny_model


KINDS = {
    "onnxruntime": (export_onnx, {}),
    "openvino": (export_openvino, {}),
    "onnxruntime int8": (export_onnx, {"precision": "int8"}),
}


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Return the folder of an export by its kind; it is made once for all processes, and tests must not change it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the folder that all processes share

    def exported(kind: str) -> Path:
        export, options = KINDS[kind]
        folder = root / f"exported {kind}"
        with FileLock(root / f"{kind}.lock"):
            if not folder.exists():
                model = tiny_model()
                processor = AnomalyCLIPProcessor.from_config(model.config, smoothing_sigma=1.0, threshold=0.18)
                export(model, folder, processor=processor, feature_layers=[2, 3, 4], **options)
        return folder

    return exported
