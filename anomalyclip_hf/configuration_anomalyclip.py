# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of AnomalyCLIP: a CLIP configuration plus prompts, DPAM and the layers tapped for the anomaly map."""

import math
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .hub_files_anomalyclip import pin_commit
from .limits_anomalyclip import (
    check_clip_settings,
    check_input_size,
    check_inside,
    check_parameters,
    check_patches,
    check_text,
    fill,
    is_number,
    one_line,
    read_json,
    shorten,
    show_name,
)


# "object ." and "damaged object ." in CLIP's own vocabulary, between start and end of text.
CLIP_VOCAB_SIZE = 49408
CLIP_NORMAL_TOKEN_IDS = [49406, 14115, 269, 49407]
CLIP_ABNORMAL_TOKEN_IDS = [49406, 13568, 14115, 269, 49407]

PAPER_IMAGE_SIZE = 518
PAPER_PROMPT_DEPTH = 9
PROMPT_KINDS = ("learned", "ensemble")
# Where this file is a model repository's own copy, transformers needs these; the installed package is code enough.
IS_REMOTE_CODE = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")
REMOTE_CODE_SETTINGS = () if IS_REMOTE_CODE else ("auto_map", "custom_pipelines")
DPAM_ATTENTIONS = ("vv", "qq", "kk")
# Learned prompts are stored for the tokens of these words, embeddings of an ensemble for its object's name.
WORDS = {"object_name", "normal_template", "abnormal_template"}
TOKEN_IDS = {"normal_token_ids", "abnormal_token_ids"}
PROMPT_SIZES = {"num_prompt_tokens", "deep_prompt_depth", "num_deep_prompt_tokens"}
OF_LEARNED_PROMPTS = (WORDS - {"object_name"}) | TOKEN_IDS | PROMPT_SIZES
BASE_MODEL = ("base_model_name_or_path", "base_model_revision", "base_model_subfolder")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CLIP_SETTINGS = ("text_config", "vision_config", "projection_dim", "logit_scale_init_value", "initializer_factor")
# Least, most, and what the paper takes.
NUMBER_RANGES = (("temperature", 1e-6, 1e6, 0.07), ("pixel_loss_weight", 0, 1e6, 4), ("image_loss_weight", 0, 1e6, 1))


@strict
class AnomalyCLIPConfig(CLIPConfig):
    """Settings of an [`AnomalyCLIPModel`]; values left at `None` are resolved from the CLIP that is configured.

    Defaults follow the paper (arXiv 2310.18961, section 4 and appendix) for ViT-L/14@336.

    Args:
        text_config (`dict` or [`~transformers.CLIPTextConfig`], *optional*):
            Text tower of the CLIP.
        vision_config (`dict` or [`~transformers.CLIPVisionConfig`], *optional*):
            Vision tower of the CLIP. Its `image_size` is the stored grid of positions, in pixels, not the input size.
        projection_dim (`int`, *optional*, defaults to 512):
            Size of the joint embedding space.
        prompts (`str`, *optional*, defaults to `"learned"`):
            `"learned"`: two learnable, object-agnostic prompts. `"ensemble"`: the mean embeddings of hand-written
            sentences, nothing to train.
        num_prompt_tokens (`int`, *optional*, defaults to 12):
            Learnable vectors in front of the words of each prompt, at least 1.
        deep_prompt_depth (`int`, *optional*, defaults to 9):
            Text layers with learnable prompts, counting the input: depth 9 means 8 layers where hidden states are
            overwritten. From 1 (input only) to the number of text layers.
        num_deep_prompt_tokens (`int`, *optional*, defaults to 4):
            Learnable vectors per deep layer, at most `num_prompt_tokens`.
        object_name (`str`, *optional*, defaults to `"object"`):
            What the learnable vectors are followed by.
        normal_template (`str`, *optional*, defaults to `"{}"`), abnormal_template (`str`, defaults to `"damaged {}"`):
            The words around it; `{}` stands for the object's name.
        normal_token_ids (`list[int]`, *optional*), abnormal_token_ids (`list[int]`, *optional*):
            Token ids of these words with start and end of text, so that loading needs no tokenizer. Known for the
            default words in CLIP's own vocabulary; [`AnomalyCLIPModel.from_clip_pretrained`] fills in others.
        dpam_attention (`str`, *optional*, defaults to `"vv"`):
            Operands of the softmax in the local path: `"vv"` (the method), `"qq"` or `"kk"` (ablations).
        dpam_layers (`int`, *optional*):
            Number of last vision layers with a local path, from 0 (off). Resolved: 19 of 24, in proportion, rounded
            up.
        feature_layers (`list[int]`, *optional*):
            Vision layers tapped for the anomaly map, counted from 1. Resolved: the last.
        image_size (`int` or `list[int]`, *optional*):
            Side or `[height, width]`, in pixels, to which the processor resizes; multiples of the patch. Resolved: the
            largest multiple of the patch up to 518.
        temperature (`float`, *optional*, defaults to 0.07):
            Divides every similarity before its softmax; greater than 0.
        pixel_loss_weight (`float`, *optional*, defaults to 4.0):
            Weight of the pixel loss against the image loss; 0 leaves it out.
        image_loss_weight (`float`, *optional*, defaults to 1.0): Weight of the image loss; 0 leaves it out.
        base_model_name_or_path (`str`, *optional*):
            The CLIP under the prompts, a Hub id or folder; what a prompts-only checkpoint loads.
        base_model_revision (`str`, *optional*), base_model_subfolder (`str`, *optional*):
            Its commit and the folder in its repository.

    Raises:
        ValueError: If settings contradict each other; the message names the setting, its value and what is allowed.
        StrictDataclassError: If a setting is of another type; from `huggingface_hub.errors`.

    Example:
    ```python
    >>> from anomalyclip_hf import AnomalyCLIPConfig

    >>> config = AnomalyCLIPConfig(vision_config={"num_hidden_layers": 24, "patch_size": 14})
    >>> config.dpam_layers, config.feature_layers, config.image_size
    (19, [24], 518)

    ```
    """

    model_type = "anomalyclip"

    prompts: str = "learned"
    num_prompt_tokens: int = 12
    deep_prompt_depth: int = PAPER_PROMPT_DEPTH
    num_deep_prompt_tokens: int = 4
    object_name: str = "object"
    normal_template: str = "{}"
    abnormal_template: str = "damaged {}"
    normal_token_ids: list[int] | None = None
    abnormal_token_ids: list[int] | None = None
    dpam_attention: str = "vv"
    dpam_layers: int | None = None
    feature_layers: list[int] | tuple[int, ...] | None = None
    image_size: int | list[int] | tuple[int, int] | None = None
    temperature: float | int = 0.07
    pixel_loss_weight: float | int = 4.0
    image_loss_weight: float | int = 1.0
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_model_subfolder: str | None = None

    # Scores and maps are what an evaluation needs; embeddings of all patches would fill memory.
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("image_loss", "pixel_loss", "image_logits", "text_embeds", "image_embeds", "patch_embeds")
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        check_clip_settings({**vars(self), **kwargs}, type(self))
        super().__post_init__(**kwargs)
        self.resolve()

    @classmethod
    def from_clip_config(cls, clip_config: CLIPConfig, **overrides: Any) -> "AnomalyCLIPConfig":
        """Build the configuration of AnomalyCLIP on top of a CLIP.

        Args:
            clip_config ([`~transformers.CLIPConfig`]): The CLIP's own configuration.
            **overrides: Any argument of [`AnomalyCLIPConfig`].

        Returns:
            [`AnomalyCLIPConfig`]: with both towers of `clip_config`.
        """
        settings = {name: getattr(clip_config, name) for name in CLIP_SETTINGS}
        towers = {name: settings[name].to_dict() for name in cls.sub_configs}
        return cls(**{**settings, **towers, **overrides})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """As for any configuration; what contradicts itself is named together with where it is stored.

        Raises:
            OSError: As for `get_config_dict`.
            ValueError: As for `get_config_dict` and `from_dict`.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except ValueError as error:
            source = show_name(str(pretrained_model_name_or_path))
            if source in str(error):
                raise
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As for any configuration, but none, or another model's, is refused instead of filled up with defaults.

        Raises:
            OSError: If there is no `config.json`, or it cannot be fetched or read, or is damaged.
            ValueError: If what is stored there describes another type of model.
        """
        kwargs = pin_commit(pretrained_model_name_or_path, kwargs)
        kwargs.pop("force_download", None)  # done, and checked
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:
            raise OSError(
                f"{pretrained_model_name_or_path} holds no config.json, or an empty one; expected a folder or "
                "repository that save_pretrained has written."
            )
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"{pretrained_model_name_or_path} is a model of type {show_name(model_type)}, expected "
                f"{cls.model_type}. A plain CLIP goes to AnomalyCLIPModel.from_clip_pretrained."
            )
        return config_dict, kwargs

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        return cls._decode_special_floats(read_json(json_file))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As for any configuration, with one line for a value of the wrong type.

        Raises:
            ValueError: If a value has the wrong type, or settings contradict each other.
        """
        config_dict = {name: value for name, value in config_dict.items() if name not in REMOTE_CODE_SETTINGS}
        overrides = {name: kwargs.pop(name) for name in own_settings() & kwargs.keys()}
        try:
            loaded = super().from_dict(config_dict, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"config.json does not hold a valid configuration: {one_line(error)}") from error
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        config.override(overrides)
        return loaded

    def override(self, settings: Mapping[str, Any]) -> None:
        """Change settings of a stored configuration, and see that it still fits together.

        Args:
            settings (`Mapping`): Any argument of [`AnomalyCLIPConfig`] but the towers' that acts on stored prompts.

        Raises:
            ValueError: If a value makes no sense, or words are given whose tokens or embeddings are stored already.
        """
        for name in WORDS & settings.keys():
            acts = self.prompts == "learned" and settings.keys() >= TOKEN_IDS
            if settings[name] != getattr(self, name) and not acts:
                raise ValueError(
                    f"{name} is {shorten(settings[name])}, expected {shorten(getattr(self, name))}: the prompts are "
                    f"stored for these words. Make others with AnomalyCLIPModel.from_clip_pretrained(..., {name}=...)."
                )
        base_model = settings.get("base_model_name_or_path")
        is_id = HUB_ID.fullmatch(str(base_model)) is not None
        if base_model is not None and not is_id and os.path.isdir(base_model):
            base_model = os.path.abspath(base_model)  # prompts saved elsewhere must find it again
            settings = {**settings, "base_model_name_or_path": base_model}
        if base_model not in (None, self.base_model_name_or_path):
            self.base_model_revision = self.base_model_subfolder = None  # of another repository
        for name, value in settings.items():
            try:
                setattr(self, name, value)
            except StrictDataclassError as error:
                raise ValueError(f"{name} is {shorten(value)}: {one_line(error)}") from error
        self.resolve()

    def to_clip_config(self) -> CLIPConfig:
        """The CLIP's own configuration; its towers are shared with this one, not copied."""
        return CLIPConfig(**{name: getattr(self, name) for name in CLIP_SETTINGS})

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, to which the processor resizes."""
        size: Any = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def dual_path(self) -> dict[str, Any]:
        """What [`encode_image`] needs to know: `dpam_layers`, `feature_layers` and `dpam_attention`."""
        self._check_layers()  # one may have been assigned since
        return {name: getattr(self, name) for name in ("dpam_layers", "feature_layers", "dpam_attention")}

    @property
    def prompt_words(self) -> tuple[str, str]:
        """The words after the learnable vectors: normal, abnormal."""
        normal, abnormal = (fill(words, self.object_name) for words in (self.normal_template, self.abnormal_template))
        return f"{normal}.", f"{abnormal}."

    def resolve(self) -> None:
        """Give what is left at `None` the value that fits the CLIP, and check all.

        Raises:
            ValueError: naming the setting, its value and what is allowed.
        """
        self._check_texts()
        layers, patch = self.vision_config.num_hidden_layers, self.vision_config.patch_size
        if self.dpam_layers is None:
            self.dpam_layers = math.ceil(19 * layers / 24)
        self.feature_layers = [layers] if self.feature_layers is None else sorted(set(self.feature_layers))
        if self.image_size is None:
            self.image_size = max(patch, PAPER_IMAGE_SIZE // patch * patch)
        elif not isinstance(self.image_size, int):
            self.image_size = list(self.image_size)
        has_default_words = self.prompt_words == ("object.", "damaged object.")
        if has_default_words and self.text_config.vocab_size == CLIP_VOCAB_SIZE:
            normal, abnormal = self.normal_token_ids, self.abnormal_token_ids
            self.normal_token_ids = list(CLIP_NORMAL_TOKEN_IDS) if normal is None else normal
            self.abnormal_token_ids = list(CLIP_ABNORMAL_TOKEN_IDS) if abnormal is None else abnormal
        self.check()

    def check(self) -> None:
        """Check that the settings fit each other and the CLIP.

        Raises:
            ValueError: naming the setting, its value and what is allowed.
        """
        self._check_texts()
        self._check_layers()
        patch = self.vision_config.patch_size
        check_input_size(self.image_size, patch)
        check_patches((self.vision_config.image_size,) * 2, patch, "vision_config.image_size")
        check_parameters(self.text_config, self.vision_config)
        if self.prompts not in PROMPT_KINDS:
            raise ValueError(f"prompts is {shorten(self.prompts)}; expected one of {', '.join(PROMPT_KINDS)}.")
        if self.prompts == "learned":
            self._check_prompt_sizes()
            self._check_token_ids()
        for name, least, most, papers in NUMBER_RANGES:
            value = getattr(self, name)
            if not (is_number(value) and least <= value <= most):
                raise ValueError(
                    f"{name} is {shorten(value)}; expected a number from {least:g} to {most:g} (the paper: {papers})."
                )

    def _check_texts(self) -> None:
        for name in ("object_name", "normal_template", "abnormal_template", "base_model_name_or_path"):
            check_text(getattr(self, name), name)
        for name in BASE_MODEL[1:]:  # the Hub's client makes paths of them
            if getattr(self, name):
                check_inside(getattr(self, name), "the configuration", name)

    def _check_layers(self) -> None:
        layers = self.vision_config.num_hidden_layers
        if self.dpam_attention not in DPAM_ATTENTIONS:
            raise ValueError(
                f"dpam_attention is {shorten(self.dpam_attention)}; expected one of {', '.join(DPAM_ATTENTIONS)}."
            )
        dpam_layers: Any = self.dpam_layers
        if not 0 <= dpam_layers <= layers:
            raise ValueError(
                f"dpam_layers is {shorten(self.dpam_layers)}; expected 0 to {layers}, the layers of the vision tower."
            )
        feature_layers: Any = self.feature_layers
        ascending = feature_layers and list(feature_layers) == sorted(set(feature_layers))
        if not ascending or not (feature_layers[0] >= 1 and feature_layers[-1] <= layers):
            raise ValueError(
                f"feature_layers is {shorten(feature_layers)}; expected one or more ascending layers, counted from 1 "
                f"to {layers}."
            )

    def _check_prompt_sizes(self) -> None:
        text_layers = self.text_config.num_hidden_layers
        if self.num_prompt_tokens < 1:
            raise ValueError(f"num_prompt_tokens is {shorten(self.num_prompt_tokens)}; expected at least 1.")
        if not 1 <= self.deep_prompt_depth <= text_layers:
            raise ValueError(
                f"deep_prompt_depth is {shorten(self.deep_prompt_depth)}; expected 1 (no deep prompts) to "
                f"{text_layers}, the layers of the text tower."
            )
        if not 0 <= self.num_deep_prompt_tokens <= self.num_prompt_tokens:
            raise ValueError(
                f"num_deep_prompt_tokens is {shorten(self.num_deep_prompt_tokens)}; expected 0 to num_prompt_tokens "
                f"({shorten(self.num_prompt_tokens)}), since more would overwrite the words."
            )

    def _check_token_ids(self) -> None:
        vocab_size = self.text_config.vocab_size
        longest_text = self.text_config.max_position_embeddings
        for name in ("normal_token_ids", "abnormal_token_ids"):
            token_ids = getattr(self, name)
            if token_ids is None:
                raise ValueError(
                    f"{name} is missing for the words {self.prompt_words} and a vocabulary of {vocab_size}; pass "
                    "token ids, or use AnomalyCLIPModel.from_clip_pretrained, which has the tokenizer."
                )
            if len(token_ids) < 2 or not all(0 <= token_id < vocab_size for token_id in token_ids):
                raise ValueError(
                    f"{name} is {shorten(token_ids)}; expected start of text, words, end of text, each id below "
                    f"{vocab_size}."
                )
            positions = len(token_ids) + self.num_prompt_tokens
            if positions > longest_text:
                raise ValueError(
                    f"{name} and num_prompt_tokens make {shorten(positions)} positions; the text tower has "
                    f"{longest_text}. Use fewer prompt tokens or shorter words."
                )


def own_settings() -> set[str]:
    """Names of the settings that [`AnomalyCLIPConfig`] adds to those of a CLIP."""
    return {name for name in AnomalyCLIPConfig.__annotations__ if not name.startswith("keys_")}


__all__ = ["AnomalyCLIPConfig", "own_settings"]
