#!/usr/bin/env bash
# The ranking metrics of torchmetrics 1.9.0 change the scores of some batches and not of others: if a batch holds a value
# outside [0, 1], all of its values go through a sigmoid. The documentation says so of "preds", and not that each call of
# update decides it anew: https://github.com/Lightning-AI/torchmetrics/issues/2195 (open). In float32 the sigmoid of all
# scores above 17 is 1, which makes them equal.
#
# Seen: the AUROC of the same 200 anomaly scores, such as distances to a memory of normal patches, is 0.79 in batches of 1
# and 0.95 in batches of 200; times 10 and plus 10 it is 0.71. An AUROC depends on the order of scores alone, and on no
# batch. This package's metrics count scores as they are (metrics/).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import torch
import torchmetrics
from torchmetrics.classification import BinaryAUROC

generator = np.random.default_rng(0)
normal, anomalous = generator.normal(0.7, 0.25, 100), generator.normal(1.3, 0.25, 100)
right = float((anomalous[:, None] > normal).mean())
order = generator.permutation(200)
scores = torch.tensor(np.concatenate([normal, anomalous])[order], dtype=torch.float32)
labels = torch.tensor(np.repeat([0, 1], 100)[order])


def auroc(scores, batch_size):
    metric = BinaryAUROC()
    for start in range(0, len(scores), batch_size):
        metric.update(scores[start : start + batch_size], labels[start : start + batch_size])
    return float(metric.compute())


print("torchmetrics", torchmetrics.__version__)
print(f"expected, from all pairs of scores: {right:.4f}")
seen = {batch_size: auroc(scores, batch_size) for batch_size in (1, 2, 200)}
for batch_size, value in seen.items():
    print(f"batches of {batch_size}: {value:.4f}")
moved = auroc(10 * scores + 10, 200)
print(f"scores times 10 plus 10, batches of 200: {moved:.4f}")
if abs(seen[200] - right) > 1e-3 or seen[1] > right - 0.05 or moved > right - 0.05:
    sys.exit("the behaviour has changed")
PY
