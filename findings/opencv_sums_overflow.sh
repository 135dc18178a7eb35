#!/usr/bin/env bash
# OpenCV 5.0.0 adds 8-bit pixels up in int32 and goes on with negative numbers above 2,147,483,647, without an error or a
# warning: in integral from 8.4 million white pixels on, and in sqrBoxFilter from windows of 182x182 on, although that one
# returns float32 means. Their documentation names no limit. scikit-image 0.26.0 uses a wider type for integral images.
#
# Seen: the total of a white image of 4000x4000 pixels is -214,967,296 instead of 4,080,000,000, and a mean of squares is
# negative, from which a local deviation becomes NaN. Differences of sums are right only while they are int32 too. Local
# contrast and background of large industrial images are computed so. This package uses neither function.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 scikit-image==0.26.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import cv2
import numpy as np
import skimage
from skimage.transform import integral_image

white = np.full((4000, 4000), 255, np.uint8)
right = 255 * white.size
sums = cv2.integral(white)
wide = cv2.integral(white, sdepth=cv2.CV_64F)
other = integral_image(white)
print("OpenCV", cv2.__version__, "scikit-image", skimage.__version__)
print("expected: a total of", right)
print(f"cv2.integral: {sums.dtype} {sums[-1, -1]}; with sdepth=CV_64F: {wide[-1, -1]:.0f}")
print(f"skimage.transform.integral_image: {other.dtype} {other[-1, -1]}")
column = sums[:, -1].astype(np.int64)
print("sums of strips of 1000 rows, in int64:", (column[1000::1000] - column[:-1:1000]).tolist())
squares = {size: float(cv2.sqrBoxFilter(white[:600, :600], -1, (size, size))[300, 300]) for size in (181, 257)}
print(f"cv2.sqrBoxFilter, mean of the squares of 255, expected {255**2}:", squares)
if wide[-1, -1] != right or other[-1, -1] != right or sums[-1, -1] != right - 2**32:
    sys.exit("the behaviour has changed")
if abs(squares[181] - 255**2) > 1 or squares[257] > 0:
    sys.exit("the behaviour has changed")
PY
