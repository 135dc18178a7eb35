# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Photographic crops, and cut-out things, from a folder made by collect_textures.py and collect_cutouts.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from surfaces import PATH_WORDS


class TextureBank:
    """Lazily decoded photographs of a bank folder with manifest.json; memory is bounded by ``limit`` bytes."""

    def __init__(self, folder: str | Path, limit: int = 1_500_000_000) -> None:
        self.folder, self.limit, self.used = Path(folder), limit, 0
        entries = json.loads((self.folder / "manifest.json").read_text())
        self.files: dict[str, list[tuple[str, str]]] = {}
        for entry in entries:
            self.files.setdefault(entry["split"], []).append((entry["file"], words_of(entry["path"])))
        self.cache: dict[str, np.ndarray] = {}
        cutouts = self.folder / "cutouts.json"
        self.cutouts: dict[str, list[str]] = {}
        for entry in json.loads(cutouts.read_text()) if cutouts.exists() else ():
            self.cutouts.setdefault(entry["split"], []).append(entry["file"])

    def load(self, file: str) -> np.ndarray:
        """Decoded uint8 photograph (H, W, 3) or cut-out (H, W, 4), kept while memory allows."""
        if file in self.cache:
            return self.cache[file]
        pixels = np.asarray(Image.open(self.folder / file).convert("RGBA" if file.endswith(".png") else "RGB"))
        if self.used + pixels.nbytes <= self.limit:
            self.cache[file] = pixels
            self.used += pixels.nbytes
        return pixels

    def preload(self) -> None:
        """Decode all photographs now, so that forked workers share the memory."""
        for files in self.files.values():
            for file, _ in files:
                self.load(file)

    def cutout(self, rng: np.random.Generator, split: str) -> Image.Image:
        """A random thing on a transparent ground, RGBA."""
        files = self.cutouts[split]
        return Image.fromarray(self.load(files[int(rng.integers(len(files)))]))

    def crop(self, rng: np.random.Generator, height: int, width: int, split: str) -> tuple[np.ndarray, str]:
        """A random part at a random scale: (uint8 (height, width, 3), caption words)."""
        files = self.files[split]
        file, words = files[int(rng.integers(len(files)))]
        pixels = self.load(file)
        largest = min(pixels.shape[0] / height, pixels.shape[1] / width)
        # Below 0.7 the enlarged pixels would look soft in a way no camera makes.
        scale = largest * float(rng.uniform(min(1.0, max(0.3, 0.7 / largest)), 1.0))
        rows, columns = max(2, int(height * scale)), max(2, int(width * scale))
        top = int(rng.integers(0, pixels.shape[0] - rows + 1))
        left = int(rng.integers(0, pixels.shape[1] - columns + 1))
        part = Image.fromarray(np.ascontiguousarray(pixels[top : top + rows, left : left + columns]))
        method = Image.Resampling.BOX if scale > 1.5 and rng.random() < 0.5 else Image.Resampling.BICUBIC
        return np.asarray(part.resize((width, height), method)), words


def words_of(path: str) -> str:
    """Caption words of a photograph: from the file name if it says the material, else ``surface``."""
    name = Path(path).stem.lower()
    for candidates, words in PATH_WORDS:
        if any(candidate in name for candidate in candidates.split("|")):
            return words
    return "surface"
