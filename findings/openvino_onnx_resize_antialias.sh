#!/usr/bin/env bash
# OpenVINO 2026.4.1 reads an ONNX Resize with antialias=1 (opset 18) and computes it without antialiasing, without an error
# or a warning. ONNX Runtime 1.32.0 computes it as ONNX defines it, which is within 0.5 of Pillow's bicubic here.
#
# Seen: noise of 1000x700 px, made 256x256, has values that are off by more than 100 of 255. A model that resizes inside
# its graph then scores other pixels in each runtime. This package writes the resizing as matrix products
# (export/graph.py: resize_matrix), which all runtimes compute alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 pillow==12.3.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/resize.onnx" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from PIL import Image

resize = helper.make_node(
    "Resize", ["image", "", "", "sizes"], ["resized"], mode="cubic", antialias=1, cubic_coeff_a=-0.5,
    exclude_outside=1, coordinate_transformation_mode="half_pixel", axes=[2, 3],
)
graph = helper.make_graph(
    [resize], "resize",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 1000, 700])],
    [helper.make_tensor_value_info("resized", TensorProto.FLOAT, [1, 1, 256, 256])],
    [helper.make_tensor("sizes", TensorProto.INT64, [2], [256, 256])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model)
onnx.save(model, sys.argv[1])

noise = np.random.default_rng(0).uniform(0, 255, (1000, 700)).astype(np.float32)
pillow = np.asarray(Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC))
image = noise[None, None]
session = onnxruntime.InferenceSession(sys.argv[1])
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
ort = float(np.abs(session.run(None, {"image": image})[0][0, 0] - pillow).max())
ov = float(np.abs(compiled(image)[0][0, 0] - pillow).max())
print("expected: both runtimes within 0.5 of Pillow's resize with antialias")
print(f"ONNX Runtime {onnxruntime.__version__}: largest difference {ort:.2g}")
print(f"OpenVINO {openvino.__version__}: largest difference {ov:.2g}")
if ort > 0.5 or ov < 5:
    sys.exit("the behaviour has changed")
PY
