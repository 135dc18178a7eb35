# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What the frozen CLIP makes of each image, computed once and kept on disk as Arrow files that are memory-mapped."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from datasets.arrow_writer import ArrowWriter
from torch import Tensor
from torch.utils.data import Dataset

from ..io.atomic import atomic_write
from ..io.processes import process_state
from ..modeling_anomalyclip import AnomalyCLIPModel, encode_image
from .examples import Place, TrainingImages, targets


FORMAT = 3  # raised when what a file holds changes
IMAGES_PER_FILE = 64  # what a kill can cost
IMAGES_PER_PASS = 8
FEATURES = datasets.Features(
    {
        "image_embeds": datasets.Value("binary"),
        "patch_embeds": datasets.Value("binary"),
        "mask": datasets.Value("binary"),  # one bit a pixel
        "mask_weight": datasets.Value("float32"),
        "label": datasets.Value("int64"),
    }
)


class CachedFeatures(Dataset):
    """Training examples with embeddings in place of pixels, read from disk when asked for.

    Made by [`cache_features`].

    Args:
        rows ([`~datasets.Dataset`]): Memory-mapped.
        images ([`TrainingImages`]): What they were computed from.
        dtype (`torch.dtype`): Of the embeddings on disk.
        layers (`int`): Number of tapped layers.
    """

    def __init__(self, rows: datasets.Dataset, images: TrainingImages, dtype: torch.dtype, layers: int):
        self.rows, self.images, self.dtype, self.layers = rows.with_format("arrow"), images, dtype, layers
        self.name = images.name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Place) -> dict[str, Any]:
        place = item if isinstance(item, Place) else Place(item)
        row = self.rows[place.number]
        image_embeds, patch_embeds = (self._embeds(row, name) for name in ("image_embeds", "patch_embeds"))
        height, width = self.images.processor.size
        bits = np.frombuffer(row["mask"][0].as_buffer(), dtype=np.uint8)
        mask = torch.from_numpy(np.unpackbits(bits, count=height * width).reshape(height, width)).float()
        targets_of_image = targets(mask, row["mask_weight"][0].as_py(), row["label"][0].as_py(), place)
        patch_embeds = patch_embeds.view(self.layers, -1, len(image_embeds))
        return {"image_embeds": image_embeds, "patch_embeds": patch_embeds, **targets_of_image}

    def _embeds(self, row: Any, name: str) -> Tensor:
        content = bytearray(row[name][0].as_buffer())  # a copy: the file is mapped read-only
        return torch.frombuffer(content, dtype=self.dtype)


def cache_features(
    model: AnomalyCLIPModel, images: TrainingImages, cache_dir: str | Path, dtype: str = "float16"
) -> CachedFeatures:
    """Compute the features of all images, or read those that an earlier run has computed.

    Each file holds some images and is named by a digest of all that its content depends on: weights and settings of
    the tower, preprocessing, precision, the bytes of the images and masks. Features of another model are therefore
    never read, and files appear whole or not at all. Several processes share the work.

    Args:
        model ([`AnomalyCLIPModel`]): Its vision tower is run as it is, without gradients.
        images ([`TrainingImages`]): In their order.
        cache_dir (`str` or `Path`): Made where missing; all processes must see it.
        dtype (`str`, *optional*, defaults to `"float16"`): `"float16"`, `"bfloat16"` or `"float32"`.

    Returns:
        [`CachedFeatures`]

    Raises:
        OSError: If the disk has not enough room; says how much is needed and where.
        ValueError: If an image cannot be read.
    """
    state, folder, precision = process_state(), Path(cache_dir), getattr(torch, dtype)
    state.wait_for_everyone()
    folder.mkdir(parents=True, exist_ok=True)
    tower = tower_digest(model, images, dtype)
    groups = [
        range(start, min(start + IMAGES_PER_FILE, len(images))) for start in range(0, len(images), IMAGES_PER_FILE)
    ]
    paths = [folder / f"{_digest_of(tower, images, group)}.arrow" for group in groups]
    missing = [place for place in range(len(paths)) if not _is_whole(paths[place], len(groups[place]))]
    if missing:
        _check_room(model, images, folder, precision, sum(len(groups[place]) for place in missing))
    state.wait_for_everyone()  # all have seen the same files before anyone writes
    todo = missing[state.process_index :: state.num_processes]
    for place in _with_progress(todo, show=state.is_main_process):
        _write(model, images, groups[place], paths[place], precision)
    state.wait_for_everyone()
    rows = datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in paths])
    return CachedFeatures(rows, images, precision, len(model.config.dual_path["feature_layers"]))


def tower_digest(model: AnomalyCLIPModel, images: TrainingImages, dtype: str) -> str:
    """A digest of everything that makes features, but for the images."""
    digest = hashlib.sha256()
    processor = images.processor.image_processor.to_json_string()
    digest.update(repr((FORMAT, dtype, model.config.dual_path, images.processor.size, processor)).encode())
    for module in (model.clip.vision_model, model.clip.visual_projection):
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _digest_of(tower: str, images: TrainingImages, group: range) -> str:
    digest = hashlib.sha256(tower.encode())
    for index in group:
        digest.update(images.digest(index).encode())
    return digest.hexdigest()[:40]


def _is_whole(path: Path, length: int) -> bool:
    """Whether a file is there and can be read to its end; one that was damaged is computed anew."""
    if not path.exists():
        return False
    try:
        return len(datasets.Dataset.from_file(str(path))) == length
    except (OSError, ValueError):
        return False


def _check_room(model: AnomalyCLIPModel, images: TrainingImages, folder: Path, dtype: torch.dtype, count: int) -> None:
    height, width = images.processor.size
    patch = model.config.vision_config.patch_size
    vectors = 1 + len(model.config.dual_path["feature_layers"]) * (height // patch) * (width // patch)
    needed = count * (vectors * model.config.projection_dim * dtype.itemsize + height * width // 8 + 64)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"features of {count} images need {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB left; make "
            "room, name another cache_dir, or train without cache_features",
        )


def _write(model: AnomalyCLIPModel, images: TrainingImages, group: range, path: Path, dtype: torch.dtype) -> None:
    with atomic_write(path) as partial:
        writer = ArrowWriter(features=FEATURES, path=str(partial), writer_batch_size=IMAGES_PER_PASS)
        with writer:
            for start in range(group.start, group.stop, IMAGES_PER_PASS):
                for row in _compute(model, images, range(start, min(start + IMAGES_PER_PASS, group.stop)), dtype):
                    writer.write(row)
            writer.finalize()


@torch.no_grad()
def _compute(
    model: AnomalyCLIPModel, images: TrainingImages, group: range, dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    opened = [images.load(index) for index in group]
    pixel_values = images.processor(images=[target.image for target in opened])["pixel_values"]
    image_embeds, patch_embeds = encode_image(model.clip, pixel_values.to(model.device), **model.config.dual_path)
    stacked = torch.stack(patch_embeds, dim=1)  # (images, layers, patches, dim)
    for target, image, patches in zip(opened, image_embeds, stacked, strict=True):
        yield {
            "image_embeds": _to_bytes(image, dtype),
            "patch_embeds": _to_bytes(patches, dtype),
            "mask": np.packbits(target.mask.numpy() > 0).tobytes(),
            "mask_weight": target.mask_weight,
            "label": target.label,
        }


def _to_bytes(embeds: Tensor, dtype: torch.dtype) -> bytes:
    # Normalised first, since half precision ends at 65,504.
    normalised = F.normalize(embeds.float(), dim=-1).to(dtype)
    return normalised.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _with_progress(todo: list[int], show: bool) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    show = show and console.is_terminal
    yield from track(todo, "Computing features", console=console, transient=True, disable=not show)
