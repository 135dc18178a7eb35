# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes that share one piece of work."""

import os

import torch
from accelerate import PartialState
from accelerate.utils import gather_object


def has_accelerator() -> bool:
    """Return whether there is a GPU or another accelerator."""
    return torch.accelerator.is_available()


def is_distributed() -> bool:
    """Return whether `torchrun` or `accelerate launch` has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_state() -> PartialState:
    """Return the state that accelerate keeps for this process; it is created on first use.

    Without an accelerator, processes communicate over gloo, which accelerate does not choose by itself.
    """
    return PartialState(cpu=not has_accelerator())


__all__ = ["gather_object", "has_accelerator", "is_distributed", "process_state"]
