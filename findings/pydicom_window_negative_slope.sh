#!/usr/bin/env bash
# apply_windowing of pydicom 3.0.2 shows an image with a negative RescaleSlope inverted. It computes the range of its
# output as the rescaled values of the smallest and the largest stored value, which a negative slope swaps.
#
# Seen: stored values 0, 1000, 4095 with slope -1 and intercept 4095 are 4095, 3095, 0 after apply_rescale. A window over
# all of them should leave them so; apply_windowing returns 0, 1000, 4095, black for white. This package windows by itself,
# between black and white (image_processing_anomalyclip.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydicom==3.0.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_rescale, apply_windowing

stored = np.array([0, 1000, 4095], np.uint16)
image = Dataset()
image.PhotometricInterpretation, image.BitsStored, image.PixelRepresentation = "MONOCHROME2", 12, 0
image.WindowCenter, image.WindowWidth = 2048, 4096  # all values
shown = {}
for slope, intercept in ((1, 0), (-1, 4095)):
    image.RescaleSlope, image.RescaleIntercept = slope, intercept
    rescaled = apply_rescale(stored, image)
    shown[slope] = apply_windowing(rescaled, image)
    print(f"slope {slope}: rescaled {rescaled}, windowed {shown[slope]}")
print("pydicom", pydicom.__version__)
print("expected: the window of all values leaves the order of the rescaled values as it is")
print("seen: with a negative slope, the smallest rescaled value becomes the largest")
if not all(np.allclose(values, stored) for values in shown.values()):
    sys.exit("the behaviour has changed")
PY
