# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Load the model to train: a CLIP with new prompts."""

from typing import Any

from transformers import AutoTokenizer

from ..assets import DEFAULT_MODEL
from ..modeling_anomalyclip import AnomalyCLIPModel


def load_base_model(clip_name_or_path: str | None = None, **settings: Any) -> AnomalyCLIPModel:
    """Load a CLIP and add new prompts, ready for training.

    Args:
        clip_name_or_path (`str`, *optional*): Hub id or folder of a CLIP. Defaults to the demonstration model's CLIP.
        **settings: Arguments of [`AnomalyCLIPConfig`], such as `image_size`. The demonstration model keeps its image
            size and selected layers unless given.

    Returns:
        [`AnomalyCLIPModel`]: in evaluation mode, only the prompts trainable.

    Raises:
        OSError: If the CLIP cannot be read.
        ValueError: If the settings contradict each other or the CLIP.

    Example:
    ```python
    >>> from anomalyclip_hf.training.base_model import load_base_model

    >>> model = load_base_model(num_prompt_tokens=4)
    >>> model.config.num_prompt_tokens
    4

    ```
    """
    if clip_name_or_path:
        return AnomalyCLIPModel.from_clip_pretrained(clip_name_or_path, **settings)
    default = AnomalyCLIPModel.from_pretrained(DEFAULT_MODEL)
    kept = {"image_size": default.config.image_size, "feature_layers": default.config.feature_layers}
    return AnomalyCLIPModel.from_clip(
        default.clip, lambda: AutoTokenizer.from_pretrained(DEFAULT_MODEL), **(kept | settings)
    )
