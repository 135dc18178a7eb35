#!/usr/bin/env bash
# A mask that becomes a polygon with OpenCV 5.0.0 (findContours) and a mask again with pycocotools 2.0.11 loses its last
# row and column; what is one pixel wide is lost altogether, without an error or a warning. OpenCV's points are centres
# of the outermost pixels, which belong to the mask; pycocotools takes them for corners, with the area between them.
# Reported as https://github.com/cocodataset/cocoapi/issues/659.
#
# Seen: of a scratch of 2x40 pixels less than a half is left, of one of 1x40 nothing. Tools that write COCO files from
# masks with findContours make such files, and metrics then count fewer and smaller defects. This package draws polygons
# with their outline, as OpenCV does (data/annotations.py), so those masks come back whole, while polygons that were
# meant as corners come out one pixel wider than with pycocotools. Run lengths have neither problem.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 pycocotools==2.0.11 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import cv2
import numpy as np
from pycocotools import mask as coco

print("OpenCV", cv2.__version__, "pycocotools", version("pycocotools"))
print("expected: the number of pixels that the mask had")
seen = {}
for height, width in ((10, 10), (2, 40), (1, 40)):
    mask = np.zeros((64, 64), np.uint8)
    mask[8 : 8 + height, 8 : 8 + width] = 1
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = [contour.reshape(-1).astype(float).tolist() for contour in contours]
    back = coco.decode(coco.merge(coco.frPyObjects(polygons, *mask.shape)))
    filled = cv2.fillPoly(np.zeros_like(mask), contours, 1)
    seen[height, width] = int(back.sum())
    print(f"mask of {height}x{width}: {mask.sum()} pixels, pycocotools {back.sum()}, OpenCV's fillPoly {filled.sum()}")
    if not (filled == mask).all():
        sys.exit("OpenCV's contours no longer contain their outline")
if seen != {(10, 10): 81, (2, 40): 39, (1, 40): 0}:
    sys.exit("the behaviour has changed")
PY
