# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Choose the thresholds of the engine: given ones, those of a calibration, or those of the model."""

import logging
from collections.abc import Mapping
from typing import Any

from ..postprocessing_anomalyclip import describe_stale


logger = logging.getLogger(__name__)


def valid_calibration(
    stored: Mapping[str, Any],
    fingerprint: str,
    settings: Mapping[str, Any],
    threshold: float | None = None,
    pixel_threshold: float | None = None,
) -> dict[str, Any] | None:
    """Return the stored calibration, with the given thresholds in place of its own; warn if it is stale.

    Args:
        stored (`Mapping`): Settings of the model, with `calibration` and `pixel_threshold`.
        fingerprint (`str`): Digest of the model.
        settings (`Mapping`): Everything that scores depend on beside the model.
        threshold (`float`, *optional*): Takes the place of the calibration's.
        pixel_threshold (`float`, *optional*): Takes the place of the calibration's.

    Returns:
        `dict` or `None`: as `processor.calibration`. `None` if there is none, or it is stale.
    """
    calibration = stored["calibration"]
    if calibration is None:
        return None
    problem = describe_stale(calibration, fingerprint, settings)
    if problem is not None:
        logger.warning(problem)
        return None
    given: dict[str, Any] = {} if threshold is None else {"threshold": threshold, "review_threshold": None}
    if pixel_threshold is None and calibration["pixel_threshold"] is None:  # calibrated without maps
        pixel_threshold = stored["pixel_threshold"]
    if pixel_threshold is not None:
        given["pixel_threshold"] = pixel_threshold
    parts = {name: {**part, **given} for name, part in calibration["categories"].items()}
    return {**calibration, **given, "categories": parts}


__all__ = ["valid_calibration"]
