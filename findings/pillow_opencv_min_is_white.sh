#!/usr/bin/env bash
# Pillow 12.3.0 and OpenCV 5.0.0 invert a grey TIFF in which zero is white (PhotometricInterpretation 0) if it has 8 bits
# and do not if it has 16, without an error or a warning. The same picture comes out as its own negative, depending on
# the depth with which it was saved. tifffile inverts neither.
#
# Seen: the white sheet of a radiograph is 255 from the file with 8 bits and 0 from the one with 16. This package reads
# 16-bit TIFFs through tifffile and inverts them itself (image_processing_anomalyclip.py); a program that passes opened
# images or arrays has to do so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==12.3.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/white.tif" <<'PY'
import sys

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

file = sys.argv[1]
print("Pillow", PIL.__version__, "OpenCV", cv2.__version__, "tifffile", tifffile.__version__)
print("expected: white at both depths, so 255 and 65535")
seen = []
for dtype in (np.uint8, np.uint16):
    tifffile.imwrite(file, np.zeros((4, 4), dtype), photometric="miniswhite")  # a white sheet
    with Image.open(file) as image:
        pillow = int(np.asarray(image)[0, 0])
    opencv = int(cv2.imread(file, cv2.IMREAD_UNCHANGED)[0, 0])
    print(f"white as {dtype.__name__}: Pillow {pillow}, OpenCV {opencv}, tifffile {tifffile.imread(file)[0, 0]}")
    seen.append((pillow, opencv))
if seen != [(255, 255), (0, 0)]:
    sys.exit("the behaviour has changed")
PY
