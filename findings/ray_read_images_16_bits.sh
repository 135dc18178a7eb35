#!/usr/bin/env bash
# Ray Data 2.60.0 reads 16-bit grey PNG files with read_images(mode="RGB") and clips every value above 255 to white,
# without an error or a warning. Without `mode` the values arrive whole, as uint16.
#
# Seen: a ramp from 0 to 65535 comes back with 99 % of its pixels at 255, where division by 257 would keep the ramp.
# This package therefore sends paths through Ray and reads the images in the workers (bulk/reading.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray[data]==2.60.0" pillow==12.3.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/images" <<'PY'
import logging
import os
import sys

import numpy as np
import ray
from PIL import Image

os.mkdir(sys.argv[1])
ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
Image.fromarray(ramp).save(os.path.join(sys.argv[1], "ramp.png"))
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
ray.data.DataContext.get_current().enable_progress_bars = False
logging.getLogger("ray.data").setLevel(logging.ERROR)
whole = ray.data.read_images(sys.argv[1]).take_all()[0]["image"]
rgb = ray.data.read_images(sys.argv[1], mode="RGB").take_all()[0]["image"]
white = float((rgb == 255).mean())
print("expected: RGB pixels that rise from 0 to 255 as the ramp does")
print(f"Ray {ray.__version__}: without mode {whole.dtype} from {whole.min()} to {whole.max()}")
print(f"Ray {ray.__version__}: with mode='RGB' {rgb.dtype}, {white:.1%} of the pixels are 255")
if whole.max() != 65535 or white < 0.95:
    sys.exit("the behaviour has changed")
PY
