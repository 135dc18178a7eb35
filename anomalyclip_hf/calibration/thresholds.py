# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Hold a calibration: thresholds, the data behind them, and their meaning in sentences."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ..io.versions import package_versions
from ..postprocessing_anomalyclip import check_calibration, judge


METRICS = ("false_alarm_rate", "recall", "f1")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Hold the thresholds of one category, or of all images together.

    Args:
        threshold (`float`): Score from which an image is called anomalous.
        review_threshold (`float`, *optional*): Lower score from which a person should look at the image.
        pixel_threshold (`float`, *optional*): Map value from which a pixel belongs to the mask.
        normal (`int`): Number of normal images used.
        anomalous (`int`): Number of anomalous images used.
        normal_scores (`list[float]`): Distinct scores of the normal images, ascending. For more than 400 images only
            some are kept; the others count as the next higher one.
        normal_counts (`list[int]`): Number of normal images with each of these scores.
        metrics (`dict[str, list[float]]`): `false_alarm_rate` and, with anomalous images, `recall` and `f1`, on the
            images used: the value and both ends of its 95 % bootstrap interval, in [0, 1].
        rate_interval (`list[float]`, *optional*): Conformal only: range of the false-alarm rate on new images in 95 of
            100 calibrations with this number of images.
    """

    threshold: float
    review_threshold: float | None = None
    pixel_threshold: float | None = None
    normal: int
    anomalous: int = 0
    normal_scores: list[float]
    normal_counts: list[int]
    metrics: dict[str, list[float]] = field(default_factory=dict)
    rate_interval: list[float] | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Calibration(Thresholds):
    """Hold thresholds and the data behind them; [`calibrate`] returns it.

    Args:
        method (`str`): `"conformal"`, `"quantile"` or `"f1"`.
        alpha (`float`, *optional*): Largest share of normal images to call anomalous; `None` for `"f1"`.
        review_alpha (`float`, *optional*): Largest share of normal images to look at or to call anomalous.
        categories (`dict[str, Thresholds]`): Thresholds of each category; empty without categories.
        image_score (`str`): Kind of the scores: `"paper"`, `"fusion"` or `"top1%"`.
        data (`str`, *optional*): Description of the images.
        date (`str`): Day of the calibration, as `2026-11-27`.
        fingerprint (`str`, *optional*): Digest of the model. With another model, or other settings, the calibration is
            stale. Without a digest it belongs to no model, and is not used.
        settings (`dict`): Everything that scores depend on beside the model.
        versions (`dict`): Versions of packages.
        notes (`list[str]`): Problems of the calibration, one line each.

    All arguments of [`Thresholds`] are attributes too: `threshold`, `review_threshold`,
    `pixel_threshold`, `normal`, `anomalous`, `metrics` and `rate_interval`.
    """

    method: str
    alpha: float | None = None
    review_alpha: float | None = None
    categories: dict[str, Thresholds] = field(default_factory=dict)
    image_score: str = "paper"
    data: str | None = None
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    fingerprint: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=package_versions)
    notes: list[str] = field(default_factory=list)

    def p_value(self, score: float, category: str | None = None) -> float:
        """Return the share of normal images, the new one included, that score as high as an image or higher.

        If the image is normal, a p-value of at most α occurs with probability at most α, for any α.

        Args:
            score (`float`): Score of the image.
            category (`str`, *optional*): Its category; an unknown one is compared with all images.

        Returns:
            `float`: in (0, 1].
        """
        return judge(score, self.to_dict(), category)[0]

    def decide(self, score: float, category: str | None = None) -> str:
        """Return `"reject"` from the threshold on, `"look"` from the review threshold on, else `"accept"`.

        Args:
            score (`float`): Score of the image.
            category (`str`, *optional*): Its category; an unknown one gets the thresholds of all images.
        """
        return judge(score, self.to_dict(), category)[1]

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as `processor.calibration` holds it, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a calibration from what [`Calibration.to_dict`] returned.

        Raises:
            ValueError: If a value is missing or invalid. The message names it.
        """
        check_calibration(values)
        names = {entry.name for entry in dataclasses.fields(cls)}
        parts = {name: Thresholds(**part) for name, part in values.get("categories", {}).items()}
        return cls(**{name: value for name, value in values.items() if name in names} | {"categories": parts})

    def describe(self) -> list[str]:
        """Describe in sentences what the thresholds mean, and how certain they are."""
        lines = [f"An image is anomalous from a score of {self.threshold:.4g} on."]
        if self.method == "conformal":
            lines += self._describe_guarantee()
        if self.review_threshold is not None and self.review_alpha is not None:
            lines.append(
                f"Look at images with scores from {self.review_threshold:.4g} on; at most "
                f"{_percent(self.review_alpha)} of new normal images have them."
            )
        if self.pixel_threshold is not None:
            lines.append(f"A pixel belongs to the mask from a map value of {self.pixel_threshold:.4g} on.")
            if self.method == "conformal" and self.alpha is not None:
                lines.append(f"At most {_percent(self.alpha)} of new normal images have any such pixel.")
        found = [
            f"{name.replace('_', ' ')} {_interval(self.metrics[name])}" for name in METRICS if name in self.metrics
        ]
        images = f"{self.normal} normal" + (f" and {self.anomalous} anomalous" if self.anomalous else "") + " images"
        lines.append(f"On the {images} used: {', '.join(found)}.")
        return [*lines, *self.notes]

    def _describe_guarantee(self) -> list[str]:
        low, high = self.rate_interval or (math.nan, math.nan)
        return [
            f"It was chosen so that at most {_percent(self.alpha or 0)} of new normal images are called anomalous, "
            f"whatever the model, as long as they are like the {self.normal} normal images used (conformal).",
            f"That is the mean over calibrations: with {self.normal} images, 95 of 100 calibrations have a rate "
            f"between {_percent(low)} and {_percent(high)}.",
        ]

    def __repr__(self) -> str:
        return "\n".join([f"Calibration ({self.method}, {self.date})", *self.describe()])


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _interval(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{_percent(value)} ({100 * low:.3g} to {100 * high:.3g})"


__all__ = ["Calibration", "Thresholds"]
