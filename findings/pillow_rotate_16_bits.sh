#!/usr/bin/env bash
# Pillow 12.3.0 treats the two bytes of a 16-bit pixel (mode I;16) as two pixels where it rotates or transforms an image
# with BILINEAR or BICUBIC, and writes the low byte twice where it pastes a number, without an error or a warning.
# NEAREST and resize are right, and so is mode F. Reported in 2015 for transform
# (https://github.com/python-pillow/Pillow/issues/1127, closed); the like of paste was repaired for drawing in 2023
# (https://github.com/python-pillow/Pillow/issues/7245).
#
# Seen: an image of 1000 throughout, turned by 10 degrees, has values from 17 to 217, and paste(1000) writes 59624. Who
# augments 16-bit X-rays so, or covers a label in them, trains on noise. This package turns images by quarters only, which
# moves whole pixels (image_processing_anomalyclip.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==12.3.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import PIL
from PIL import Image

flat = np.full((8, 8), 1000, np.uint16)


def turned(image):
    return image.rotate(10, Image.Resampling.BILINEAR).crop((2, 2, 6, 6))


def pasted(image):
    image.paste(1000, (0, 0, 4, 4))
    return image


print("Pillow", PIL.__version__, "an image of 1000 throughout")
print("expected: 1000 everywhere, in mode I;16 as in mode F")
is_wrong, is_right = [], []
for change in (turned, pasted):
    deep = np.asarray(change(Image.fromarray(flat)))
    floats = np.asarray(change(Image.fromarray(flat.astype(np.float32))))
    print(f"{change.__name__}: mode I;16 {np.unique(deep).tolist()}, mode F {np.unique(floats).tolist()}")
    is_wrong.append(bool((deep != 1000).any()))
    is_right.append(bool((floats == 1000).all()))
nearest = np.asarray(Image.fromarray(flat).rotate(10).crop((2, 2, 6, 6)))
if not (all(is_wrong) and all(is_right) and (nearest == 1000).all()):
    sys.exit("the behaviour has changed")
PY
