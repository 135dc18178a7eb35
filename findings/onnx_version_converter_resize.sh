#!/usr/bin/env bash
# The version converter of ONNX 1.23.2 turns a Resize of opset 10 (or an Upsample of opset 9) into one of opset 11 that
# computes something else, without an error or a warning: opset 10 measures pixels from their corner, the default of
# opset 11 from their centre, and the converter does not write the attribute that would keep the former. Reported as
# https://github.com/onnx/onnx/issues/8480.
#
# Seen: a heat map that the model enlarges twofold moves by half of a pixel of the small map; at a factor of 14, as
# between patches and pixels, by 6.5 pixels. Hardmax of opset 11 changes too: the converter takes its flattened axes for
# one. This package exports with opset 20 and converts no older models (export/onnx.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter


def run(model, values):
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": values})[0]


def build(node, opset, shape, initialisers=()):
    graph = helper.make_graph(
        [node], "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        list(initialisers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=5)


ramp = np.tile(np.arange(4, dtype=np.float32), (1, 1, 4, 1))
scales = numpy_helper.from_array(np.float32([1, 1, 2, 2]), "scales")
resize = build(helper.make_node("Resize", ["x", "scales"], ["y"], mode="linear"), 10, [1, 1, 4, 4], [scales])
logits = np.float32([[[1, 2], [3, 4]]])
hardmax = build(helper.make_node("Hardmax", ["x"], ["y"], axis=1), 11, [1, 2, 2])

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
print("expected: a converted model computes what the original computes")
changes = []
for name, model, values in (("Resize", resize, ramp), ("Hardmax", hardmax, logits)):
    before, after = run(model, values), run(version_converter.convert_version(model, 13), values)
    changes.append(float(np.abs(before - after).max()))
    print(f"{name}, opset {model.opset_import[0].version}: {before.ravel()[:8].tolist()}")
    print(f"{name}, opset 13: {after.ravel()[:8].tolist()}")
if min(changes) < 0.1:
    sys.exit("the behaviour has changed")
PY
