#!/usr/bin/env bash
# Pillow 12.3.0 shifts grey JPEG 2000 images of 9 to 15 bits up to 16 bits, so it returns 16 times the values of a 12-bit
# image, without an error or a warning. OpenCV 5.0.0 and imagecodecs return the values as stored. For pydicom this was
# https://github.com/pydicom/pydicom/issues/693; Pillow's documentation does not mention it.
#
# Seen: 4095, white in 12 bits, becomes 65520, which is neither the stored value nor white in 16 bits. A threshold or a
# window in stored units fits the readers of one kind only. This package reads no JPEG 2000 files, and in DICOM it reads
# them through pydicom, which shifts them back (image_processing_anomalyclip.py: _decode_dicom).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==12.3.0 opencv-python-headless==5.0.0.93 imagecodecs==2026.3.6 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/deep.j2k" <<'PY'
import sys

import cv2
import imagecodecs
import numpy as np
import PIL
from PIL import Image

file = sys.argv[1]
print("Pillow", PIL.__version__, "OpenCV", cv2.__version__, "imagecodecs", imagecodecs.__version__)
print("expected: the values that were stored")
seen = {}
for bits in (10, 12, 16):
    top = 2**bits - 1
    ramp = np.linspace(0, top, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    content = imagecodecs.jpeg2k_encode(ramp, codecformat="j2k", bitspersample=bits, reversible=True, level=0)
    with open(file, "wb") as output:
        output.write(content)
    assert (imagecodecs.jpeg2k_decode(content) == ramp).all()
    pillow = int(np.asarray(Image.open(file)).max())
    opencv = int(cv2.imread(file, cv2.IMREAD_UNCHANGED).max())
    print(f"{bits} bits, highest value {top}: imagecodecs {top}, OpenCV {opencv}, Pillow {pillow}")
    seen[bits] = (pillow, opencv)
if seen != {10: (65472, 1023), 12: (65520, 4095), 16: (65535, 65535)}:
    sys.exit("the behaviour has changed")
PY
