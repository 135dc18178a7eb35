#!/usr/bin/env bash
# OpenVINO 2026.4.1 reads ONNX models of opsets that it does not know yet, and leaves out what they added, without an
# error or a warning: the windows of Attention (opset 25) and mode="CRD" of SpaceToDepth (opset 28). ONNX Runtime 1.32.0
# computes both.
#
# Seen: attention within a window, as in vision towers for large images, becomes attention over the whole image, and
# PyTorch's order of channels (pixel_unshuffle) another one. A model exported with the newest opset thus gives other
# scores in OpenVINO. This package exports with opset 20 for every runtime and compares the outputs of an export with the
# model's before it is kept (export/onnx.py, export/checking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/model.onnx" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper


def compare(name, node, opset, inputs, expected):
    """Return the largest differences of ONNX Runtime and OpenVINO from what ONNX defines."""
    graph = helper.make_graph(
        [node], "graph",
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, list(value.shape)) for key, value in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(expected.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13)
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[1])
    ort = onnxruntime.InferenceSession(sys.argv[1]).run(None, inputs)[0]
    compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    differences = [float(np.abs(output - expected).max()) for output in (ort, compiled(list(inputs.values()))[0])]
    print(f"{name}, opset {opset}: ONNX Runtime {differences[0]:.2g}, OpenVINO {differences[1]:.2g}")
    return differences


print(f"ONNX {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__}")
print("expected: the outputs that ONNX defines, or an error; largest differences:")

query, key, value = np.random.default_rng(0).normal(size=(3, 1, 1, 6, 4)).astype(np.float32)
products = query[0, 0] @ key[0, 0].T / 2
places = np.arange(6)
weights = np.exp(np.where(np.abs(places[:, None] - places) <= 1, products, -np.inf))
within = weights / weights.sum(axis=1, keepdims=True) @ value[0, 0]
attention = helper.make_node("Attention", ["q", "k", "v"], ["y"], left_window_size=1, right_window_size=1)
window = compare("Attention within a window", attention, 25, {"q": query, "k": key, "v": value}, within[None, None])

pixels = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
unshuffled = pixels.reshape(1, 2, 2, 2, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 8, 2, 2)
to_depth = helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2, mode="CRD")
depth = compare("SpaceToDepth in mode CRD", to_depth, 28, {"x": pixels}, unshuffled)

if max(window[0], depth[0]) > 1e-4 or min(window[1], depth[1]) < 0.1:
    sys.exit("the behaviour has changed")
PY
