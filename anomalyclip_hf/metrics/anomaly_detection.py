# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of anomaly detection as an `evaluate.Metric` that counts images as they come and keeps no maps."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from .category import IMAGE_METRICS, METRICS, CategoryCounts, Curve, Metrics
from .inputs import read_batch
from .intervals import percentile_interval


ALL_IMAGES = "all images"

DESCRIPTION = """\
Ranking metrics of anomaly detection: AUROC, average precision and best F1 of images and of pixels, and the area under
the per-region overlap curve (AUPRO), as means over categories. Memory does not grow with the number of images.
"""

CITATION = """\
@inproceedings{zhou2024anomalyclip,
  title={{AnomalyCLIP}: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection},
  author={Zhou, Qihang and Pang, Guansong and Tian, Yu and He, Shibo and Chen, Jiming},
  booktitle={International Conference on Learning Representations},
  year={2024},
  url={https://arxiv.org/abs/2310.18961}
}
"""


class AnomalyDetectionMetric(evaluate.Metric):
    """Compute image and pixel metrics of anomaly detection.

    Image metrics are exact. Pixel metrics are computed from counts per bin of map values (see [`PixelCounts`]), where
    values that differ by a relative 1e-5 to 1e-4 may share a bin. `pixel_error_bound` is computed from the counts and
    bounds the difference to the AUROC, average precision, F1-max and AUPRO of single pixels. The counts take at most
    17 MB per category, whatever the number of images. Nothing is written to disk or sent over a network.

    With several processes, count in each process, gather the metrics (they can be pickled) and [`merge`] them.

    Args:
        aupro_limit (`float`, *optional*, defaults to 0.3): False-positive rate in (0, 1] up to which AUPRO integrates.

    Raises:
        ValueError: If `aupro_limit` is not in (0, 1].

    Example:
    ```python
    >>> import numpy as np
    >>> from anomalyclip_hf.metrics import AnomalyDetectionMetric

    >>> metric = AnomalyDetectionMetric()
    >>> maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)
    >>> maps[1, :2], masks[1, :2] = 0.8, True
    >>> metric.add_batch(image_scores=[0.1, 0.7], labels=[0, 1], anomaly_maps=maps, masks=masks)
    >>> result = metric.compute()
    >>> result["image_auroc"], result["pixel_aupro"], result["pixel_error_bound"]
    (1.0, 1.0, 0.0)

    ```
    """

    def __init__(self, aupro_limit: float = 0.3):
        if not 0 < aupro_limit <= 1:
            raise ValueError(f"aupro_limit is {aupro_limit}; expected a false-positive rate above 0, up to 1.")
        super().__init__()
        self.aupro_limit = float(aupro_limit)
        self._categories: dict[str | None, CategoryCounts] = {}  # without categories, a single one under None

    def add_batch(
        self,
        *,
        image_scores: Any,
        labels: Any,
        anomaly_maps: Any = None,
        masks: Any = None,
        categories: Any = None,
    ) -> None:
        """Count a batch of images. All arguments may be tensors of any dtype and device, arrays or lists.

        Maps that are tensors on a GPU are counted there, with the same counts as on the CPU.

        Args:
            image_scores (of shape `(batch_size,)`): Finite numbers, higher = more anomalous.
            labels (of shape `(batch_size,)`): 0 for normal, 1 for anomalous.
            anomaly_maps (of shape `(batch_size, height, width)` or list of `(height, width)`, *optional*):
                Finite numbers, higher = more anomalous; counted as float32.
            masks (of the same shape as `anomaly_maps`, *optional*): Anomalous where above 0. In a list, the mask of a
                normal image may be `None`. An anomalous image whose mask is `None`, or has no anomalous pixel, is left
                out of the pixel metrics, and a note reports it.
            categories (list of `str`, *optional*): Metrics are computed for each category and averaged. Give them for
                all batches or for none.

        Raises:
            ValueError: If lengths or sizes differ, a score or map is not finite, a label is neither 0 nor 1, or the
                mask of a normal image has anomalous pixels. The message names the image. No image of the batch is
                counted then.
        """
        examples = read_batch(image_scores, labels, anomaly_maps, masks, categories)
        if examples:
            self._check_same_kind({examples[0].category})
        for example in examples:
            self._categories.setdefault(example.category, CategoryCounts()).add(example)

    def add(
        self,
        *,
        image_score: Any,
        label: Any,
        anomaly_map: Any = None,
        mask: Any = None,
        category: str | None = None,
    ) -> None:
        """Count one image.

        Args:
            image_score (`float`): Finite, higher = more anomalous.
            label (`int`): 0 for normal, 1 for anomalous.
            anomaly_map (of shape `(height, width)`, *optional*): Higher = more anomalous.
            mask (of shape `(height, width)`, *optional*): Anomalous where above 0.
            category (`str`, *optional*): Category of the image.

        Raises:
            ValueError: As for [`add_batch`].
        """
        self.add_batch(
            image_scores=[image_score],
            labels=[label],
            anomaly_maps=None if anomaly_map is None else [anomaly_map],
            masks=None if mask is None else [mask],
            categories=None if category is None else [category],
        )

    def compute(
        self,
        *,
        image_scores: Any = None,
        labels: Any = None,
        anomaly_maps: Any = None,
        masks: Any = None,
        categories: Any = None,
    ) -> dict[str, Any]:
        """Compute all metrics and reset the counts, so that the next evaluation starts with none.

        Args:
            image_scores (*optional*): One more batch to count first, as for [`add_batch`].
            labels (*optional*): Labels of that batch.
            anomaly_maps (*optional*): Anomaly maps of that batch.
            masks (*optional*): Masks of that batch.
            categories (*optional*): Categories of that batch.

        Returns:
            `dict` that can be written as JSON:

            - `image_auroc`, `image_ap`, `image_f1_max`, `pixel_auroc`, `pixel_ap`, `pixel_f1_max`, `pixel_aupro` and
              `pixel_aupro_published` (`float` or `None`): values in [0, 1]; the mean over the categories in which the
              metric is defined, `None` if it is defined in none. `pixel_aupro_published` is the variant of the
              published code (see `ranking.aupro_published`).
            - `pixel_error_bound` (`float` or `None`): largest possible error of the pixel metrics, except the
              published variant, over all categories.
            - `per_category` (`dict`): the same metrics for each category; empty without categories.
            - `notes` (`dict`): by metric and category (or `"all images"`), why a metric is undefined and left out of
              the mean, or meaningless because all scores are equal. Under `masks`: how many anomalous images have no
              ground truth for pixels.

        Raises:
            ValueError: If nothing was counted, or as for [`add_batch`].
        """
        batch = (image_scores, labels, anomaly_maps, masks, categories)
        if any(column is not None for column in batch):
            self.add_batch(
                image_scores=image_scores, labels=labels, anomaly_maps=anomaly_maps, masks=masks, categories=categories
            )
        if not self._categories:
            raise ValueError("no images were counted; call add_batch first, or pass a batch to compute.")
        per_category: dict[str, Metrics] = {}
        notes: dict[str, dict[str, str]] = {}
        for category, name in self._names():
            per_category[name], category_notes = self._categories[category].compute(self.aupro_limit)
            for metric, note in category_notes.items():
                notes.setdefault(metric, {})[name] = note
        result: dict[str, Any] = {metric: _over_categories(np.mean, per_category, metric) for metric in METRICS}
        result["pixel_error_bound"] = _over_categories(max, per_category, "pixel_error_bound")
        result["per_category"] = {} if None in self._categories else per_category
        self._categories = {}
        return result | {"notes": notes}

    def curves(self) -> dict[str, dict[str, Curve]]:
        """Return points of the ROC, precision-recall and PRO curves to plot. Call it before `compute`.

        Returns:
            `dict`: by category (or `"all images"`) and curve (`image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`,
            `pixel_pro`) two arrays, x and y, of at most about a thousand points. Undefined curves are left out.
        """
        return {name: self._categories[category].curves() for category, name in self._names()}

    def thresholds(self) -> dict[str, Metrics]:
        """Return the thresholds of the best F1. Call it before `compute`.

        Returns:
            `dict`: by category, and for `"all images"` together, the threshold of image scores (`image`) and of map
            values (`pixel`). A score or value equal to the threshold counts as anomalous. `None` where undefined.
        """
        everything = CategoryCounts()
        for counts in self._categories.values():
            everything.merge(counts)
        found = {name: self._categories[category].thresholds() for category, name in self._names()}
        return found | {ALL_IMAGES: everything.thresholds()}

    def confidence_intervals(self, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> dict[str, Any]:
        """Estimate confidence intervals of the image metrics by bootstrap. Call it before `compute`.

        In each resample, as many normal and as many anomalous images as there are in a category are drawn from it with
        replacement, and the metrics are computed anew. The interval of the mean is that of the means of the resamples.

        Args:
            resamples (`int`, *optional*, defaults to 1000): Number of resamples.
            level (`float`, *optional*, defaults to 0.95): Share of the resamples inside the interval, in (0, 1).
            seed (`int`, *optional*, defaults to 0): Seed of the random numbers.

        Returns:
            `dict`: `image_auroc`, `image_ap` and `image_f1_max`, each `(low, high)` or `None` where undefined; and
            `per_category` with the same for each category.
        """
        samples = {
            name: self._categories[category].resample(resamples, seed + place)
            for place, (category, name) in enumerate(self._names())
        }
        per_category = {
            name: {metric: percentile_interval(values[metric], level) if values else None for metric in IMAGE_METRICS}
            for name, values in samples.items()
        }
        defined = [values for values in samples.values() if values]
        means = {
            metric: percentile_interval(np.mean([values[metric] for values in defined], axis=0), level)
            if defined
            else None
            for metric in IMAGE_METRICS
        }
        return {**means, "per_category": {} if None in self._categories else per_category}

    def merge(self, other: "AnomalyDetectionMetric") -> None:
        """Add the counts of another metric, which stays as it is.

        Args:
            other ([`AnomalyDetectionMetric`]): Metric of another process or part of the data.

        Raises:
            ValueError: If only one of the two has categories, or their `aupro_limit` differ.
        """
        if other.aupro_limit != self.aupro_limit:
            raise ValueError(
                f"cannot merge: aupro_limit is {self.aupro_limit} here and {other.aupro_limit} there; make them equal."
            )
        self._check_same_kind(set(other._categories))
        for category, counts in other._categories.items():
            self._categories.setdefault(category, CategoryCounts()).merge(counts)

    def state(self) -> dict[str, np.ndarray]:
        """Return all counts as arrays that `numpy.savez` can store and `numpy.load` can read without pickle.

        Returns:
            `dict[str, np.ndarray]`: pass it to [`AnomalyDetectionMetric.from_state`].
        """
        names = [name for _, name in self._names()]
        state = {
            "aupro_limit": np.array(self.aupro_limit),
            "has_categories": np.array(None not in self._categories),
            "categories": np.array(names, dtype=np.str_),
        }
        for index, (category, _) in enumerate(self._names()):
            category_state = self._categories[category].state()
            state |= {f"{index}.{name}": array for name, array in category_state.items()}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "AnomalyDetectionMetric":
        """Restore a metric.

        Args:
            state (`Mapping[str, np.ndarray]`): As returned by [`AnomalyDetectionMetric.state`], or the file opened by
                `numpy.load`.

        Returns:
            [`AnomalyDetectionMetric`]: with the same counts.
        """
        metric = cls(float(state["aupro_limit"]))
        for index, name in enumerate(state["categories"].tolist()):
            prefix = f"{index}."
            part = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
            metric._categories[name if state["has_categories"] else None] = CategoryCounts.from_state(part)
        return metric

    def __len__(self) -> int:
        return sum(len(counts.scores) for counts in self._categories.values())

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self).from_state, (self.state(),)

    def _info(self) -> evaluate.MetricInfo:
        maps = List(List(Value("float32")))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            features=Features(
                {
                    "image_scores": Value("float64"),
                    "labels": Value("int64"),
                    "anomaly_maps": maps,
                    "masks": maps,
                    "categories": Value("string"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2310.18961"],
        )

    def _build_data_dir(self) -> str:
        # evaluate would create this folder to store batches; nothing is stored here.
        return os.path.join(self._data_dir_root, self.name, self.config_name)

    def _names(self) -> list[tuple[str | None, str]]:
        """Return pairs of key and name of all categories, in alphabetical order."""
        return sorted(
            ((key, ALL_IMAGES if key is None else key) for key in self._categories), key=lambda pair: pair[1]
        )

    def _check_same_kind(self, categories: set[str | None]) -> None:
        if {key is None for key in (*self._categories, *categories)} == {True, False}:
            raise ValueError("some images have categories and others none; give them for all images or for none.")


def _over_categories(
    join: Callable[[list[float]], float], per_category: dict[str, Metrics], metric: str
) -> float | None:
    """Compute the mean or maximum over the categories in which a metric is defined."""
    values = [value for metrics in per_category.values() if (value := metrics[metric]) is not None]
    return float(join(values)) if values else None
