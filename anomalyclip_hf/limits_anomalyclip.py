# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What a stored configuration may ask for at most; checked before anything is built from it.

The largest published CLIPs stay far below: EVA-CLIP-18B has 48 layers of width 5120 and MLPs of 25600.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


MAX_JSON_BYTES = 50_000_000  # an index of shards or a vocabulary has some MB, a configuration some KB
MAX_JSON_DEPTH = 30  # `copy.deepcopy` fails some hundred levels down
MAX_TEXT_LENGTH = 4096  # of a path or an object's name
MAX_LABELS = 1000  # transformers writes a dictionary of as many
MAX_INPUT_SIDE = 4096  # pixels
MAX_PATCHES = 65_536  # attention compares each with each
MAX_PARAMETERS = 30_000_000_000  # EVA-CLIP-18B has 18 billion

# Whole numbers of a tower: least and most.
TOWER_RANGES = {
    "hidden_size": (1, 16_384),
    "intermediate_size": (1, 65_536),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 256),
    "vocab_size": (2, 1_000_000),
    "max_position_embeddings": (2, 16_384),
    "num_channels": (3, 3),
    "patch_size": (1, 1024),
    "image_size": (1, MAX_INPUT_SIDE),
}
JOINT_RANGES = {"projection_dim": (1, 16_384)}  # of the CLIP as a whole
# Other numbers: least and most.
FLOAT_RANGES = {
    "layer_norm_eps": (0.0, 1.0),
    "attention_dropout": (0.0, 1.0),
    "initializer_range": (0.0, 100.0),
    "initializer_factor": (0.0, 100.0),
    "logit_scale_init_value": (-100.0, 100.0),
}
DTYPES = ("float16", "bfloat16", "float32", "float64")
# Through these a configuration would choose what is read and run, past the checks.
STEERING: tuple[str, ...] = (
    "transformers_weights",
    "quantization_config",
    "fusion_config",
    "per_layer_config",
    "attn_implementation",
)
STEERING += ("experts_implementation", "num_labels", "layer_types", "mtp_layer_types", "rope_scaling", "rope_theta")
# transformers takes these out itself; every CLIP that its version 4 saved has torch_dtype, which it turns to dtype.
HARMLESS = {"model_type", "name_or_path", "output_attentions", "torch_dtype"}
ATTENTIONS = ("eager", "sdpa")  # other names can stand for compiled code on the Hub


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path (`str` or `os.PathLike`): A file.

    Returns:
        `dict`

    Raises:
        OSError: If the file cannot be read, is too large, nested too deep, or no JSON object.
    """
    size = os.path.getsize(path)
    if size > MAX_JSON_BYTES:
        raise OSError(f"{path} has {size} bytes, expected at most {MAX_JSON_BYTES} of JSON.")
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise OSError(f"{path} is not valid JSON ({reason}); fetch or save this checkpoint again.") from error
    if not isinstance(content, dict):
        raise OSError(f"{path} holds a JSON {type(content).__name__}; expected an object with settings.")
    _check_depth(content, path)
    return content


def _check_depth(content: Any, path: str | os.PathLike) -> None:
    level = [content]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            item
            for parent in level
            if isinstance(parent, (dict, list))
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise OSError(f"{path} nests more than {MAX_JSON_DEPTH} levels deep; expected the settings of a model.")


def is_whole_number(value: Any) -> bool:
    """Whether a value is an integer and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number and no truth value."""
    # An integer may be too large for `math.isfinite`.
    return is_whole_number(value) or (isinstance(value, float) and math.isfinite(value))


def check_clip_settings(settings: Mapping[str, Any], config_class: Any) -> None:
    """Refuse a configuration that asks for sizes, numbers or behaviour that no CLIP has.

    Args:
        settings (`Mapping`): What `config.json` holds, or a configuration's attributes before they are resolved.
        config_class (`type`): [`AnomalyCLIPConfig`] or [`~transformers.CLIPConfig`].

    Raises:
        ValueError: naming the setting, its value and what is allowed.
    """
    _check_dtypes(settings)
    _check_values(settings, JOINT_RANGES)
    nested = [f"{tower}{ending}" for tower in config_class.sub_configs for ending in ("", "_dict")]
    check_extras({name: value for name, value in settings.items() if name not in nested}, config_class)
    for name in nested:
        tower = settings.get(name)
        if isinstance(tower, Mapping):
            _check_values(tower, TOWER_RANGES, f"{name}.")
            check_extras(tower, config_class.sub_configs[name.removesuffix("_dict")], f"{name}.")
        elif isinstance(tower, PreTrainedConfig):
            _check_values(vars(tower), TOWER_RANGES, f"{name}.")
        elif tower is not None:
            raise ValueError(f"{name} is {shorten(tower)}; expected an object with the settings of a tower.")


def _check_dtypes(settings: Mapping[str, Any]) -> None:
    """Transformers turns whatever is called dtype, at any depth, into one of PyTorch's."""
    for name, value in settings.items():
        is_dtype = name in ("dtype", "torch_dtype")
        if is_dtype and value is not None and not isinstance(value, torch.dtype) and value not in DTYPES:
            raise ValueError(f"{name} is {shorten(value)}; expected one of {', '.join(DTYPES)}.")
        if isinstance(value, Mapping):
            _check_dtypes(value)


def _check_values(settings: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]], place: str = "") -> None:
    for name, (least, most) in ranges.items():
        if name in settings and not (is_whole_number(settings[name]) and least <= settings[name] <= most):
            raise ValueError(
                f"{place}{name} is {shorten(settings[name])}; expected a whole number from {least} to {most}."
            )
    for name, (lowest, highest) in FLOAT_RANGES.items():
        if name in settings and not (is_number(settings[name]) and lowest <= settings[name] <= highest):
            raise ValueError(
                f"{place}{name} is {shorten(settings[name])}; expected a number from {lowest} to {highest}."
            )
    if is_whole_number(settings.get("logit_scale_init_value")):
        raise ValueError(
            f"{place}logit_scale_init_value is {settings['logit_scale_init_value']}; expected a number with a decimal "
            "point, since CLIP makes a parameter of it."
        )
    if settings.get("hidden_act", "gelu") not in list(ACT2FN):
        raise ValueError(f"{place}hidden_act is {shorten(settings['hidden_act'])}; expected a name as 'quick_gelu'.")
    width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
    if width is not None and heads is not None and width % heads:
        raise ValueError(f"{place}hidden_size is {width}; expected a multiple of num_attention_heads, {heads}.")
    labels = settings.get("id2label")
    if labels is not None and not (isinstance(labels, dict) and all(str(key).isdecimal() for key in labels)):
        raise ValueError(f"{place}id2label is {shorten(labels)}; expected names under whole numbers.")


def check_extras(settings: Mapping[str, Any], config_class: Any, place: str = "") -> None:
    """Refuse settings that a configuration class does not declare where they would change how it behaves or loads.

    Args:
        settings (`Mapping`): Of a configuration; those that its class declares pass.
        config_class (`type`): Whose methods and properties must stay what they are.
        place (`str`, *optional*): What the error puts before a setting's name.

    Raises:
        ValueError: naming the setting.
    """
    for name in settings.keys() - {field.name for field in dataclasses.fields(config_class)} - HARMLESS:
        value = settings[name]
        if name == "attn_implementation" and value in (None, *ATTENTIONS):
            continue
        if name == "num_labels" and is_whole_number(value) and 0 < value <= MAX_LABELS:
            continue
        if name in STEERING or not name.isidentifier() or name.startswith("__"):
            raise ValueError(f"{place}{shorten(name)} is {shorten(value)}; expected no such setting. Remove it.")
        if hasattr(config_class, name):
            raise ValueError(f"{place}{name} is {shorten(value)}; expected no setting of the name of a method.")


def check_input_size(size: Any, patch_size: int) -> None:
    """Refuse a size to which no image can be brought.

    Args:
        size (`int` or `list[int]`): Side, or height and width, in pixels.
        patch_size (`int`): In pixels.

    Raises:
        ValueError: naming the size and what is allowed.
    """
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or any(side < patch_size or side % patch_size for side in sides):
        raise ValueError(
            f"image_size is {shorten(size)}; expected one side, or height and width, multiples of the patch size "
            f"{patch_size}."
        )
    check_patches((sides[0], sides[1]), patch_size, "image_size")


def check_patches(sides: tuple[int, int], patch_size: int, name: str) -> None:
    """Refuse images of more patches than attention can compare.

    Args:
        sides (`tuple[int, int]`): Height and width, in pixels.
        patch_size (`int`): In pixels.
        name (`str`): Of the setting, for the error.

    Raises:
        ValueError: naming the setting, its value and what is allowed.
    """
    patches = (sides[0] // patch_size) * (sides[1] // patch_size)
    if max(sides) > MAX_INPUT_SIDE or patches > MAX_PATCHES:
        raise ValueError(
            f"{name} is {sides[0]}x{sides[1]} px, {patches} patches of {patch_size} px; expected sides of at most "
            f"{MAX_INPUT_SIDE} px and at most {MAX_PATCHES} patches."
        )


def check_parameters(text_config: Any, vision_config: Any) -> None:
    """Refuse towers that no machine holds, though each setting by itself is allowed.

    Args:
        text_config ([`~transformers.CLIPTextConfig`]): Of the CLIP.
        vision_config ([`~transformers.CLIPVisionConfig`]): Of the CLIP.

    Raises:
        ValueError: with the number of parameters and what is allowed.
    """
    blocks = sum(
        tower.num_hidden_layers * tower.hidden_size * (4 * tower.hidden_size + 2 * tower.intermediate_size)
        for tower in (text_config, vision_config)
    )
    embeddings = text_config.hidden_size * (text_config.vocab_size + text_config.max_position_embeddings)
    if blocks + embeddings > MAX_PARAMETERS:
        raise ValueError(
            f"text_config and vision_config make {blocks + embeddings:.3g} parameters; expected at most "
            f"{MAX_PARAMETERS:.3g}. Is config.json the one that the weights were saved with?"
        )


def check_inside(name: Any, source: str | os.PathLike, setting: str) -> None:
    """Refuse a path in a file that leads out of the folder in which the file lies.

    Args:
        name (`str`): The path, with forward or backward slashes.
        source (`str` or `os.PathLike`): The file that holds it, for the error.
        setting (`str`): Where in the file, for the error.

    Raises:
        ValueError: If the path is absolute, goes up with `..`, or is none.
    """
    text = name.replace("\\", "/") if isinstance(name, str) else ""
    parts = PurePosixPath(text).parts
    leads_out = text.startswith("/") or ".." in parts or PureWindowsPath(text).drive or "\0" in text or "://" in text
    if not text or leads_out or len(text) > MAX_TEXT_LENGTH:
        raise ValueError(
            f"{source} names {shorten(name)} as {setting}; expected a path below its own folder. Correct it, or do "
            "not use this checkpoint."
        )


def check_text(text: str | None, name: str) -> None:
    """Refuse a text that no file system or tokenizer takes.

    Args:
        text (`str`, *optional*): A path, an object's name or a template.
        name (`str`): Of the setting, for the error.

    Raises:
        ValueError: naming the setting and its length.
    """
    if text is not None and (len(text) > MAX_TEXT_LENGTH or "\0" in text):
        raise ValueError(
            f"{name} is {shorten(text)}, {len(text)} characters; expected at most {MAX_TEXT_LENGTH} and none of them "
            "NUL."
        )


def fill(template: str, object_name: str) -> str:
    """Put an object's name into a template.

    Args:
        template (`str`): With one `{}` and no other brace: format strings could read attributes or fill memory.
        object_name (`str`): What takes its place.

    Returns:
        `str`

    Raises:
        ValueError: If the template has another form.
    """
    if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
        raise ValueError(f"a template is {shorten(template)}; expected one {{}} where the object's name goes.")
    return template.replace("{}", object_name)


def shorten(value: Any) -> str:
    """A value as errors show it: in one line, and cut where it is long."""
    if is_whole_number(value) and abs(value) >= 10**20:
        return f"a number of {value.bit_length()} bits"  # Python refuses to write more than some thousand digits
    text = repr(value[:100] if isinstance(value, (str, list, tuple, bytes)) else value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def show_name(name: Any) -> str:
    """A name from a file as errors show it: as it is, or by [`shorten`] where it is long or breaks the line."""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 200 else shorten(name)


def one_line(error: Exception) -> str:
    """What another library's error says, in one line, and cut where it repeats what was read."""
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else f"{text[:400]}…"


__all__ = ["check_clip_settings", "check_inside", "check_parameters", "check_patches", "read_json"]
