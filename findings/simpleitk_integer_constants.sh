#!/usr/bin/env bash
# SimpleITK 2.5.7 cuts the fraction off a number before it computes with an image of integers, without an error or a
# warning: times 0.5 is times 0, to the power of 0.5 is to the power of 0, and divided by 2.5 is divided by 2, although
# that result is made of floats. NumPy computes with the number as it is. A change of this is under review:
# https://github.com/SimpleITK/SimpleITK/pull/2728.
#
# Seen: CT and X-ray images hold int16 and uint16, so rescaling them with image * slope gives black or the image as it
# was, and image >= 100.5 keeps pixels of 100. Images of floats are right. This package computes with arrays
# (image_processing_anomalyclip.py: _decode_dicom).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q simpleitk==2.5.7 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import operator
import sys

import numpy as np
import SimpleITK

pixels = np.array([[100, 200]], np.int16)
print("SimpleITK", SimpleITK.Version_VersionString())
print("expected: as NumPy, in integers where the result is an image of integers")
seen = {}
for sign, compute, number in (
    ("*", operator.mul, 0.5), ("/", operator.truediv, 2.5), ("**", operator.pow, 0.5), (">=", operator.ge, 100.5)
):
    results = []
    for dtype in (np.int16, np.float32):
        image = compute(SimpleITK.GetImageFromArray(pixels.astype(dtype)), number)
        results.append(SimpleITK.GetArrayFromImage(image).ravel().tolist())
    right = compute(pixels, number)[0].tolist()
    print(f"[100, 200] {sign} {number}: int16 {results[0]}, float32 {results[1]}, NumPy {right}")
    seen[sign] = results[0]
if seen != {"*": [0, 0], "/": [50, 100], "**": [1, 1], ">=": [1, 1]}:
    sys.exit("the behaviour has changed")
PY
