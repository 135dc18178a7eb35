#!/usr/bin/env bash
# rasterio 1.4.4 writes values that do not fit into the type of a file modulo its range, without an error or a warning:
# 256 becomes 0 in a file of uint8. Reading does otherwise: read(out_dtype="uint8") clips at 255, as GDAL does. The
# documentation of write mentions neither.
#
# Seen: a 16-bit image, or a heat map times 256, that is written to an 8-bit file has its brightest parts black. This
# package stores maps as float16 (scoring/outputs.py); images that rasterio writes for it need the type of their values.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rasterio==1.4.4 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/pixels.tif" <<'PY'
import sys
import warnings

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

warnings.simplefilter("error")
warnings.simplefilter("ignore", NotGeoreferencedWarning)
file, values = sys.argv[1], np.array([[0, 255, 256, 300, 65535]], np.uint16)


def write(dtype):
    with rasterio.open(file, "w", driver="GTiff", height=1, width=5, count=1, dtype=dtype) as dataset:
        dataset.write(values, 1)


def read(**options):
    with rasterio.open(file) as dataset:
        return dataset.read(1, **options)[0].tolist()


print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "values", values[0].tolist())
print("expected: an error, or the same conversion in both directions")
write("uint16")
clipped = read(out_dtype="uint8")
write("uint8")
wrapped = read()
print("written as uint16, read as uint8:", clipped)
print("written as uint8:", wrapped)
if clipped != [0, 255, 255, 255, 255] or wrapped != [0, 255, 0, 44, 255]:
    sys.exit("the behaviour has changed")
PY
