# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints on disk: the prompts-only form, and one clear line for whatever is missing, left over or damaged."""

import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, PreTrainedModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .configuration_anomalyclip import AnomalyCLIPConfig


try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise ImportError("checkpoints need safetensors; install it with `pip install safetensors`.") from error

# Not a name that other loaders know: they would take it for a whole model and fill the CLIP with random weights.
PROMPTS_FILE = "prompts.safetensors"
CLIP_PREFIX = "clip."


@contextmanager
def readable_weights(source: str | os.PathLike) -> Iterator[None]:
    """Turn the errors of a damaged weight file into one line that names the checkpoint.

    Raises:
        OSError: If a weight file below `source` is cut short, of another format, or holds more than tensors.
    """
    try:
        yield
    except (SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(
            f"the weights in {source} are damaged or cut short ({reason}); fetch or save this checkpoint again."
        ) from error


def check_loading_info(info: Mapping[str, Any], source: str | os.PathLike) -> None:
    """Refuse a checkpoint that does not fill the model exactly.

    Args:
        info (`Mapping`): What `from_pretrained(..., output_loading_info=True)` reports.
        source (`str` or `os.PathLike`): The checkpoint, named in the error.

    Raises:
        ValueError: naming the first tensor that is missing, left over or of another shape.
    """
    shapes = sorted(info["mismatched_keys"])
    if shapes:
        name, got, expected = shapes[0]
        problem = f"{name} has shape {tuple(got)}, expected {tuple(expected)}"
        problem += f" (and {len(shapes) - 1} more)" if len(shapes) > 1 else ""
        raise ValueError(
            f"{source} does not fit its configuration: {problem}. Load it with the config it was saved with."
        )
    _check_names(set(info["missing_keys"]), set(info["unexpected_keys"]), source)


def check_base_model(config: AnomalyCLIPConfig, clip_config: CLIPConfig) -> None:
    """Refuse to put prompts on another CLIP than the one they were saved with.

    Args:
        config ([`AnomalyCLIPConfig`]): Saved with the prompts.
        clip_config ([`~transformers.CLIPConfig`]): Of the CLIP that `config.base_model_name_or_path` led to.

    Raises:
        ValueError: naming the size that differs.
    """
    for tower in ("text_config", "vision_config"):
        saved, found = getattr(config, tower), getattr(clip_config, tower)
        for name in ("hidden_size", "num_hidden_layers", "vocab_size", "patch_size", "image_size"):
            if getattr(saved, name, None) != getattr(found, name, None):
                raise ValueError(
                    f"{config.base_model_name_or_path} has {tower}.{name} {getattr(found, name)}, expected "
                    f"{getattr(saved, name)} as saved with the prompts; name their CLIP in config.json."
                )


def _check_names(missing: set[str], unexpected: set[str], source: str | os.PathLike) -> None:
    for problem, names in (("lacks", missing), ("holds unexpected", unexpected)):
        if names:
            raise ValueError(
                f"{source} {problem} {len(names)} of the model's tensors, the first is {min(names)}. Is it a whole "
                "AnomalyCLIP checkpoint? A plain CLIP goes to AnomalyCLIPModel.from_clip_pretrained, published files "
                "to `anomalyclip convert`."
            )


def prompt_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """Everything of the model's state that is not the CLIP's."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(CLIP_PREFIX)}


def load_prompts_file(model: PreTrainedModel, path: str | os.PathLike) -> None:
    """Fill the model's prompts from a `prompts.safetensors`.

    Args:
        model ([`AnomalyCLIPModel`]): Changed in place.
        path (`str` or `os.PathLike`): The file.

    Raises:
        OSError: If the file is cut short or no safetensors file.
        ValueError: If a tensor is missing, left over, of another shape, or not finite.
    """
    with readable_weights(path):
        stored = load_file(path)
    expected = prompt_state_dict(model)
    _check_names(expected.keys() - stored.keys(), stored.keys() - expected.keys(), path)
    for name, tensor in stored.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}. "
                "Load it with the config.json it was saved with."
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinite values. Go back to an earlier checkpoint.")
    model.load_state_dict(stored, strict=False)


def save_prompts_file(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Write `config.json` and `prompts.safetensors`, each whole or not at all.

    Args:
        model ([`AnomalyCLIPModel`]): Whose prompts are written, in float32.
        folder (`str` or `os.PathLike`): Exists.
    """
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in prompt_state_dict(model).items()}
    model.config.architectures = [type(model).__name__]
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        save_file(tensors, Path(partial) / PROMPTS_FILE, metadata={"format": "pt"})
        model.config.save_pretrained(partial)
        for name in (PROMPTS_FILE, CONFIG_NAME):
            (Path(partial) / name).replace(Path(folder) / name)


def prepare_folder(folder: str | os.PathLike, config: AnomalyCLIPConfig, prompts_only: bool) -> None:
    """Make the folder and see that the two forms of a checkpoint do not meet in it.

    Args:
        folder (`str` or `os.PathLike`): Where a model is about to be saved.
        config ([`AnomalyCLIPConfig`]): Of that model.
        prompts_only (`bool`): The form that is about to be saved.

    Raises:
        ValueError: If the base CLIP is not known, or the folder holds the other form already.
    """
    if prompts_only and config.base_model_name_or_path is None:
        raise ValueError(
            "prompts_only=True needs to know the CLIP under the prompts, and this model does not say; pass "
            "base_model_name_or_path=<Hub id or folder of the CLIP>, or save the whole model."
        )
    other_form = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME) if prompts_only else (PROMPTS_FILE,)
    for name in other_form:
        if (Path(folder) / name).exists():
            raise ValueError(f"{folder} already holds {name}, another form of checkpoint; save to an empty folder.")
    Path(folder).mkdir(parents=True, exist_ok=True)


__all__ = ["PROMPTS_FILE", "check_loading_info", "load_prompts_file", "save_prompts_file"]
