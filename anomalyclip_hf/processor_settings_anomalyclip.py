# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What a stored processor may ask for; checked before it is made."""

import os
from collections.abc import Mapping
from typing import Any

from transformers.utils import PROCESSOR_NAME

from .limits_anomalyclip import MAX_INPUT_SIDE, is_number, is_whole_number, shorten


MAX_SIGMA = 256  # pixels; half the paper's image
AUDIO_TOKENIZER = "audio_tokenizer_config.json"  # where it lies, transformers loads another model
# What `processor_config.json` may hold.
PROCESSOR_SETTINGS = {"image_processor", "processor_class", "auto_map", "smoothing_sigma", "threshold"}
PROCESSOR_SETTINGS |= {"pixel_threshold", "map_maximum", "value_range"}
IMAGE_PROCESSORS = ("CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast")


def check_stored_settings(settings: Mapping[str, Any], path: str | os.PathLike, needs_image_processor: bool) -> None:
    """Refuse settings that no processor of this package has, before anything is made of them.

    Args:
        settings (`Mapping`): What the file holds.
        path (`str` or `os.PathLike`): `processor_config.json` or `preprocessor_config.json`.
        needs_image_processor (`bool`): Whether the image processor has no file of its own.

    Raises:
        ValueError: naming the file, the setting, its value and what is allowed.
    """
    image_settings: Any = settings
    if os.path.basename(path) == PROCESSOR_NAME:
        for name in settings.keys() - PROCESSOR_SETTINGS:
            raise ValueError(f"{path} holds {shorten(name)}; expected {', '.join(sorted(PROCESSOR_SETTINGS))}.")
        for name in ("smoothing_sigma", "threshold", "pixel_threshold"):
            value = settings.get(name, 0)
            if not is_number(value) and not (name == "pixel_threshold" and value is None):
                raise ValueError(f"{path}: {name} is {shorten(value)}; expected a number.")
        image_settings = settings.get("image_processor", {})
        is_named = isinstance(image_settings, dict) and "image_processor_type" in image_settings
        if not is_named and (needs_image_processor or "image_processor" in settings):
            raise ValueError(
                f"{path}: image_processor is {shorten(image_settings)}; expected an object with image_processor_type."
            )
    for name, value in image_settings.items():
        expectation = _expectation(name, value)
        if expectation is not None:
            raise ValueError(f"{path}: {shorten(name)} is {shorten(value)}; expected {expectation}.")
    crops = image_settings.get("do_center_crop")  # true where it is left out
    is_cut = crops is not False and image_settings.get("crop_size") != image_settings.get("size")
    if "image_processor_type" in image_settings and is_cut:
        raise ValueError(f"{path}: 'do_center_crop' is {crops}; expected false, since a map shows the whole image.")


def _expectation(name: str, value: Any) -> str | None:
    """What a setting of the image processor should have been, where it is not that."""
    if name in ("size", "crop_size"):
        allowed = f"height and width, of 1 to {MAX_INPUT_SIDE} pixels"
        fits = isinstance(value, dict) and value.keys() == {"height", "width"} and all(map(_is_side, value.values()))
        fits |= name == "crop_size" and value is None
    elif name in ("image_mean", "image_std"):
        fits = isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
        least = 1e-6 if name == "image_std" else -1e6
        allowed, fits = "three numbers, deviations above 0", fits and all(least <= number <= 1e6 for number in value)
    elif name == "resample":
        allowed, fits = "a filter of Pillow, 0 to 5", is_whole_number(value) and 0 <= value <= 5
    elif name == "rescale_factor":
        allowed, fits = "a number above 0, to 1000000", is_number(value) and 0 < value <= 1e6
    elif name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb", "do_center_crop"):
        allowed, fits = "true or false", isinstance(value, bool)
    elif name == "image_processor_type":
        allowed, fits = f"one of {', '.join(IMAGE_PROCESSORS)}", value in IMAGE_PROCESSORS
    elif name in ("feature_extractor_type", "processor_class"):
        allowed, fits = "the name of a class", isinstance(value, str) and value.isidentifier()
    elif name == "auto_map":  # does nothing without trust_remote_code
        allowed, fits = "an object", isinstance(value, dict)
    else:
        allowed, fits = "no such setting", value is None
    return None if fits else allowed


def _is_side(value: Any) -> bool:
    return is_whole_number(value) and 1 <= value <= MAX_INPUT_SIDE


__all__ = ["check_stored_settings"]
