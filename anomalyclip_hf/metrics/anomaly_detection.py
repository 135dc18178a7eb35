# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The figures of anomaly detection as a metric of Hugging Face `evaluate`, counted while images stream by."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from .category import FIGURES, CategoryCounts, Curve
from .inputs import read_batch


ALL_IMAGES = "all images"

DESCRIPTION = """\
Ranking figures of anomaly detection: AUROC, average precision and best F1 of images and of pixels, and the area under
the per-region overlap curve (AUPRO), as means over categories. Pixels are counted as they come: memory does not grow
with the number of images.
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
    """Image-level and pixel-level figures of anomaly detection.

    Image-level figures are exact. Pixel-level figures come from counts per bin of map values (see [`PixelCounts`]):
    values that differ by less than a relative `2**-(7 + bin_bits)` may share a bin, some 1e-5 to 1e-4 for maps of a
    model, and `pixel_error_bound` says, from the counts themselves, how far AUROC, average precision, F1-max and AUPRO
    can be from those of the single pixels. Their memory, at most 17 MB for each category, does not grow with the
    number of images. No file is written and no network used.

    In several processes, count in each, gather the metrics (they pickle, in the size of their counts) and [`merge`]
    them in one.

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
        self._categories: dict[str | None, CategoryCounts] = {}  # one, under None, if images come without categories

    def add_batch(
        self,
        *,
        image_scores: Any,
        labels: Any,
        anomaly_maps: Any = None,
        masks: Any = None,
        categories: Any = None,
    ) -> None:
        """Count a batch of images; tensors of any type and device, arrays and lists will do.

        Args:
            image_scores (of shape `(batch_size,)`): Finite, higher = more anomalous.
            labels (of shape `(batch_size,)`): 0 normal, 1 anomalous.
            anomaly_maps (of shape `(batch_size, height, width)` or list of `(height, width)`, *optional*):
                Finite, higher = more anomalous; counted as float32.
            masks (of the shapes of `anomaly_maps`, *optional*): Anomalous where above 0. In a list, `None` for a
                normal image says that all its pixels are normal; an anomalous image with `None` is left out of the
                pixel figures, and a note says so.
            categories (list of `str`, *optional*): Figures are computed in each and averaged. Either all batches have
                them or none.

        Raises:
            ValueError: If lengths or sizes differ, a score or map is not finite, a label is neither 0 nor 1, or a
                normal image's mask is not empty. The message names the image; nothing of the batch is counted.
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
            image_score (`float`): As in [`add_batch`], and so are the others.
            label (`int`): 0 normal, 1 anomalous.
            anomaly_map (of shape `(height, width)`, *optional*): Higher = more anomalous.
            mask (of shape `(height, width)`, *optional*): Anomalous where above 0.
            category (`str`, *optional*): Its category.

        Raises:
            ValueError: As [`add_batch`].
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
        """Compute all figures, then forget what was counted, so that the next evaluation starts afresh.

        Args:
            image_scores (*optional*): With the other arguments one more batch, as for [`add_batch`].
            labels (*optional*): Likewise.
            anomaly_maps (*optional*): Likewise.
            masks (*optional*): Likewise.
            categories (*optional*): Likewise.

        Returns:
            `dict`, ready for JSON:

            - `image_auroc`, `image_ap`, `image_f1_max`, `pixel_auroc`, `pixel_ap`, `pixel_f1_max`, `pixel_aupro` and
              `pixel_aupro_published` (`float` or `None`): in [0, 1], means over the categories in which the figure is
              defined; `None` where it is defined in none. `pixel_aupro_published` is the authors' variant (see
              `ranking.aupro_published`).
            - `pixel_error_bound` (`float` or `None`): how far the pixel figures, except the published variant, are
              from exact at most; the largest of all categories.
            - `per_category` (`dict`): the same figures of each category; empty without categories.
            - `notes` (`dict`): by figure and category (or `"all images"`), why a figure is undefined and left out of
              the mean, or says nothing since all scores are equal; under `masks`, what was amiss with masks.

        Raises:
            ValueError: If nothing was counted, or as [`add_batch`].
        """
        batch = (image_scores, labels, anomaly_maps, masks, categories)
        if any(column is not None for column in batch):
            self.add_batch(
                image_scores=image_scores, labels=labels, anomaly_maps=anomaly_maps, masks=masks, categories=categories
            )
        if not self._categories:
            raise ValueError("nothing was counted; call add_batch first, or give compute a batch.")
        per_category: dict[str, dict[str, float | None]] = {}
        notes: dict[str, dict[str, str]] = {}
        for category, name in self._names():
            per_category[name], category_notes = self._categories[category].figures(self.aupro_limit)
            for figure, note in category_notes.items():
                notes.setdefault(figure, {})[name] = note
        result: dict[str, Any] = {figure: _over_categories(np.mean, per_category, figure) for figure in FIGURES}
        result["pixel_error_bound"] = _over_categories(max, per_category, "pixel_error_bound")
        result["per_category"] = {} if None in self._categories else per_category
        self._categories = {}
        return result | {"notes": notes}

    def curves(self) -> dict[str, dict[str, Curve]]:
        """Points of the ROC, precision-recall and PRO curves to plot; call it before `compute`, which forgets.

        Returns:
            `dict`: by category (or `"all images"`) and name (`image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`,
            `pixel_pro`) two arrays of at most about a thousand points, x and y; undefined curves are absent.
        """
        return {name: self._categories[category].curves() for category, name in self._names()}

    def merge(self, other: "AnomalyDetectionMetric") -> None:
        """Take over what another metric has counted; the result is that of one metric for all; `other` stays.

        Args:
            other ([`AnomalyDetectionMetric`]): From another process, or of another part of the data.

        Raises:
            ValueError: If one has categories and the other has not, or their `aupro_limit` differ.
        """
        if other.aupro_limit != self.aupro_limit:
            raise ValueError(
                f"cannot merge: aupro_limit is {self.aupro_limit} here and {other.aupro_limit} there; make them equal."
            )
        self._check_same_kind(set(other._categories))
        for category, counts in other._categories.items():
            self._categories.setdefault(category, CategoryCounts()).merge(counts)

    def state(self) -> dict[str, np.ndarray]:
        """Everything counted, as arrays: `numpy.savez` keeps them, `allow_pickle=False` reads them back.

        Returns:
            `dict[str, np.ndarray]`
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
            state (`Mapping[str, np.ndarray]`): Of [`AnomalyDetectionMetric.state`], or the file `numpy.load` opened.

        Returns:
            [`AnomalyDetectionMetric`]
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
        # evaluate would make a folder here for the batches that it stores; nothing is stored.
        return os.path.join(self._data_dir_root, self.name, self.config_name)

    def _names(self) -> list[tuple[str | None, str]]:
        """Every category as it is kept and as it is called, in alphabetical order."""
        return sorted(
            ((key, ALL_IMAGES if key is None else key) for key in self._categories), key=lambda pair: pair[1]
        )

    def _check_same_kind(self, categories: set[str | None]) -> None:
        if {key is None for key in (*self._categories, *categories)} == {True, False}:
            raise ValueError("some images have categories and others none; give them for all images or for none.")


def _over_categories(
    join: Callable[[list[float]], float], per_category: dict[str, dict[str, float | None]], figure: str
) -> float | None:
    """Mean or maximum over the categories that define a figure."""
    values = [value for figures in per_category.values() if (value := figures[figure]) is not None]
    return float(join(values)) if values else None
