# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of AnomalyCLIP: a CLIP configuration plus prompts, DPAM and the selected layers."""

import math
import os
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .postprocessing_anomalyclip import LABELS


# "object ." and "damaged object ." in CLIP's own vocabulary, between start and end of text.
CLIP_VOCAB_SIZE = 49408
CLIP_NORMAL_TOKEN_IDS = [49406, 14115, 269, 49407]
CLIP_ABNORMAL_TOKEN_IDS = [49406, 13568, 14115, 269, 49407]

PAPER_IMAGE_SIZE = 518
PAPER_PROMPT_DEPTH = 9
MAX_IMAGE_SIDE = 4096  # pixels

# Settings that are never read from a stored configuration: the attention may name code on the Hub. References to code
# are kept only if this file was itself loaded from a model repository.
IS_REMOTE_CODE = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")
IGNORED_SETTINGS = {"attn_implementation", "experts_implementation"}
IGNORED_SETTINGS |= set() if IS_REMOTE_CODE else {"auto_map", "custom_pipelines"}

CLIP_SETTINGS = ("text_config", "vision_config", "projection_dim", "logit_scale_init_value", "initializer_factor")
BASE_MODEL_SETTINGS = ("base_model_name_or_path", "base_model_revision", "base_model_subfolder")
TOKEN_IDS = ("normal_token_ids", "abnormal_token_ids")


@strict
class AnomalyCLIPConfig(CLIPConfig):
    """Store the settings of an [`AnomalyCLIPModel`]; values of `None` are resolved from the CLIP.

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
            sentences, without training.
        num_prompt_tokens (`int`, *optional*, defaults to 12):
            Learnable vectors in front of the words of each prompt, at least 1.
        deep_prompt_depth (`int`, *optional*, defaults to 9):
            Text layers with learnable prompts, including the input: depth 9 means 8 layers in which hidden states
            are overwritten. From 1 (input only) to the number of text layers.
        num_deep_prompt_tokens (`int`, *optional*, defaults to 4):
            Learnable vectors per deep layer, at most `num_prompt_tokens`.
        object_name (`str`, *optional*, defaults to `"object"`):
            The word after the learnable vectors.
        normal_template (`str`, *optional*, defaults to `"{}"`), abnormal_template (`str`, defaults to `"damaged {}"`):
            The words around it; `{}` stands for the object's name.
        normal_token_ids (`list[int]`, *optional*), abnormal_token_ids (`list[int]`, *optional*):
            Token ids of these words with start and end of text, so that loading needs no tokenizer. They are known for
            the default words in CLIP's own vocabulary; [`AnomalyCLIPModel.from_clip_pretrained`] computes others.
        dpam_attention (`str`, *optional*, defaults to `"vv"`):
            Operands of the softmax in the local path: `"vv"` (the method), `"qq"` or `"kk"` (ablations).
        dpam_layers (`int`, *optional*):
            Number of last vision layers with a local path, from 0 (off). Resolved: 19 of 24, in proportion, rounded
            up.
        feature_layers (`list[int]`, *optional*):
            Vision layers selected for the anomaly map, counted from 1. Resolved: the last.
        image_size (`int` or `list[int]`, *optional*):
            Side or `[height, width]`, in pixels, to which the processor resizes; multiples of the patch, at most 4096.
            Resolved: the largest multiple of the patch up to 518.
        temperature (`float`, *optional*, defaults to 0.07):
            Divides every similarity before its softmax; greater than 0.
        pixel_loss_weight (`float`, *optional*, defaults to 4.0):
            Weight of the pixel loss; 0 leaves it out.
        image_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the image loss; 0 leaves it out.
        base_model_name_or_path (`str`, *optional*):
            Hub id or folder of the CLIP; loading a prompts-only checkpoint loads it too.
        base_model_revision (`str`, *optional*), base_model_subfolder (`str`, *optional*):
            Its commit, and the folder in its repository.

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

    prompts: Literal["learned", "ensemble"] = "learned"
    num_prompt_tokens: int = 12
    deep_prompt_depth: int = PAPER_PROMPT_DEPTH
    num_deep_prompt_tokens: int = 4
    object_name: str = "object"
    normal_template: str = "{}"
    abnormal_template: str = "damaged {}"
    normal_token_ids: list[int] | None = None
    abnormal_token_ids: list[int] | None = None
    dpam_attention: Literal["vv", "qq", "kk"] = "vv"
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
        super().__post_init__(**kwargs)
        self.id2label = dict(enumerate(LABELS))
        self.label2id = {label: index for index, label in enumerate(LABELS)}
        self._resolve()
        self.check()

    def _resolve(self) -> None:
        """Replace `None` by the value that fits the CLIP."""
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
            for name, known in zip(TOKEN_IDS, (CLIP_NORMAL_TOKEN_IDS, CLIP_ABNORMAL_TOKEN_IDS), strict=True):
                if getattr(self, name) is None:
                    setattr(self, name, list(known))

    def check(self) -> None:
        """Check that the settings fit each other and the CLIP.

        Raises:
            ValueError: If they do not. The message names the setting, its value and what is allowed.
        """
        self._check_layers()
        self._check_image_size()
        if self.prompts == "learned":
            self._check_prompt_sizes()
            self._check_token_ids()
        _require(
            0 < self.temperature < math.inf, "temperature", self.temperature, "a number above 0 (the paper: 0.07)"
        )
        for name in ("pixel_loss_weight", "image_loss_weight"):
            weight = getattr(self, name)
            _require(0 <= weight < math.inf, name, weight, "a number of at least 0")
        for name in ("base_model_revision", "base_model_subfolder"):
            path = getattr(self, name)
            _require(path is None or is_inside(path), name, path, "a name inside the repository")

    def _check_layers(self) -> None:
        layers = self.vision_config.num_hidden_layers
        dpam_layers: Any = self.dpam_layers
        _require(0 <= dpam_layers <= layers, "dpam_layers", dpam_layers, f"0 to {layers}, the vision layers")
        selected: Any = self.feature_layers
        fits = list(selected) == sorted(set(selected) & set(range(1, layers + 1))) and len(selected) > 0
        _require(fits, "feature_layers", selected, f"one or more ascending layers, counted from 1 to {layers}")

    def _check_image_size(self) -> None:
        patch, size = self.vision_config.patch_size, self.image_size
        sides: Any = [size, size] if isinstance(size, int) else size
        fits = len(sides) == 2 and all(patch <= side <= MAX_IMAGE_SIDE and side % patch == 0 for side in sides)
        expected = f"one side, or height and width: multiples of the patch size {patch}, at most {MAX_IMAGE_SIDE}"
        _require(fits, "image_size", size, expected)

    def _check_prompt_sizes(self) -> None:
        text_layers = self.text_config.num_hidden_layers
        tokens, depth, deep = self.num_prompt_tokens, self.deep_prompt_depth, self.num_deep_prompt_tokens
        _require(tokens >= 1, "num_prompt_tokens", tokens, "at least 1")
        expected = f"1 (no deep prompts) to {text_layers}, the text layers"
        _require(1 <= depth <= text_layers, "deep_prompt_depth", depth, expected)
        expected = f"0 to num_prompt_tokens ({tokens}), since more would overwrite the words"
        _require(0 <= deep <= tokens, "num_deep_prompt_tokens", deep, expected)

    def _check_token_ids(self) -> None:
        vocab_size, positions = self.text_config.vocab_size, self.text_config.max_position_embeddings
        for name in TOKEN_IDS:
            token_ids: Any = getattr(self, name)
            if token_ids is None:
                raise ValueError(
                    f"{name} is missing for the words {self.prompt_words} and a vocabulary of {vocab_size}; pass "
                    "token ids, or use AnomalyCLIPModel.from_clip_pretrained, which has the tokenizer."
                )
            fits = len(token_ids) >= 2 and all(0 <= token_id < vocab_size for token_id in token_ids)
            _require(fits, name, token_ids, f"start of text, words, end of text, each id below {vocab_size}")
            length = len(token_ids) + self.num_prompt_tokens
            expected = (
                f"at most {positions}, the positions of the text tower; use fewer prompt tokens or shorter words"
            )
            _require(length <= positions, f"the length of {name} and num_prompt_tokens", length, expected)

    @classmethod
    def from_clip_config(cls, clip_config: CLIPConfig, **overrides: Any) -> "AnomalyCLIPConfig":
        """Build the configuration of AnomalyCLIP from that of a CLIP.

        Args:
            clip_config ([`~transformers.CLIPConfig`]): The CLIP's own configuration.
            **overrides: Any argument of [`AnomalyCLIPConfig`].

        Returns:
            [`AnomalyCLIPConfig`]: with both towers of `clip_config`.
        """
        settings = {name: getattr(clip_config, name) for name in CLIP_SETTINGS}
        towers = {name: settings[name].to_dict() for name in cls.sub_configs}
        return cls(**{**settings, **towers, **overrides})

    def to_clip_config(self) -> CLIPConfig:
        """Return the CLIP's own configuration; its towers are shared with this one, not copied."""
        return CLIPConfig(**{name: getattr(self, name) for name in CLIP_SETTINGS})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a configuration as [`~transformers.PreTrainedConfig.from_pretrained`] does; errors name its source.

        Raises:
            OSError: If there is no `config.json`, or it cannot be fetched or read.
            ValueError: If it describes another type of model, a value has the wrong type, or settings contradict each
                other.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (StrictDataclassError, ValueError) as error:
            raise ValueError(f"{pretrained_model_name_or_path}: {' '.join(str(error).split())}") from error

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a stored configuration; a missing one, or that of another model, is an error.

        Raises:
            OSError: If there is no `config.json`, or it cannot be fetched or read.
            ValueError: If it describes another type of model.
        """
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:
            raise OSError(
                f"{pretrained_model_name_or_path} has no config.json, or an empty one; expected a folder or "
                "repository that save_pretrained has written."
            )
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"{pretrained_model_name_or_path} is a model of type {model_type!r:.100}, expected {cls.model_type}. "
                "A plain CLIP goes to AnomalyCLIPModel.from_clip_pretrained."
            )
        return config_dict, kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a configuration from stored settings; arguments of [`AnomalyCLIPConfig`] in `kwargs` override them.

        Raises:
            ValueError: If settings contradict each other, or words are overridden whose token ids or embeddings are
                stored.
            StrictDataclassError: If a value has the wrong type.
        """
        settings = _without(config_dict, IGNORED_SETTINGS)
        overrides = {name: kwargs.pop(name) for name in own_settings() & kwargs.keys()}
        _check_words(settings, overrides)
        base_model = {name: overrides.pop(name) for name in BASE_MODEL_SETTINGS if name in overrides}
        loaded = super().from_dict({**settings, **overrides}, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).set_base_model(**base_model)
        return loaded

    def set_base_model(
        self,
        base_model_name_or_path: str | None = None,
        base_model_revision: str | None = None,
        base_model_subfolder: str | None = None,
    ) -> None:
        """Set the CLIP of the prompts. `None` changes nothing, but another CLIP resets revision and subfolder.

        Args:
            base_model_name_or_path (`str`, *optional*): Hub id, or folder, which becomes an absolute path.
            base_model_revision (`str`, *optional*): Its commit, branch or tag.
            base_model_subfolder (`str`, *optional*): Its folder in the repository.
        """
        name = base_model_name_or_path
        if name is not None and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and os.path.isdir(name):
            name = os.path.abspath(name)  # so that prompts saved elsewhere find it
        if name not in (None, self.base_model_name_or_path):
            self.base_model_name_or_path = name
            self.base_model_revision = self.base_model_subfolder = None
        self.base_model_revision = base_model_revision or self.base_model_revision
        self.base_model_subfolder = base_model_subfolder or self.base_model_subfolder
        self.check()

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, to which the processor resizes."""
        size: Any = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def dual_path(self) -> dict[str, Any]:
        """The settings of [`encode_image`]: `dpam_layers`, `feature_layers` and `dpam_attention`."""
        self._check_layers()  # an attribute may have been assigned since
        return {name: getattr(self, name) for name in ("dpam_layers", "feature_layers", "dpam_attention")}

    @property
    def prompt_words(self) -> tuple[str, str]:
        """The words after the learnable vectors: normal, abnormal."""
        for name in ("normal_template", "abnormal_template"):
            _require(getattr(self, name).count("{}") == 1, name, getattr(self, name), "one {} for the object's name")
        normal, abnormal = (
            template.replace("{}", self.object_name) for template in (self.normal_template, self.abnormal_template)
        )
        return f"{normal}.", f"{abnormal}."


def own_settings() -> set[str]:
    """Return the names of the settings that [`AnomalyCLIPConfig`] adds to those of a CLIP."""
    return {name for name in AnomalyCLIPConfig.__annotations__ if not name.startswith("keys_")}


def is_inside(path: str) -> bool:
    """Return whether a path, with forward or backward slashes, stays below the folder that it is relative to."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and not PureWindowsPath(path).drive


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r:.100}; expected {expected}.")


def _without(settings: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Copy settings without some names, at any depth."""
    kept = {name: value for name, value in settings.items() if name not in names}
    return {name: _without(value, names) if isinstance(value, dict) else value for name, value in kept.items()}


def _check_words(stored: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Refuse new words if the token ids or embeddings of the prompts are stored."""
    has_token_ids = stored.get("prompts", "learned") == "learned" and overrides.keys() >= set(TOKEN_IDS)
    for name in ("object_name", "normal_template", "abnormal_template"):
        default = getattr(AnomalyCLIPConfig, name)
        if name in overrides and overrides[name] != stored.get(name, default) and not has_token_ids:
            raise ValueError(
                f"{name} is {overrides[name]!r:.100}, expected {stored.get(name, default)!r:.100}: the prompts are "
                f"stored for these words. Make others with AnomalyCLIPModel.from_clip_pretrained(..., {name}=...)."
            )


# ----------------------------------------------------------------------------------------- the ensemble's sentences

# State words are combined with photo templates as in WinCLIP (Jeong et al., CVPR 2023) and in the CLIP-AC baseline of
# the AnomalyCLIP paper. The words are our own.
NORMAL_STATES = (
    *("{}", "intact {}", "flawless {}", "clean {}", "undamaged {}", "{} in good condition", "{} without any defect"),
)
ABNORMAL_STATES = (
    *("damaged {}", "defective {}", "broken {}", "flawed {}", "{} in bad condition", "{} with a defect"),
    "{} with damage",
)
PHOTO_TEMPLATES = (
    *("{}.", "a photo of {}.", "a photo of the {}.", "a picture of one {}.", "a close-up of the {}."),
    *("a close-up photo of {}.", "a blurry photo of the {}.", "a dark photo of the {}."),
    *("a bright photo of the {}.", "a grey photo of the {}.", "an image of the {} for inspection."),
    "a photo of the surface of the {}.",
)


def ensemble_sentences(object_name: str = "object") -> tuple[list[str], list[str]]:
    """Return sentences that combine every state with every photo template.

    Args:
        object_name (`str`, *optional*, defaults to `"object"`): What the images show.

    Returns:
        `tuple[list[str], list[str]]`: sentences about the normal and about the damaged thing.

    Example:
    ```python
    >>> from anomalyclip_hf.configuration_anomalyclip import ensemble_sentences

    >>> normal, abnormal = ensemble_sentences("screw")
    >>> normal[1], abnormal[1], len(normal)
    ('a photo of screw.', 'a photo of damaged screw.', 84)

    ```
    """
    normal, abnormal = (
        [photo.replace("{}", state.replace("{}", object_name)) for state in states for photo in PHOTO_TEMPLATES]
        for states in (NORMAL_STATES, ABNORMAL_STATES)
    )
    return normal, abnormal


__all__ = ["AnomalyCLIPConfig", "ensemble_sentences"]
