# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Find out which of several processes this is, and whether there is an accelerator."""

import os
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # one process alone needs neither PyTorch nor accelerate
    from accelerate import PartialState


def has_accelerator() -> bool:
    """Return whether there is a GPU or another accelerator."""
    import torch

    return torch.accelerator.is_available()


def is_distributed() -> bool:
    """Return whether `torchrun` or `accelerate launch` has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_state() -> "PartialState":
    """Return the state that accelerate keeps for this process; it is created on first use.

    Without an accelerator, processes communicate over gloo, which accelerate does not choose by itself.
    """
    from accelerate import PartialState

    return PartialState(cpu=not has_accelerator())


__all__ = ["has_accelerator", "is_distributed", "process_state"]
