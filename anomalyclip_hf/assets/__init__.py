# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The model that ships with the package."""

from pathlib import Path


DEFAULT_MODEL = str(Path(__file__).parent / "default_model")
"""Folder of a small demonstration model; `from_pretrained` and `pipeline("anomaly-detection")` load it."""

DEFAULT_MODEL_NOTE = (
    "No --model given: this is the small demonstration model, image AUROC 0.66 to 0.87 on real images; for real work "
    "load a real CLIP, --model FOLDER made by `anomalyclip convert`."
)
"""What users of the demonstration model are told."""

_LINKED = Path(__file__).parent / "example_images"  # a text file where git makes no links, as on Windows
EXAMPLE_IMAGES = _LINKED if _LINKED.is_dir() else Path(__file__).parents[2] / "examples" / "images"
"""Folder of the sample images that the demo offers; need not exist."""
