# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Hand-written sentences about normal and damaged things: the training-free prompts.

The idea of combining state words with photo templates is that of WinCLIP (Jeong et al., CVPR 2023) and of the CLIP-AC
baseline of the AnomalyCLIP paper; the words here are this package's own.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .configuration_anomalyclip import OF_LEARNED_PROMPTS
from .limits_anomalyclip import shorten


NORMAL_STATES = (
    "{}",
    "intact {}",
    "flawless {}",
    "clean {}",
    "undamaged {}",
    "{} in good condition",
    "{} without any defect",
)
ABNORMAL_STATES = (
    "damaged {}",
    "defective {}",
    "broken {}",
    "flawed {}",
    "{} in bad condition",
    "{} with a defect",
    "{} with damage",
)
PHOTO_TEMPLATES = (
    "{}.",
    "a photo of {}.",
    "a photo of the {}.",
    "a picture of one {}.",
    "a close-up of the {}.",
    "a close-up photo of {}.",
    "a blurry photo of the {}.",
    "a dark photo of the {}.",
    "a bright photo of the {}.",
    "a grey photo of the {}.",
    "an image of the {} for inspection.",
    "a photo of the surface of the {}.",
)


def ensemble_sentences(object_name: str = "object") -> tuple[list[str], list[str]]:
    """Combine every state with every photo template.

    Args:
        object_name (`str`, *optional*, defaults to `"object"`): What the images show.

    Returns:
        `tuple[list[str], list[str]]`: sentences about the normal and about the damaged thing.

    Example:
    ```python
    >>> from anomalyclip_hf.prompt_ensemble_anomalyclip import ensemble_sentences

    >>> normal, abnormal = ensemble_sentences("screw")
    >>> normal[1], abnormal[1], len(normal)
    ('a photo of screw.', 'a photo of damaged screw.', 84)

    ```
    """

    def combine(states: tuple[str, ...]) -> list[str]:
        return [template.format(state.format(object_name)) for state in states for template in PHOTO_TEMPLATES]

    return combine(NORMAL_STATES), combine(ABNORMAL_STATES)


def check_ensemble_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that shape learned prompts and would do nothing here.

    Args:
        settings (`Mapping`): Arguments of [`AnomalyCLIPConfig`].

    Raises:
        ValueError: naming the setting.
    """
    for name in sorted(OF_LEARNED_PROMPTS):
        if settings.get(name) is not None:
            raise ValueError(
                f'{name} is {shorten(settings[name])}, but prompts="ensemble" has sentences of its own; leave it out, '
                'or use prompts="learned".'
            )


def check_sentences(config: Any, sentences: list[str], token_ids: list[Tensor]) -> None:
    """Refuse sentences that the text tower cannot read whole.

    Args:
        config ([`~transformers.CLIPTextConfig`]): Of the text tower.
        sentences (`list[str]`): For the error.
        token_ids (list of `torch.Tensor` of shape `(length,)`): Of each, with start and end of text.

    Raises:
        ValueError: naming the sentence that is too long, or that another CLIP's tokenizer has split.
    """
    for sentence, ids in zip(sentences, token_ids, strict=True):
        if len(ids) > config.max_position_embeddings:
            raise ValueError(
                f"{shorten(sentence)} has {len(ids)} tokens; the text tower has {config.max_position_embeddings} "
                "positions. Use a shorter object_name."
            )
        if ids.max() >= config.vocab_size:
            raise ValueError(
                f"the tokenizer gives {shorten(sentence)} the token id {ids.max()}; expected ids below "
                f"{config.vocab_size}, the vocabulary of the text tower. Is it the CLIP's own tokenizer?"
            )


__all__ = ["check_ensemble_settings", "check_sentences", "ensemble_sentences"]
