# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Convert published checkpoints: OpenAI's CLIP files and the AnomalyCLIP authors' prompt files.

Pickles are read with `weights_only=True`, so that they cannot run code. OpenAI's own files are TorchScript archives,
which can run code. They are opened only if OpenAI publishes their SHA-256, or if the caller trusts the file.
"""

import hashlib
import io
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel
from transformers.utils import logging

from ..configuration_anomalyclip import AnomalyCLIPConfig
from ..loading_anomalyclip import load_tokenizer
from ..modeling_anomalyclip import AnomalyCLIPModel


# SHA-256 of the vision transformers that OpenAI publishes (part of each download URL), and their Hub ids.
OPENAI_CLIP_FILES = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "openai/clip-vit-base-patch32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "openai/clip-vit-base-patch16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "openai/clip-vit-large-patch14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "openai/clip-vit-large-patch14-336",
}
# OpenAI's names and those of transformers; `{n}` is the layer, `{p}` is weight or bias. OpenAI stores projections
# transposed, and q, k and v in one tensor.
OPENAI_TO_CLIP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.{p}": "vision_model.pre_layrnorm.{p}",
    "visual.ln_post.{p}": "vision_model.post_layernorm.{p}",
    "visual.transformer.resblocks.{n}": "vision_model.encoder.layers.{n}",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.{p}": "text_model.final_layer_norm.{p}",
    "transformer.resblocks.{n}": "text_model.encoder.layers.{n}",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
LAYER_PARTS = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
LAYER_PARTS |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
TRANSPOSED = ("visual.proj", "text_projection")
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
HEAD_SIZE = 64  # of every vision transformer that OpenAI published
MAX_WIDTH = 1024  # the largest width of these; wider towers come from OpenCLIP and have other heads

# Names in a published prompt file: the learned deep prompts, and tensors that the method does not use.
DEEP_PROMPT = re.compile(r"compound_prompts_text\.(\d+)")
PROMPT_LEFTOVERS = re.compile(
    r"(compound_prompt_projections\..*|token_(prefix|suffix)_(pos|neg)|tokenized_prompts_(pos|neg))"
)

State = Mapping[str, Tensor]

logger = logging.get_logger(__name__)


def convert_original_checkpoint(
    clip: str | os.PathLike | State,
    prompts: str | os.PathLike | Mapping[str, Any] | None,
    *,
    feature_layers: list[int] | None = None,
    dpam_layers: int | None = None,
    image_size: int | list[int] | None = None,
    trust_torchscript: bool = False,
) -> AnomalyCLIPModel:
    """Convert published weights; all sizes (width, layers, patch, prompt lengths, depth) are read from the shapes.

    Args:
        clip (`str`, `os.PathLike` or `Mapping`):
            OpenAI's CLIP as `.pt` (TorchScript archive or plain state dict) or `.safetensors`, a state dict with
            OpenAI's names, or a Hub id or folder that transformers loads. Tensors do not show the activation and the
            number of heads: those of OpenAI's CLIPs are assumed, with a warning if the file is not one of them.
        prompts (`str`, `os.PathLike`, `Mapping` or `None`):
            A published `.pth` of the prompt learner or its content; `None` for new prompts.
        feature_layers (`list[int]`, *optional*): Selected vision layers; 24 of 24 for the published checkpoints.
        dpam_layers (`int`, *optional*): Last layers with a local path; 19 of 24 for the published checkpoints.
        image_size (`int` or `list[int]`, *optional*): Input size in pixels; 518 for the published checkpoints.
        trust_torchscript (`bool`, *optional*, defaults to `False`):
            Open a TorchScript archive whose SHA-256 OpenAI does not publish. It can run code.

    Returns:
        [`AnomalyCLIPModel`]: float32, in evaluation mode.

    Raises:
        FileNotFoundError: If a file is missing.
        OSError: If a file is damaged, or contains more than tensors.
        ValueError: If tensors are missing, unexpected or do not fit. The message names the tensor, its shape and the
            expected one.

    Example:
    ```python
    >>> from anomalyclip_hf import convert_original_checkpoint

    >>> model = convert_original_checkpoint("ViT-L-14-336px.pt", "epoch_15.pth")  # doctest: +SKIP
    >>> model.save_pretrained("anomalyclip-vit-large-patch14-336")  # doctest: +SKIP

    ```
    """
    settings: dict[str, Any] = {"feature_layers": feature_layers, "dpam_layers": dpam_layers, "image_size": image_size}
    name = "the state dict" if isinstance(clip, Mapping) else str(clip)
    if prompts is None:
        return _load_clip(clip, name, settings, trust_torchscript)
    source = "the prompts" if isinstance(prompts, Mapping) else str(prompts)
    tensors = _prompt_tensors(prompts, source)
    try:
        model = _load_clip(clip, name, settings | _prompt_sizes(tensors), trust_torchscript)
        _fill_prompts(model, tensors)
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{source}, on this CLIP: {error}") from error
    return model


def _load_clip(
    clip: str | os.PathLike | State, name: str, settings: dict[str, Any], trust_torchscript: bool
) -> AnomalyCLIPModel:
    """Add new prompts to a CLIP in either layout; `name` is its name in errors."""
    if isinstance(clip, Mapping):
        state, base_model = clip, None
    elif Path(clip).is_file():
        state, base_model = _read_clip_file(Path(clip), trust_torchscript)
    elif Path(clip).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise FileNotFoundError(f"{clip} does not exist; expected a CLIP file, a folder or a Hub id.")
    else:
        return AnomalyCLIPModel.from_clip_pretrained(str(clip), dtype=torch.float32, **settings)
    if base_model is None:
        # OpenCLIP names its tensors as OpenAI does, and no shape tells them apart.
        logger.warning(
            "%s is not a file that OpenAI publishes; its activation (quick_gelu) and heads (%d channels) are taken to "
            "be those of OpenAI's. Weights of OpenCLIP mostly have others: convert these from transformers' layout.",
            name,
            HEAD_SIZE,
        )

    def load_openai_tokenizer() -> Any:
        return load_tokenizer("openai/clip-vit-base-patch32")  # all of OpenAI's share one

    settings = {**settings, "base_model_name_or_path": base_model}
    return AnomalyCLIPModel.from_clip(_clip_from_openai(state, name), load_openai_tokenizer, **settings)


# -------------------------------------------------------------------------------------------------------------- files


def _read_clip_file(path: Path, trust_torchscript: bool) -> tuple[State, str | None]:
    """Read a CLIP's state dict, and the Hub id of the same weights where OpenAI publishes them."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path), None
        except SafetensorError as error:
            raise OSError(f"{path} is damaged or cut short ({error}); download it again.") from error
    if not _is_torchscript(path):
        return _load_pickle(path), None
    content = path.read_bytes()  # read once, so that the opened content is the hashed one
    digest = hashlib.sha256(content).hexdigest()
    base_model = OPENAI_CLIP_FILES.get(digest)
    if base_model is None and not trust_torchscript:
        raise OSError(
            f"{path} is a TorchScript archive, which can run code, and OpenAI does not publish its SHA-256 {digest}. "
            "Download it again, or pass --trust-torchscript (trust_torchscript=True) if you trust it."
        )
    try:
        return torch.jit.load(io.BytesIO(content), map_location="cpu").state_dict(), base_model
    except RuntimeError as error:
        raise OSError(f"{path} is a damaged TorchScript archive; download it again.") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise OSError(f"{path} is damaged or cut short; download it again.") from error


def _load_pickle(path: Path) -> Mapping[str, Any]:
    """Read a `torch.save` file that contains only tensors, numbers, strings and containers of them."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {problem}; expected a file written by torch.save.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for what it refuses
        raise OSError(
            f"{path} cannot be read: it is damaged, or holds more than tensors, so that reading it could run code. "
            "Download it again, or ask its author for safetensors."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    nested = content.get("state_dict")
    return nested if isinstance(nested, Mapping) else content


# --------------------------------------------------------------------------------------------------------------- CLIP


def _clip_from_openai(state: State, source: str) -> CLIPModel:
    state = _check_tensors({name: value for name, value in state.items() if name not in NOT_WEIGHTS}, source)
    config = _clip_config(state, source).to_clip_config()
    with torch.device("meta"):
        clip = CLIPModel(config)
    expected = {name: parameter.shape for name, parameter in clip.named_parameters()}
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for new_name, part in _rename(name, tensor, source):
            if new_name in expected and part.shape != expected[new_name]:
                raise ValueError(
                    f"{source}: {name!r:.200} gives {new_name} of shape {tuple(part.shape)}, expected "
                    f"{tuple(expected[new_name])} by the other tensors. Is this file one checkpoint, unchanged?"
                )
            converted[new_name] = part.float().contiguous()
    for problem, names in (("lacks", expected.keys() - converted), ("has unexpected", converted.keys() - expected)):
        if names:
            name = min(names)
            shape = tuple(expected[name] if name in expected else converted[name].shape)
            raise ValueError(f"{source} {problem} {len(names)} tensors, the first is {name!r:.200} of shape {shape}.")
    clip = clip.to_empty(device="cpu")
    clip.load_state_dict(converted, strict=True)
    _restore_position_ids(clip)
    return clip


def _check_tensors(state: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """Check that a state dict contains only named, finite tensors."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{source}: {name!r:.200} is a {type(value).__name__}; expected tensors under their names."
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{source}: {name!r:.200} of shape {tuple(value.shape)} holds NaN or infinite values.")
    return dict(state)


def _restore_position_ids(clip: CLIPModel) -> None:
    """Set the position ids, which no checkpoint stores and `to_empty` leaves without values."""
    for embeddings in (clip.text_model.embeddings, clip.vision_model.embeddings):
        embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]


def _rename(name: str, tensor: Tensor, source: str) -> list[tuple[str, Tensor]]:
    """Return the transformers name and the tensor of an OpenAI tensor, or three for q, k and v in one tensor."""
    if name in TRANSPOSED:
        return [(OPENAI_TO_CLIP[name], tensor.T)]
    if name in OPENAI_TO_CLIP:
        return [(OPENAI_TO_CLIP[name], tensor)]
    stem, _, kind = name.rpartition(".")
    if f"{stem}.{{p}}" in OPENAI_TO_CLIP:
        return [(OPENAI_TO_CLIP[f"{stem}.{{p}}"].format(p=kind), tensor)]
    layer = re.fullmatch(r"((?:visual\.)?transformer\.resblocks)\.(\d+)\.(.+?)[._](weight|bias)", name)
    if layer is None:
        raise ValueError(
            f"{source}: unexpected tensor {name!r:.200} of shape {tuple(tensor.shape)}; expected the names of "
            "OpenAI's vision transformers. A checkpoint in transformers' layout is converted from its folder."
        )
    prefix, number, part, kind = layer.groups()
    target = OPENAI_TO_CLIP[f"{prefix}.{{n}}"].format(n=number)
    if part == "attn.in_proj":
        return [(f"{target}.self_attn.{p}_proj.{kind}", t) for p, t in zip("qkv", tensor.chunk(3), strict=False)]
    return [(f"{target}.{LAYER_PARTS.get(part, part)}.{kind}", tensor)]


def _clip_config(state: State, source: str) -> AnomalyCLIPConfig:
    """Read the sizes of a CLIP from the shapes of a few tensors."""
    vision_width, _, _, patch_size = _shape(state, "visual.conv1.weight", 4, source)
    positions = _shape(state, "visual.positional_embedding", 2, source)[0]
    if positions < 2:
        raise ValueError(
            f"{source}: visual.positional_embedding has {positions} rows; expected 1 and a square number."
        )
    vocab_size, text_width = _shape(state, "token_embedding.weight", 2, source)
    vision = {"patch_size": patch_size, "image_size": math.isqrt(positions - 1) * patch_size}
    text = {"vocab_size": vocab_size, "max_position_embeddings": _shape(state, "positional_embedding", 2, source)[0]}
    vision |= _tower_sizes(state, "visual.transformer.resblocks", vision_width, source)
    text |= _tower_sizes(state, "transformer.resblocks", text_width, source)
    projection_dim = _shape(state, "text_projection", 2, source)[1]
    try:
        # An ensemble needs no token ids, whatever the vocabulary.
        return AnomalyCLIPConfig(
            prompts="ensemble", projection_dim=projection_dim, vision_config=vision, text_config=text
        )
    except ValueError as error:
        raise ValueError(f"{source} has sizes that no CLIP has: {error}") from error


def _shape(state: State, name: str, dimensions: int, source: str) -> tuple[int, ...]:
    if name not in state and any(key.startswith(("text_model.", "vision_model.")) for key in state):
        raise ValueError(f"{source} is in transformers' layout; name the folder of the CLIP, with its config.json.")
    if name not in state:
        raise ValueError(f"{source} lacks {name}; expected the state dict of one of OpenAI's vision transformers.")
    if state[name].ndim != dimensions:
        raise ValueError(f"{source}: {name} has shape {tuple(state[name].shape)}, expected {dimensions} dimensions.")
    return tuple(state[name].shape)


def _tower_sizes(state: State, prefix: str, width: int, source: str) -> dict[str, int]:
    numbers = {name.split(".")[prefix.count(".") + 1] for name in state if name.startswith(prefix + ".")}
    if not numbers:
        raise ValueError(f"{source} lacks {prefix}.0; expected at least one layer.")
    if width > MAX_WIDTH:
        raise ValueError(
            f"{source} has a tower of width {width}, wider than OpenAI's ({MAX_WIDTH}), so it has heads and an "
            "activation that its tensors do not tell; convert the same CLIP from transformers' layout."
        )
    if width % HEAD_SIZE:
        raise ValueError(f"{source} has a tower of width {width}; expected a multiple of the head size {HEAD_SIZE}.")
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": len(numbers),
        "num_attention_heads": width // HEAD_SIZE,
    }


# ------------------------------------------------------------------------------------------------------------ prompts


def _prompt_tensors(prompts: str | os.PathLike | Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """Return the learned tensors of a published prompt file; unknown tensors are an error."""
    content = prompts if isinstance(prompts, Mapping) else _load_pickle(Path(prompts))
    content = content.get("prompt_learner", content)
    if not isinstance(content, Mapping):
        raise ValueError(f"{source}: prompt_learner is a {type(content).__name__}; expected a state dict.")
    learned = {name: tensor for name, tensor in content.items() if not PROMPT_LEFTOVERS.fullmatch(str(name))}
    tensors = _check_tensors(learned, source)
    for name in ("ctx_pos", "ctx_neg"):
        if name not in tensors:
            raise ValueError(f"{source} lacks {name}; expected a published prompt_learner checkpoint of AnomalyCLIP.")
        shape = tuple(tensors[name].shape)
        if len(shape) < 2 or any(side != 1 for side in shape[:-2]):
            raise ValueError(f"{source}: {name} has shape {shape}, expected (1, 1, tokens, width).")
    width = tensors["ctx_pos"].shape[-1]
    numbers = sorted(int(match[1]) for name in tensors if (match := DEEP_PROMPT.fullmatch(name)))
    if numbers != list(range(len(numbers))):
        raise ValueError(
            f"{source}: the deep prompts are numbered {numbers!r:.100}; expected 0 to {len(numbers) - 1}."
        )
    deep_shape = tuple(tensors.get("compound_prompts_text.0", torch.empty(0, width)).shape)
    if len(deep_shape) != 2:
        raise ValueError(f"{source}: compound_prompts_text.0 has shape {deep_shape}, expected (tokens, {width}).")
    for name, tensor in tensors.items():
        is_context = name in ("ctx_pos", "ctx_neg")
        if not is_context and not DEEP_PROMPT.fullmatch(name):
            raise ValueError(f"{source}: unexpected tensor {name!r:.200} of shape {tuple(tensor.shape)}.")
        expected = tuple(tensors["ctx_pos"].shape) if is_context else deep_shape
        if tuple(tensor.shape) != expected or expected[-1] != width:
            raise ValueError(
                f"{source}: {name!r:.200} has shape {tuple(tensor.shape)}, expected {(*expected[:-1], width)}."
            )
    return tensors


def _prompt_sizes(tensors: dict[str, Tensor]) -> dict[str, int]:
    deep = [tensor for name, tensor in tensors.items() if DEEP_PROMPT.fullmatch(name)]
    sizes = {"num_prompt_tokens": tensors["ctx_pos"].shape[-2], "deep_prompt_depth": len(deep) + 1}
    return sizes | {"num_deep_prompt_tokens": deep[0].shape[0] if deep else 0}


def _fill_prompts(model: AnomalyCLIPModel, tensors: dict[str, Tensor]) -> None:
    learner = model.prompt_learner
    width = learner.normal_prompt.shape[-1]
    if tensors["ctx_pos"].shape[-1] != width:
        raise ValueError(
            f"ctx_pos has shape {tuple(tensors['ctx_pos'].shape)}, expected (1, 1, tokens, {width}): the prompts were "
            f"learned on a CLIP of another text width than this one. The paper's go with ViT-L/14@336."
        )
    with torch.no_grad():
        learner.normal_prompt.copy_(tensors["ctx_pos"].reshape(-1, width))
        learner.abnormal_prompt.copy_(tensors["ctx_neg"].reshape(-1, width))
        for index, deep_prompt in enumerate(learner.deep_prompts):
            deep_prompt.copy_(tensors[f"compound_prompts_text.{index}"])


__all__ = ["convert_original_checkpoint"]
