# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Which of several processes this one is."""

import torch
from accelerate import PartialState


def has_accelerator() -> bool:
    """Whether there is a GPU or the like."""
    return torch.accelerator.is_available()


def process_state() -> PartialState:
    """The state that accelerate keeps for this process; made on first use.

    Without an accelerator several processes talk over gloo, which accelerate does not choose by itself.
    """
    return PartialState(cpu=not has_accelerator())
