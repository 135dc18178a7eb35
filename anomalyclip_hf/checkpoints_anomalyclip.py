# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints on disk: the prompts-only form, and one clear line for whatever is missing, left over or damaged."""

import copy
import math
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, PreTrainedModel
from transformers.utils import (
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

from .configuration_anomalyclip import AnomalyCLIPConfig
from .hub_files_anomalyclip import TOKENIZER_FILES, find_file, hub_arguments
from .limits_anomalyclip import (
    check_clip_settings,
    check_inside,
    check_parameters,
    check_patches,
    one_line,
    read_json,
    shorten,
    show_name,
)
from .weight_files_anomalyclip import StoredTensor, check_finite, check_shapes, read_index, validate_weight_file


try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise ImportError("checkpoints need safetensors; install it with `pip install safetensors`.") from error

# Not a name that other loaders know: they would take it for a whole model and fill the CLIP with random weights.
PROMPTS_FILE = "prompts.safetensors"
CLIP_PREFIX = "clip."
# Of a tower: what the CLIP under the prompts must share with the one they were learned on.
BASE_SETTINGS = ["hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "vocab_size", "patch_size"]
BASE_SETTINGS += ["image_size"]


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


@contextmanager
def writable_weights(folder: str | os.PathLike) -> Iterator[None]:
    """Say in one line why weights cannot be written, and let those read them who may read the settings.

    Args:
        folder (`str` or `os.PathLike`): Where they go; what lies there already is not touched.

    Raises:
        OSError: If the disk is full, or takes no files of their size.
    """
    before = _weight_files(folder)
    try:
        yield
    except SafetensorError as error:
        raise OSError(
            f"the weights cannot be written to {folder} ({one_line(error)}); make room or choose another folder."
        ) from error
    settings = Path(folder) / CONFIG_NAME
    for path, *_ in _weight_files(folder) - before:  # which come from safetensors as the owner's alone
        if path.stat().st_mode != settings.stat().st_mode:
            shutil.copymode(settings, path)


def _weight_files(folder: str | os.PathLike) -> set[tuple[Path, int, int]]:
    """Each with its inode and time, by which one that is written anew is told."""
    states = {path: path.lstat() for path in Path(folder).glob("*.safetensors")}
    return {(path, state.st_ino, state.st_mtime_ns) for path, state in states.items()}


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
    towers = [f"{tower}.{name}" for tower in ("text_config", "vision_config") for name in BASE_SETTINGS]
    for name in ["projection_dim", *towers]:
        saved, found = (reduce(_setting, name.split("."), owner) for owner in (config, clip_config))
        if saved != found:
            raise ValueError(
                f"{config.base_model_name_or_path} has {name} {found}, expected {saved} as saved with the prompts; "
                "pass their own CLIP as base_model_name_or_path=... to from_pretrained."
            )


def _setting(config: Any, name: str) -> Any:
    return getattr(config, name, None)


# --------------------------------------------------------------------------------------- before anything is read


def expected_state(model_class: type[PreTrainedModel], config: Any) -> dict[str, Tensor]:
    """What a model of a configuration holds, on the meta device, where it takes no memory.

    Args:
        model_class (`type`): [`AnomalyCLIPModel`] or [`~transformers.CLIPModel`].
        config ([`~transformers.CLIPConfig`]): Checked already.

    Returns:
        `dict[str, torch.Tensor]`
    """
    with torch.device("meta"):
        return model_class(copy.deepcopy(config)).state_dict()


def check_weights(
    source: str | os.PathLike, expected: Mapping[str, Tensor], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Look through the weight files that transformers is about to read.

    Args:
        source (`str` or `os.PathLike`): Hub id or folder.
        expected (`Mapping[str, torch.Tensor]`): Of [`expected_state`].
        kwargs (`Mapping`): Those of `from_pretrained`.

    Returns:
        `dict`: these, as `from_pretrained` shall get them.

    Raises:
        OSError: If a file is damaged, claims more than it holds, or holds more than tensors.
        ValueError: If it lacks tensors of the model, or holds them in another shape; or code is asked for.
    """
    if kwargs.get("weights_only") is False:
        raise ValueError("weights_only is False, with which a weight file can run code; expected True. Leave it out.")
    stored: dict[str, StoredTensor] = {}
    for path in _weight_paths(source, kwargs):
        stored |= validate_weight_file(path)
    check_shapes(stored, expected, source)
    # transformers makes up what is missing, however large; what it renames is counted, not compared.
    claimed, needed = (math.prod(t.shape) for t in stored.values()), (t.numel() for t in expected.values())
    if sum(claimed) < sum(needed):
        _check_names(expected.keys() - stored.keys(), set(), source)
    return {**kwargs, "weights_only": True, "force_download": False}  # it is done, and checked


def _weight_paths(source: str | os.PathLike, kwargs: Mapping[str, Any]) -> list[str]:
    """The files that transformers would choose, fetched where they are on the Hub."""
    if os.path.isdir(source):
        folder = Path(source) / (kwargs.get("subfolder") or "")
        if parts := sorted(folder.glob("shard-*-model-*-of-*.safetensors")):
            raise ValueError(f"{parts[0]} is a part of a distributed checkpoint; save the whole model instead.")
    names = _weight_names(kwargs)
    for name in names:
        path = find_file(source, name, **kwargs)
        if path is None:
            continue
        if not name.endswith(".json"):
            return [path]
        shards = {shard: find_file(source, shard, **kwargs) for shard in read_index(path)}
        if lacking := [shard for shard, found in shards.items() if found is None]:
            raise OSError(
                f"{source} lacks {show_name(lacking[0])}, which its index names; fetch or save this checkpoint again."
            )
        return [str(found) for found in shards.values()]
    raise OSError(f"{source} has no weights; expected one of {', '.join(names)}. Check what lies there.")


def _weight_names(kwargs: Mapping[str, Any]) -> list[str]:
    """Where weights may lie, in the order in which transformers looks."""
    safe, variant = kwargs.get("use_safetensors"), kwargs.get("variant")
    names = [SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME] if safe is not False else []
    names += [WEIGHTS_NAME, WEIGHTS_INDEX_NAME] if not safe else []
    if not variant:
        return names
    return [f"{stem}.{variant}.{ending}" for stem, _, ending in (name.rpartition(".") for name in names)]


def load_clip_config(source: str | os.PathLike, **kwargs: Any) -> CLIPConfig:
    """Load the configuration of a CLIP, if it is one that a machine can hold.

    Args:
        source (`str` or `os.PathLike`): Hub id or folder.
        **kwargs: Those of `from_pretrained`.

    Raises:
        OSError: If there is none, or it is no JSON.
        ValueError: If it asks for what no CLIP has.
    """
    path = find_file(source, CONFIG_NAME, **kwargs)
    if path is None:
        raise OSError(f"{source} has no {CONFIG_NAME}; expected the Hub id or folder of a CLIP.")
    settings = read_json(path)
    if settings.get("model_type") == AnomalyCLIPConfig.model_type:
        raise ValueError(f"{path} describes an AnomalyCLIP, expected a CLIP; use AnomalyCLIPModel.from_pretrained.")
    try:
        check_clip_settings(settings, CLIPConfig)
        config = CLIPConfig.from_dict(settings)
        check_parameters(config.text_config, config.vision_config)
        vision = config.vision_config
        check_patches((vision.image_size,) * 2, vision.patch_size, "vision_config.image_size")
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"{path} does not hold a valid configuration: {one_line(error)}") from error
    return config


def check_base_reference(config: AnomalyCLIPConfig, source: str | os.PathLike, **kwargs: Any) -> None:
    """Refuse a configuration from the Hub that names a folder of this machine as its CLIP.

    Args:
        config ([`AnomalyCLIPConfig`]): Of the model; what it names in place of the stored name is the user's choice.
        source (`str` or `os.PathLike`): Where it is stored, Hub id or folder. What lies in a folder may name others.
        **kwargs: Those of `from_pretrained`.

    Raises:
        ValueError: If `base_model_name_or_path` is no id on the Hub.
    """
    base = config.base_model_name_or_path
    if base is None or os.path.isdir(source):
        return
    stored, _ = AnomalyCLIPConfig.get_config_dict(source, **hub_arguments(kwargs))
    if base != stored.get("base_model_name_or_path"):
        return
    try:
        validate_repo_id(base)
        is_id = not os.path.exists(base)
    except HFValidationError:
        is_id = False
    if not is_id:
        raise ValueError(
            f"{source} names {shorten(base)} as base_model_name_or_path, expected the id of a CLIP on the Hub and no "
            "path on this machine; pass base_model_name_or_path=... to from_pretrained if you want that."
        )


def load_tokenizer(source: str | os.PathLike, **kwargs: Any) -> Any:
    """Load the tokenizer of a CLIP; code that comes with it does not run, and files elsewhere are not read.

    Args:
        source (`str` or `os.PathLike`): Hub id or folder.
        **kwargs: Those of `from_pretrained`; with `trust_remote_code=True` code may run.

    Raises:
        OSError: If there is none.
        ValueError: If it names a file outside its folder, or needs code.
    """
    paths = {name: find_file(source, name, **kwargs) for name in TOKENIZER_FILES}
    trust_remote_code = bool(kwargs.get("trust_remote_code", False))  # None would ask at the terminal
    path = paths["tokenizer_config.json"]
    settings = {} if path is None else read_json(path)
    for name in ("vocab_file", "merges_file", "tokenizer_file"):
        if settings.get(name) is not None:
            check_inside(settings[name], str(path), name)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **hub_arguments(kwargs))
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        # Where transformers finds no vocabulary, it makes a tokenizer that knows no word.
        raise OSError(
            f"{source} has no tokenizer; expected tokenizer.json, or vocab.json and merges.txt, beside the weights. "
            "Save the CLIP's own there, or pass tokenizer=... to AnomalyCLIPModel.from_clip_pretrained."
        )
    return tokenizer


def _check_names(missing: set[str], unexpected: set[str], source: str | os.PathLike) -> None:
    for problem, names in (("lacks", missing), ("holds unexpected", unexpected)):
        if names:
            raise ValueError(
                f"{source} {problem} {len(names)} of the model's tensors, the first is {show_name(min(names))}. Is it "
                "a whole AnomalyCLIP checkpoint? A plain CLIP goes to AnomalyCLIPModel.from_clip_pretrained, "
                "published files to `anomalyclip convert`."
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
    expected = prompt_state_dict(model)
    check_shapes(validate_weight_file(path), expected, path)
    with readable_weights(path):
        stored = load_file(path)
    _check_names(expected.keys() - stored.keys(), stored.keys() - expected.keys(), path)
    check_finite(stored, path)
    model.load_state_dict(stored, strict=False)


def save_prompts_file(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Write `config.json` and `prompts.safetensors`, each whole or not at all.

    Args:
        model ([`AnomalyCLIPModel`]): Whose prompts are written, in float32.
        folder (`str` or `os.PathLike`): Exists.
    """
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in prompt_state_dict(model).items()}
    model.config.architectures = [type(model).__name__]
    with writable_weights(folder), tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        model.config.save_pretrained(partial)
        save_file(tensors, Path(partial) / PROMPTS_FILE, metadata={"format": "pt"})
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
            "base_model_name_or_path=<Hub id or folder of the CLIP> (--base-model), or save the whole model."
        )
    other_form = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME) if prompts_only else (PROMPTS_FILE,)
    for name in other_form:
        if (Path(folder) / name).exists():
            raise ValueError(f"{folder} already holds {name}, another form of checkpoint; save to an empty folder.")
    Path(folder).mkdir(parents=True, exist_ok=True)


__all__ = ["PROMPTS_FILE", "check_loading_info", "load_prompts_file", "save_prompts_file"]
