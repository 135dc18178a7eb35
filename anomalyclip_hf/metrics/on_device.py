# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Count the pixels of a map on the GPU where it lies; PyTorch is imported only then."""

from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    from torch import Tensor


def is_on_gpu(value: Any) -> bool:
    """Return whether `value` is a tensor on a GPU."""
    return bool(getattr(value, "is_cuda", False))


def is_finite(values: Any) -> bool:
    """Return whether all values of an array or tensor are finite."""
    return bool(values.isfinite().all() if hasattr(values, "isfinite") else np.isfinite(values).all())


def ordered_tensor_keys(values: "Tensor") -> "Tensor":
    """Convert float32 values to int32 keys, as `histogram.ordered_keys` does with an array."""
    import torch

    bits = values.contiguous().view(torch.int32)
    sign = bits >> 31  # -1 for a negative value, else 0
    return ((bits & 0x7FFFFFFF) ^ sign) - sign


class TensorCounts:
    """Count the keys of many maps per bin, in tensors on one device.

    Args:
        bins (`int`): Number of bins.
        no_lowest (`int`): Lowest key of a bin without pixels.
        no_highest (`int`): Highest key of a bin without pixels.
        device (`torch.device`): Where the counts lie.
    """

    def __init__(self, bins: int, no_lowest: int, no_highest: int, device: Any):
        import torch

        self.pixels = torch.zeros(bins, dtype=torch.int64, device=device)
        self.lowest = torch.full((bins,), no_lowest, dtype=torch.int32, device=device)
        self.highest = torch.full((bins,), no_highest, dtype=torch.int32, device=device)

    def add(self, keys: "Tensor", bins: "Tensor") -> None:
        """Count the keys of one map.

        Args:
            keys (`torch.Tensor` of shape `(n,)`): int32, from `ordered_tensor_keys`.
            bins (`torch.Tensor` of shape `(n,)`): int64, the bin of each key.
        """
        import torch

        self.pixels += torch.bincount(bins, minlength=len(self.pixels))
        self.lowest.scatter_reduce_(0, bins, keys, "amin")
        self.highest.scatter_reduce_(0, bins, keys, "amax")

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return pixels, lowest and highest keys per bin as arrays."""
        return self.pixels.cpu().numpy(), self.lowest.cpu().numpy(), self.highest.cpu().numpy()
