#!/usr/bin/env bash
# Pillow 12.3.0 blends images in mode F byte by byte where a mask lies between 0 and 255, in Image.composite and in
# Image.paste, without an error or a warning. Its documentation promises that such values mix the two images. Mode F is
# its only mode for floats, such as heat maps. Masks of 0 and 255 only are right.
#
# Seen: half of 0.4 and half of 0.6 is 0.948, which lies outside of both. Heat maps of tiles that are joined over a soft
# seam get wrong rims. This package blends tiles as arrays (scoring/tiling.py) and composites 8-bit images only
# (postprocessing_anomalyclip.py).
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


def flat(value, dtype=np.float32):
    return Image.fromarray(np.full((4, 4), value, dtype))


print("Pillow", PIL.__version__)
print("expected: values between 0.4 and 0.6, as between 100 and 150 with 8 bits")
seen = {}
for opacity in (0, 64, 128, 192, 255):
    mask = flat(opacity, np.uint8)
    composed = Image.composite(flat(0.6), flat(0.4), mask).getpixel((0, 0))
    pasted = flat(0.4)
    pasted.paste(flat(0.6), (0, 0), mask)
    bytes_composed = Image.composite(flat(150, np.uint8), flat(100, np.uint8), mask).getpixel((0, 0))
    print(f"mask {opacity}: composite {composed:.4f}, paste {pasted.getpixel((0, 0)):.4f}, 8 bits {bytes_composed}")
    seen[opacity] = composed
if not (abs(seen[0] - 0.4) < 1e-6 and abs(seen[255] - 0.6) < 1e-6 and seen[64] < 0.35 and seen[128] > 0.9):
    sys.exit("the behaviour has changed")
PY
