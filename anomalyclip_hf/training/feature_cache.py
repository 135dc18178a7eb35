# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Cached features: each image is encoded by the frozen CLIP once and kept on disk in memory-mapped Arrow files."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from datasets.arrow_writer import ArrowWriter
from torch import Tensor
from torch.utils.data import Dataset

from ..io.atomic import atomic_write
from ..io.fingerprints import fingerprint
from ..io.processes import process_state
from ..io.read_ahead import read_ahead
from ..modeling_anomalyclip import AnomalyCLIPModel, encode_image
from .examples import TrainingImages, WeightedIndex


FORMAT = 5  # raised when the content of a file changes
IMAGES_PER_FILE = 64  # at most this many images are lost when a run is killed
IMAGES_PER_PASS = 8
READERS = min(8, os.cpu_count() or 1)  # threads; they wait while a forward pass has all cores
FEATURES = datasets.Features(
    {
        "image_embeds": datasets.Value("binary"),
        "patch_embeds": datasets.Value("binary"),
        "mask": datasets.Value("binary"),  # one bit per pixel; null without ground truth
    }
)


class CachedFeatures(Dataset):
    """Training examples with embeddings in place of pixels, read from disk on access.

    Made by [`cache_features`].

    Args:
        rows ([`~datasets.Dataset`]): Memory-mapped features.
        images ([`TrainingImages`]): The images that they were computed from.
        dtype (`torch.dtype`): Data type of the embeddings on disk.
        layers (`int`): Number of selected layers.
    """

    def __init__(self, rows: datasets.Dataset, images: TrainingImages, dtype: torch.dtype, layers: int):
        self.rows, self.images, self.dtype, self.layers = rows.with_format("arrow"), images, dtype, layers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | WeightedIndex) -> dict[str, Any]:
        item = item if isinstance(item, WeightedIndex) else WeightedIndex(item)
        row = self.rows[item.number]
        image_embeds, patch_embeds = (self._embeds(row, name) for name in ("image_embeds", "patch_embeds"))
        patch_embeds = patch_embeds.view(self.layers, -1, len(image_embeds))
        targets = self.images.targets(self._mask(row["mask"][0]), item)
        return {"image_embeds": image_embeds, "patch_embeds": patch_embeds} | targets

    def _embeds(self, row: Any, name: str) -> Tensor:
        content = bytearray(row[name][0].as_buffer())  # a copy: the file is mapped read-only
        return torch.frombuffer(content, dtype=self.dtype)

    def _mask(self, stored: Any) -> Tensor | None:
        if not stored.is_valid:
            return None
        height, width = self.images.processor.size
        bits = np.unpackbits(np.frombuffer(stored.as_buffer(), dtype=np.uint8), count=height * width)
        return torch.from_numpy(bits.reshape(height, width))


def cache_features(
    model: AnomalyCLIPModel, images: TrainingImages, cache_dir: str | Path, dtype: str = "float16"
) -> CachedFeatures:
    """Compute the features of all images, or read the ones that an earlier run has computed.

    Each file stores some images and is named by a digest of everything that its content depends on: weights and
    settings of the vision tower, preprocessing, data type, and the bytes of images and masks. Features of another
    model are therefore never read. Files are written atomically, and several processes share the work.

    Args:
        model ([`AnomalyCLIPModel`]): Model whose vision tower encodes the images, without gradients.
        images ([`TrainingImages`]): Images to encode.
        cache_dir (`str` or `Path`): Folder, created if missing; all processes must have access to it.
        dtype (`str`, *optional*, defaults to `"float16"`): `"float16"`, `"bfloat16"` or `"float32"`.

    Returns:
        [`CachedFeatures`]

    Raises:
        OSError: If the disk has too little free space; the message says how much is needed.
        ValueError: If an image cannot be read.
    """
    state, folder, precision = process_state(), Path(cache_dir), getattr(torch, dtype)
    state.wait_for_everyone()
    folder.mkdir(parents=True, exist_ok=True)
    tower = tower_digest(model, images, dtype)
    groups = [
        range(start, min(start + IMAGES_PER_FILE, len(images))) for start in range(0, len(images), IMAGES_PER_FILE)
    ]
    digests = _in_threads(images.digest, range(len(images)), cost=lambda digest: 1)
    paths = [folder / f"{fingerprint(tower, *islice(digests, len(group)))[:40]}.arrow" for group in groups]
    missing = [number for number in range(len(paths)) if not _is_readable(paths[number], len(groups[number]))]
    if missing:
        _check_free_space(model, images, folder, precision, sum(len(groups[number]) for number in missing))
    state.wait_for_everyone()  # all processes have seen the same files before any of them writes
    todo = missing[state.process_index :: state.num_processes]
    indices = [index for number in todo for index in groups[number]]
    inputs = _in_threads(partial(_prepare, images), indices, cost=lambda image: image.pixels)
    for number in _with_progress(todo, show=state.is_main_process):
        _write(model, islice(inputs, len(groups[number])), paths[number], precision)
    state.wait_for_everyone()
    rows = datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in paths])
    return CachedFeatures(rows, images, precision, len(model.config.dual_path["feature_layers"]))


def tower_digest(model: AnomalyCLIPModel, images: TrainingImages, dtype: str) -> str:
    """Return a digest of everything that the features depend on, except the images."""
    processor = images.processor.image_processor.to_json_string()
    settings = (FORMAT, dtype, model.config.dual_path, images.processor.size, processor)
    return fingerprint(settings, model.clip.vision_model, model.clip.visual_projection)


def _in_threads(read: Callable[[int], Any], indices: Iterable[int], cost: Callable[[Any], int]) -> Iterator[Any]:
    return read_ahead((partial(read, index) for index in indices), READERS, 2 * IMAGES_PER_PASS, cost)


class _Input(NamedTuple):
    """An image and its ground truth at the model's size; `mask` holds one bit per pixel."""

    pixel_values: Tensor
    mask: bytes | None
    pixels: int  # of the image as read


def _prepare(images: TrainingImages, index: int) -> _Input:
    sample = images.read(index)
    mask = images.mask_of(sample)
    packed = None if mask is None else np.packbits(mask.numpy() > 0).tobytes()
    pixel_values = images.processor(images=sample.image)["pixel_values"][0]
    return _Input(pixel_values, packed, sample.image.width * sample.image.height)


def _is_readable(path: Path, length: int) -> bool:
    """Return whether a file exists and can be read to its end; a damaged one is computed again."""
    try:
        return path.exists() and len(datasets.Dataset.from_file(str(path))) == length
    except (OSError, ValueError):
        return False


def _check_free_space(
    model: AnomalyCLIPModel, images: TrainingImages, folder: Path, dtype: torch.dtype, count: int
) -> None:
    height, width = images.processor.size
    patch = model.config.vision_config.patch_size
    vectors = 1 + len(model.config.dual_path["feature_layers"]) * (height // patch) * (width // patch)
    needed = count * (vectors * model.config.projection_dim * dtype.itemsize + height * width // 8 + 64)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the features of {count} images need {needed / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB left; "
            "free some space, choose another cache_dir (--cache-dir), or set cache_features=False (--no-cache)",
        )


def _write(model: AnomalyCLIPModel, inputs: Iterator[_Input], path: Path, dtype: torch.dtype) -> None:
    with atomic_write(path) as partial_path:
        writer = ArrowWriter(features=FEATURES, path=str(partial_path), writer_batch_size=IMAGES_PER_PASS)
        with writer:
            while batch := list(islice(inputs, IMAGES_PER_PASS)):
                for row in _compute(model, batch, dtype):
                    writer.write(row)
            writer.finalize()


@torch.no_grad()
def _compute(model: AnomalyCLIPModel, batch: Sequence[_Input], dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    pixel_values = torch.stack([image.pixel_values for image in batch]).to(model.device)
    image_embeds, patch_embeds, _ = encode_image(model.clip, pixel_values, **model.config.dual_path)
    stacked = torch.stack(patch_embeds, dim=1)  # (images, layers, patches, dim)
    for image, embeds, patches in zip(batch, image_embeds, stacked, strict=True):
        yield {
            "image_embeds": _to_bytes(embeds, dtype),
            "patch_embeds": _to_bytes(patches, dtype),
            "mask": image.mask,
        }


def _to_bytes(embeds: Tensor, dtype: torch.dtype) -> bytes:
    normalised = F.normalize(embeds.float(), dim=-1).to(dtype)  # float16 ends at 65,504
    return normalised.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _with_progress(todo: list[int], show: bool) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    show = show and console.is_terminal
    yield from track(todo, "Computing features", console=console, transient=True, disable=not show)
