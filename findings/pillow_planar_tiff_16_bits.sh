#!/usr/bin/env bash
# Pillow 12.3.0 opens a 16-bit RGB TIFF that keeps one plane per colour as 8-bit RGB, without an error or a warning, and
# takes single bytes of the 16-bit values for pixels. tifffile reads the same file correctly.
#
# Seen: a picture whose left half is dark and whose right half is bright in all three planes comes back in mode RGB with
# bytes that belong to neighbouring pixels. A program that expects either the right values or an exception gets neither.
# This package reads such files through tifffile (image_processing_anomalyclip.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==12.3.0 numpy==2.4.6 tifffile==2026.3.3
"$folder/venv/bin/python" - "$folder/planes.tif" <<'PY'
import sys
import warnings

import numpy as np
import PIL
import tifffile
from PIL import Image

warnings.simplefilter("error")
values = np.zeros((3, 4, 8), np.uint16)
values[:, :, :4], values[:, :, 4:] = 0x1020, 0xE0F0
tifffile.imwrite(sys.argv[1], values, photometric="rgb", planarconfig="separate")
assert (tifffile.imread(sys.argv[1]) == values).all()

image = Image.open(sys.argv[1])
image.load()
pixels = np.asarray(image)
right = np.moveaxis(values >> 8, 0, -1)
print("Pillow", PIL.__version__, "mode", image.mode, "first row, red:", pixels[0, :, 0].tolist())
print("expected, scaled to 8 bits:", right[0, :, 0].tolist())
if image.mode != "RGB" or (pixels == right).all():
    sys.exit("the behaviour has changed")
PY
