#!/usr/bin/env bash
# OpenVINO 2026.4.1 and the reference evaluator of ONNX 1.23.2 compute Softmax of opset 11 and 12 as if it were that of
# opset 13: over one axis. Up to opset 12, ONNX defines it over that axis and all that follow, flattened. ONNX Runtime
# does so. Where the axis is the last one, as in attention, all agree. Fixed in OpenVINO's sources in September 2026:
# https://github.com/openvinotoolkit/openvino/pull/37979.
#
# Seen: with axis=1, the default, the values of a (2, 3, 4) tensor sum to 8 instead of 2. Converting the opset first
# (onnx.version_converter) helps, since that writes the flattening into the graph. This package exports with opset 20
# and compares each export with the model before it is kept (export/checking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/softmax.onnx" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, version_converter
from onnx.reference import ReferenceEvaluator

shape = [2, 3, 4]
graph = helper.make_graph(
    [helper.make_node("Softmax", ["x"], ["y"])], "softmax",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
onnx.checker.check_model(model)
x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
expected = np.exp(x) / np.exp(x).sum(axis=(1, 2), keepdims=True)


def with_openvino(model):
    onnx.save(model, sys.argv[1])
    return openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]


session = onnxruntime.InferenceSession(model.SerializeToString())
outputs = {
    f"ONNX Runtime {onnxruntime.__version__}": session.run(None, {"x": x})[0],
    f"OpenVINO {openvino.__version__}": with_openvino(model),
    f"ONNX {onnx.__version__}, reference evaluator": ReferenceEvaluator(model).run(None, {"x": x})[0],
    "OpenVINO, model converted to opset 13": with_openvino(version_converter.convert_version(model, 13)),
}
print("expected: values that sum to 2, one for each of the 2 rows of the flattened tensor")
for name, values in outputs.items():
    print(f"{name}: sum {values.sum():.3g}, largest difference {np.abs(values - expected).max():.2g}")
wrong = [bool(np.abs(values - expected).max() > 0.1) for values in outputs.values()]
if wrong != [False, True, True, False]:
    sys.exit("the behaviour has changed")
PY
