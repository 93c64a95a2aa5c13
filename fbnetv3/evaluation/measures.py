"""What is measured of a classifier, from counts: accuracies, precision and recall of every class, calibration.

All shares are in percent. A measure that nothing was counted for is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fbnetv3.training.accuracy import image_interval

BINS = 15  # of confidence, as in Guo et al., On Calibration of Modern Neural Networks (2017)


@dataclass(frozen=True)
class ClassMeasures:
    """Counts of a class, and what follows from them.

    Attributes:
        images: that have this label.
        predicted: images that the network gave this class.
        hits: images that both are true of.
    """

    name: str
    images: int
    predicted: int
    hits: int

    @property
    def precision(self) -> float | None:
        """Share of the predictions of this class that are right."""
        return 100 * self.hits / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the images of this class that are found."""
        return 100 * self.hits / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall. It is 0 if only one of them can be computed."""
        return 200 * self.hits / (self.images + self.predicted) if self.images or self.predicted else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        counts = {"class": self.name, "images": self.images, "predicted": self.predicted, "hits": self.hits}
        return counts | {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True)
class Confidence:
    """Images whose most probable class has a probability in one bin (`low`, `high`], and how many of them are right.

    Attributes:
        total: sum of these probabilities.
    """

    low: float
    high: float
    images: int
    hits: int
    total: float

    @property
    def mean(self) -> float | None:
        """Mean probability of the predicted class."""
        return 100 * self.total / self.images if self.images else None

    @property
    def acc1(self) -> float | None:
        """Share of these images that are right. It is equal to the mean probability if the network is calibrated."""
        return 100 * self.hits / self.images if self.images else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        ends = {"from": 100 * self.low, "to": 100 * self.high}
        return {**ends, "images": self.images, "confidence": self.mean, "acc1": self.acc1}


@dataclass(frozen=True, eq=False)
class Mistake:
    """A wrong prediction.

    Attributes:
        image: the name of the image within its set, or its number.
        confidence: probability of the predicted class.
        of_true: probability of the label.
        pixels: uint8 [c, h, w], as the network sees the image.
    """

    image: str
    label: str
    predicted: str
    confidence: float
    of_true: float
    pixels: Any

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the pixels."""
        names = {"image": self.image, "class": self.label, "predicted": self.predicted}
        return {**names, "confidence": 100 * self.confidence, "confidence_of_class": 100 * self.of_true}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one pass over images counted.

    Attributes:
        hits5: images whose label is among the five most probable classes.
        nll: sum over all images of the negative logarithm of their label's probability.
        confusion: number of images by label and prediction, without zeros.
        bins: all images by confidence, from the lowest bin to the highest.
        mistakes: the wrong predictions with the highest confidence, the most confident one first.
    """

    classes: tuple[str, ...]
    images: int
    hits5: int
    nll: float
    confusion: Mapping[tuple[int, int], int]
    bins: tuple[Confidence, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def hits(self) -> int:
        """Images whose most probable class is their label."""
        return sum(count for (label, predicted), count in self.confusion.items() if label == predicted)

    @property
    def acc1(self) -> float:
        """Share of the images whose most probable class is their label."""
        return 100.0 * self.hits / self.images

    @property
    def acc1_interval(self) -> tuple[float, float]:
        """Ends of the 95% interval of `acc1`, by the choice of images alone."""
        return image_interval(self.acc1, self.images)

    @property
    def acc5(self) -> float | None:
        """Share of the images whose label is among the five most probable classes; None for five classes and fewer."""
        return 100.0 * self.hits5 / self.images if len(self.classes) > 5 else None

    @property
    def loss(self) -> float:
        """Mean cross-entropy, without label smoothing."""
        return self.nll / self.images

    @property
    def ece(self) -> float:
        """Expected calibration error: how far the share of right predictions is from their confidence, on average."""
        return 100 * sum(abs(row.hits - row.total) for row in self.bins) / self.images

    @property
    def confidence(self) -> float:
        """Mean probability of the predicted class."""
        return 100 * sum(row.total for row in self.bins) / self.images

    @cached_property
    def per_class(self) -> tuple[ClassMeasures, ...]:
        """The measures of every class, in the order of the network."""
        table = np.zeros((3, len(self.classes)), dtype=np.int64)
        for (label, predicted), count in self.confusion.items():
            table[0, label] += count
            table[1, predicted] += count
            table[2, label] += count if label == predicted else 0
        return tuple(ClassMeasures(name, *row) for name, row in zip(self.classes, table.T.tolist(), strict=True))

    @property
    def balanced_acc1(self) -> float:
        """Mean recall of the classes that have images: every class counts alike, however many images it has."""
        return _mean([row.recall for row in self.per_class])

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have images or predictions."""
        return _mean([row.f1 for row in self.per_class])

    def confused(self) -> list[tuple[str, str, int]]:
        """Return label, prediction and number of images of all kinds of mistakes, the most frequent one first."""
        wrong = [(count, pair) for pair, count in self.confusion.items() if pair[0] != pair[1]]
        ordered = sorted(wrong, key=lambda row: (-row[0], row[1]))
        return [(self.classes[label], self.classes[predicted], count) for count, (label, predicted) in ordered]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: the measures of all images, of every class, mistakes, and calibration."""
        cells = [
            {"class": self.classes[label], "predicted": self.classes[predicted], "images": count}
            for (label, predicted), count in sorted(self.confusion.items())
        ]
        return {
            "images": self.images,
            "acc1": self.acc1,
            "acc1_interval": list(self.acc1_interval),
            "acc5": self.acc5,
            "loss": self.loss,
            "balanced_acc1": self.balanced_acc1,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
            "classes": [row.to_dict() for row in self.per_class],
            "confusion": cells,
            "calibration": [row.to_dict() for row in self.bins],
            "mistakes": [row.to_dict() for row in self.mistakes],
        }


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
