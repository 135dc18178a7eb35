# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The model that ships with the package."""

from pathlib import Path


DEFAULT_MODEL = str(Path(__file__).parent / "default_model")
"""Folder of the small demonstration model, which `pipeline("anomaly-detection")` loads by default."""

_LINKED = Path(__file__).parent / "example_images"  # a text file where git makes no links, as on Windows
EXAMPLE_IMAGES = _LINKED if _LINKED.is_dir() else Path(__file__).parents[2] / "examples" / "images"
"""Folder of the sample images of the demo; it need not exist."""
