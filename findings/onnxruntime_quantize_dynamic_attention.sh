#!/usr/bin/env bash
# quantize_dynamic of ONNX Runtime 1.32.0 takes the Attention of ONNX (opset 23) for its own operator of that name: it
# writes a QAttention that ONNX Runtime refuses to load, although the float model runs.
#
# This package exports with opset 20, where attention is MatMul and Softmax, and names the nodes that are to be quantised
# (export/tracing.py, export/quantization.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 sympy
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

folder = Path(sys.argv[1])
weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
graph = helper.make_graph(
    [
        helper.make_node("MatMul", ["x", "weights"], ["query"]),
        helper.make_node("Attention", ["query", "query", "query"], ["y"], "attention", q_num_heads=2, kv_num_heads=2),
    ],
    "attention",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8])],
    [numpy_helper.from_array(weights, "weights")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
onnx.checker.check_model(model)
onnx.save(model, folder / "float.onnx")
x = np.ones((1, 4, 8), np.float32)
print("onnxruntime", onnxruntime.__version__)
print("float model runs:", onnxruntime.InferenceSession(folder / "float.onnx").run(None, {"x": x})[0].shape)
print("expected: the quantised model runs too")
try:
    quantize_dynamic(folder / "float.onnx", folder / "int8.onnx")
    onnxruntime.InferenceSession(folder / "int8.onnx").run(None, {"x": x})
except Exception as error:
    print("seen:", " ".join(str(error).split())[:200])
else:
    sys.exit("the behaviour has changed")
PY
