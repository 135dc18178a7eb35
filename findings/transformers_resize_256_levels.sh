#!/usr/bin/env bash
# image_transforms.resize of transformers 5.23.0 returns floats in [0, 1] with 256 levels, without an error or a warning.
# It turns them into 8-bit pixels, resizes those and divides by 255. The documentation says that it uses PIL, which resizes
# floats too (mode F). A maintainer on the reason: https://github.com/huggingface/transformers/issues/25195.
#
# Seen: an anomaly map from 0 to 0.01 has three values afterwards, so the order of its pixels, and with it AUROC and AUPRO,
# is lost. Floats above 1 are refused. This package resizes maps in mode F (postprocessing_anomalyclip.py: resize_map) and
# gives 8-bit images to the image processor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.23.0 pillow==12.3.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys
import warnings

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.image_transforms import resize

warnings.simplefilter("error")
print("transformers", transformers.__version__, "Pillow", PIL.__version__)
print("expected: as many distinct values as PIL gives for the same floats")
seen = {}
for top in (1.0, 0.01):
    anomaly_map = np.linspace(0, top, 64 * 64, dtype=np.float32).reshape(64, 64)
    resized = resize(anomaly_map[None], (128, 128))
    right = np.asarray(Image.fromarray(anomaly_map).resize((128, 128), Image.Resampling.BILINEAR))
    seen[top] = len(np.unique(resized)), len(np.unique(right))
    print(
        f"a map from 0 to {top}: {resized.dtype} with {seen[top][0]} distinct values, PIL {seen[top][1]}; "
        f"highest {resized.max():.4f}, PIL {right.max():.4f}"
    )
if seen[1.0][0] > 256 or seen[0.01][0] > 4 or min(right for _, right in seen.values()) < 4000:
    sys.exit("the behaviour has changed")
PY
