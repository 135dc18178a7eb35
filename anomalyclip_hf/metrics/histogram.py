# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Count pixels by anomaly-map value, in memory that does not grow with the number of images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from ..image_processing_anomalyclip import to_array
from .on_device import TensorCounts, is_finite, is_on_gpu, ordered_tensor_keys


PAGE_BITS = 16  # the upper half of a float32: sign, exponent and seven bits of the fraction
PAGES = 2**PAGE_BITS
BIN_BUDGET = 2**19  # 32 bytes each: at most 17 MB for one set of counts
NO_LOWEST, NO_HIGHEST = np.iinfo(np.int32).max, np.iinfo(np.int32).min  # in a bin without pixels
CHUNK = 2**14  # pixels at a time, so that their bins stay in the processor's cache
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
# What every pixel changes lies side by side, so that it is fetched from memory once.
BIN = np.dtype([("pixels", np.int64), ("lowest", np.int32), ("highest", np.int32)])


class RankedCounts(NamedTuple):
    """Hold the counts of all bins with pixels, the highest values first; every array has shape `(bins,)`.

    Attributes:
        lowest (`np.ndarray`): Lowest value in the bin, float64.
        highest (`np.ndarray`): Highest value in the bin, float64; equal to `lowest` if the bin holds a single value.
        positives (`np.ndarray`): Anomalous pixels, int64.
        negatives (`np.ndarray`): Normal pixels, int64.
        coverage (`np.ndarray`): Fractions of anomalous regions that lie in the bin, summed over the regions, float64.
    """

    lowest: np.ndarray
    highest: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    coverage: np.ndarray


class PixelCounts:
    """Count anomaly-map values in a histogram that needs no range and leaves out no pixel.

    Bins are formed by the float32 bits of the values. The upper 16 bits are a *page*. Each page that occurs is divided
    into `2**bin_bits` bins by the bits that follow. `bin_bits` starts at 16, where every float32 has its own bin. If
    all pages together would need more than `BIN_BUDGET` bins, `bin_bits` is lowered and neighbouring bins are merged.
    The relative width of a bin is therefore at most `2**-(7 + bin_bits)`. `bin_bits` depends only on which pages
    occur, so the counts do not depend on the order of the maps or on how they are divided over processes.

    Each bin holds its number of pixels and of anomalous pixels, its lowest and highest value, and the sum of 1 / area
    of the region over its anomalous pixels. That sum over all bins from a value upwards, divided by the number of
    regions, is the per-region overlap (PRO) at that threshold. The PRO curve therefore needs no loop over thresholds
    and regions.

    Attributes:
        maps (`int`): Maps counted.
        regions (`int`): 8-connected anomalous regions counted.
        bin_bits (`int`): Bits by which a page is divided, 16 down to 3.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics import PixelCounts

    >>> counts = PixelCounts()
    >>> counts.add(np.array([[0.1, 0.9], [0.9, 0.2]]), mask=np.array([[0, 1], [0, 0]]))
    >>> ranked = counts.ranked()
    >>> ranked.positives, ranked.negatives
    (array([1, 0, 0]), array([1, 1, 1]))

    ```
    """

    def __init__(self) -> None:
        self.maps = 0
        self.regions = 0
        self.bin_bits = PAGE_BITS
        self._pages = 0
        self._first_bin = np.full(PAGES, -1, dtype=np.int64)  # of each page, negative pages from the end
        bins = np.zeros(BIN_BUDGET, dtype=BIN)  # lowest and highest are set when a page is opened
        self._pixels, self._lowest, self._highest = bins["pixels"], bins["lowest"], bins["highest"]
        self._anomalous = np.zeros(BIN_BUDGET, dtype=np.int64)
        self._coverage = np.zeros(BIN_BUDGET, dtype=np.float64)
        self._on_gpu: TensorCounts | None = None  # in the same bins, not yet added to the arrays above

    def add(self, anomaly_map: Any, mask: Any = None) -> None:
        """Count the pixels of one map, on the GPU if it is a tensor there.

        Args:
            anomaly_map (array of shape `(height, width)`): Any finite values, higher = more anomalous; counted as
                float32.
            mask (array of shape `(height, width)`, *optional*): Anomalous where above 0. Without a mask, all pixels
                are normal.

        Raises:
            ValueError: If the map is empty, not two-dimensional or not finite, or the mask has another size.
        """
        on_gpu = is_on_gpu(anomaly_map)
        values = anomaly_map.float() if on_gpu else np.ascontiguousarray(anomaly_map, dtype=np.float32)
        if values.ndim != 2 or 0 in values.shape:
            shape = tuple(values.shape)
            raise ValueError(f"the anomaly map has shape {shape}; expected (height, width), both at least 1.")
        if not is_finite(values):
            raise ValueError("the anomaly map holds NaN or infinite values; check the model that gave it.")
        if mask is not None and np.shape(mask) != values.shape:
            raise ValueError(
                f"the mask has shape {np.shape(mask)}, its map {tuple(values.shape)}; resize one to the other."
            )

        anomalous = np.empty((0, 0), dtype=bool) if mask is None else to_array(mask) > 0
        places = np.flatnonzero(anomalous)
        keys_there = (self._count_on_gpu if on_gpu else self._count)(values, places)
        self.maps += 1
        if len(places):
            shares, regions = region_shares(anomalous)
            bins = self._bins_of(keys_there)
            np.add.at(self._anomalous, bins, 1)
            np.add.at(self._coverage, bins, shares)
            self.regions += regions

    def merge(self, other: "PixelCounts") -> None:
        """Add the counts of `other`, which stays as it is.

        Args:
            other ([`PixelCounts`]): Counts of another process or part of the data.
        """
        self._add_state(other.state())

    def ranked(self) -> RankedCounts:
        """Return the counts of all bins that hold pixels, the highest values first.

        Returns:
            [`RankedCounts`]
        """
        bins = self._occupied()[::-1]
        positives = self._anomalous.take(bins)
        return RankedCounts(
            lowest=key_values(self._lowest.take(bins)),
            highest=key_values(self._highest.take(bins)),
            positives=positives,
            negatives=self._pixels.take(bins) - positives,
            coverage=self._coverage.take(bins),
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return all counts, without the empty bins, as arrays that `numpy.savez` can store.

        Returns:
            `dict[str, np.ndarray]`: per bin, in ascending order, `lowest` and `highest` (int32 keys of
            `ordered_keys`), `pixels`, `anomalous` (int64) and `coverage` (float64); and the scalars `maps`, `regions`.
        """
        bins = self._occupied()
        return {
            "lowest": self._lowest.take(bins),
            "highest": self._highest.take(bins),
            "pixels": self._pixels.take(bins),
            "anomalous": self._anomalous.take(bins),
            "coverage": self._coverage.take(bins),
            "maps": np.array(self.maps),
            "regions": np.array(self.regions),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "PixelCounts":
        """Restore counts.

        Args:
            state (`Mapping[str, np.ndarray]`): As returned by [`PixelCounts.state`].

        Returns:
            [`PixelCounts`]
        """
        counts = cls()
        counts._add_state(state)
        return counts

    def _add_state(self, state: Mapping[str, np.ndarray]) -> None:
        bins = self._bins_of(state["lowest"])
        np.add.at(self._pixels, bins, state["pixels"])
        np.add.at(self._anomalous, bins, state["anomalous"])
        np.add.at(self._coverage, bins, state["coverage"])
        np.minimum.at(self._lowest, bins, state["lowest"])
        np.maximum.at(self._highest, bins, state["highest"])
        self.maps += int(state["maps"])
        self.regions += int(state["regions"])

    def _count(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Count the pixels of a map; return the keys of those at `places`."""
        keys = ordered_keys(values.ravel())
        for start in range(0, len(keys), CHUNK):
            part = keys[start : start + CHUNK]
            bins = self._bins_of(part)
            np.add.at(self._pixels, bins, 1)
            np.minimum.at(self._lowest, bins, part)
            np.maximum.at(self._highest, bins, part)
        return keys.take(places)

    def _count_on_gpu(self, values: Any, places: np.ndarray) -> np.ndarray:
        """Count the pixels of a tensor where it lies; only the keys at `places` leave the device."""
        import torch

        keys = ordered_tensor_keys(values).ravel()
        pages, page_of_key = torch.unique(keys >> PAGE_BITS, return_inverse=True)
        first_bins = self._bins_of(pages.cpu().numpy() << PAGE_BITS)  # new pages get bins
        bins = torch.from_numpy(first_bins).to(keys.device)[page_of_key]
        bins += (keys & (PAGES - 1)) >> (PAGE_BITS - self.bin_bits)
        if self._on_gpu is not None and self._on_gpu.pixels.device != keys.device:
            self._take_from_gpu()
        if self._on_gpu is None:
            self._on_gpu = TensorCounts(BIN_BUDGET, NO_LOWEST, NO_HIGHEST, keys.device)
        self._on_gpu.add(keys, bins)
        return keys[torch.from_numpy(places).to(keys.device)].cpu().numpy()

    def _take_from_gpu(self) -> None:
        """Add what was counted on a GPU to the arrays."""
        if self._on_gpu is not None:
            pixels, lowest, highest = self._on_gpu.arrays()
            self._on_gpu = None
            self._pixels += pixels
            np.minimum(self._lowest, lowest, out=self._lowest)
            np.maximum(self._highest, highest, out=self._highest)

    def _bins_of(self, keys: np.ndarray) -> np.ndarray:
        """Return the bin of each key, int64; new pages get bins."""
        pages = (keys >> PAGE_BITS).astype(np.int64)  # indexing by int64 is many times faster than by int32
        bins = self._first_bin.take(pages)
        if bins.min(initial=0) < 0:
            self._open(pages[bins < 0])
            bins = self._first_bin.take(pages)
        bins += (keys & (PAGES - 1)) >> (PAGE_BITS - self.bin_bits)
        return bins

    def _open(self, pages: np.ndarray) -> None:
        """Give bins to new pages; make all bins coarser if they would not fit otherwise."""
        occurs = np.zeros(PAGES, dtype=bool)
        occurs[pages] = True
        new = np.flatnonzero(occurs)
        while (self._pages + len(new)) << self.bin_bits > BIN_BUDGET:
            self._halve()
        self._first_bin[new] = (self._pages + np.arange(len(new))) << self.bin_bits
        opened = slice(self._pages << self.bin_bits, (self._pages + len(new)) << self.bin_bits)
        self._lowest[opened], self._highest[opened] = NO_LOWEST, NO_HIGHEST
        self._pages += len(new)

    def _halve(self) -> None:
        """Merge each pair of neighbouring bins of a page."""
        self._take_from_gpu()  # counted in the bins as they were
        used = self._pages << self.bin_bits
        for counts, join, empty in (
            (self._pixels, np.add, 0),
            (self._anomalous, np.add, 0),
            (self._coverage, np.add, 0),
            (self._lowest, np.minimum, NO_LOWEST),
            (self._highest, np.maximum, NO_HIGHEST),
        ):
            counts[: used // 2] = join(counts[:used:2], counts[1:used:2])
            counts[used // 2 : used] = empty
        self._first_bin >>= 1  # -1, a page without bins, stays -1
        self.bin_bits -= 1

    def _occupied(self) -> np.ndarray:
        """Return the indices of the bins that hold pixels, the lowest values first."""
        self._take_from_gpu()
        by_page = np.roll(self._first_bin, PAGES // 2)
        first = by_page[by_page >= 0]
        bins = (first[:, None] + np.arange(2**self.bin_bits)).ravel()
        return bins[self._pixels.take(bins) > 0]


def ordered_keys(values: np.ndarray) -> np.ndarray:
    """Convert values to integers with the same order: the bits of the magnitude, negated for a negative value.

    Args:
        values (`np.ndarray` of shape `(n,)`): float32, finite and contiguous.

    Returns:
        `np.ndarray` of shape `(n,)`: int32, the same for 0.0 and -0.0. May share memory with `values`.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.histogram import ordered_keys

    >>> ordered_keys(np.array([-1.0, -0.0, 0.0, 1e-45], dtype=np.float32))
    array([-1065353216, 0, 0, 1], dtype=int32)

    ```
    """
    bits = values.view(np.int32)
    if bits.min(initial=0) >= 0:
        return bits
    sign = bits >> 31  # -1 for a negative value, else 0
    return ((bits & 0x7FFFFFFF) ^ sign) - sign


def key_values(keys: np.ndarray) -> np.ndarray:
    """Convert keys of `ordered_keys` back to values.

    Args:
        keys (`np.ndarray` of shape `(n,)`): int32.

    Returns:
        `np.ndarray` of shape `(n,)`: float64.
    """
    return np.copysign(np.abs(keys).view(np.float32), keys).astype(np.float64)


def region_shares(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Compute the share of each anomalous pixel in its 8-connected region: 1 / area.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): bool, true where anomalous.

    Returns:
        `tuple[np.ndarray, int]`: shares of shape `(anomalous pixels,)`, float64, row by row; and the number of
        regions.

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics.histogram import region_shares

    >>> region_shares(np.array([[True, False, True], [True, False, False]]))
    (array([0.5, 1. , 0.5]), 2)

    ```
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.empty(0), 0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labelled, regions = ndimage.label(box, structure=EIGHT_NEIGHBOURS)
    numbers = labelled[box]
    return 1 / np.bincount(numbers)[numbers], regions


__all__ = ["BIN_BUDGET", "PixelCounts", "RankedCounts", "key_values", "ordered_keys", "region_shares"]
