#!/usr/bin/env bash
# ONNX Runtime 1.32.0 cuts off the fractions where a Resize interpolates uint8 pixels. OpenVINO 2026.4.1 and the reference
# evaluator of ONNX 1.23.2 round. ONNX does not say which (https://github.com/onnx/onnx/issues/3390); reported for ONNX
# Runtime as https://github.com/microsoft/onnxruntime/issues/7368.
#
# Seen: images that the graph itself resizes come out darker by half a grey level on average, so the same file gives other
# scores in each runtime. This package makes pixels float32 before it resizes them in a graph (export/graph.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/resize.onnx" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def build(kind):
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear")], "resize",
        [helper.make_tensor_value_info("x", kind, [1, 1, 32, 32])],
        [helper.make_tensor_value_info("y", kind, [1, 1, 50, 50])],
        [numpy_helper.from_array(np.array([1, 1, 50, 50]), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def with_onnxruntime(model, pixels):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": pixels})[0]


pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32)).astype(np.uint8)
exact = with_onnxruntime(build(TensorProto.FLOAT), pixels.astype(np.float32))
model = build(TensorProto.UINT8)
onnx.save(model, sys.argv[1])
outputs = {
    f"ONNX Runtime {onnxruntime.__version__}": with_onnxruntime(model, pixels),
    f"OpenVINO {openvino.__version__}": openvino.Core().compile_model(sys.argv[1], "CPU")(pixels)[0],
    f"ONNX {onnx.__version__}, reference evaluator": ReferenceEvaluator(model).run(None, {"x": pixels})[0],
}
print("expected: the float32 result, rounded: largest difference 0.5, mean difference 0")
differences = [output.astype(np.float64) - exact for output in outputs.values()]
for name, difference in zip(outputs, differences):
    print(f"{name}: largest difference {np.abs(difference).max():.2f}, mean {difference.mean():+.3f}")
means = [float(difference.mean()) for difference in differences]
if means[0] > -0.4 or max(np.abs(means[1:])) > 0.1:
    sys.exit("the behaviour has changed")
PY
