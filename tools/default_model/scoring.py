# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Image and pixel AUROC of a model on synthetic scenes or on real images in MVTec AD layout."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalyclip_hf import AnomalyCLIPModel, AnomalyCLIPProcessor
from scenes import Scene


PIXEL_STEP = 2  # every second row and column; AUROC hardly moves and memory stays small


@torch.no_grad()
def score_scenes(
    model: AnomalyCLIPModel, processor: AnomalyCLIPProcessor, scenes: list[Scene]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Image scores `(len(scenes),)` and maps at the scenes' own sizes."""
    scores, maps = [], []
    for start in range(0, len(scenes), 16):
        batch = scenes[start : start + 16]
        outputs = model(**processor(images=[scene.image for scene in batch]))
        results = processor.post_process_anomaly_detection(outputs, [scene.mask.shape for scene in batch])
        scores += [result["score"] for result in results]
        maps += [result["anomaly_map"].numpy() for result in results]
    return np.array(scores), maps


def auroc(scenes: list[Scene], scores: np.ndarray, maps: list[np.ndarray]) -> dict[str, float]:
    labels = np.array([scene.mask.any() for scene in scenes])
    step = (slice(None, None, PIXEL_STEP),) * 2
    pixels = np.concatenate([scene.mask[step].ravel() for scene in scenes])
    values = np.concatenate([anomaly_map[step].ravel() for anomaly_map in maps])
    return {
        "image_auroc": round(float(roc_auc_score(labels, scores)), 4),
        "pixel_auroc": round(float(roc_auc_score(pixels, values)), 4),
    }


def load_folder(folder: Path) -> list[Scene]:
    """Real images: `test/good`, `test/<defect>` and `ground_truth/<defect>/NNN_mask.png`."""
    scenes = []
    for path in sorted((folder / "test").glob("*/*")):
        image, defect = np.asarray(Image.open(path).convert("RGB")), path.parent.name
        mask = np.zeros(image.shape[:2], bool)
        if defect != "good":
            mask = np.asarray(Image.open(folder / "ground_truth" / defect / f"{path.stem}_mask.png").convert("L")) > 0
        scenes.append(Scene(image, mask, folder.name, None if defect == "good" else defect, folder.name))
    return scenes
