"""One pass over a split: a network's predictions become counts as they come, so that memory does not grow with the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.device import tf32_units
from fbnetv3.errors import InputError
from fbnetv3.evaluation.measures import BINS, Confidence, Evaluation, Mistake
from fbnetv3.networks.classifier import check_logits
from fbnetv3.progress import Report, silent
from fbnetv3.training.accuracy import top_hits
from fbnetv3.training.data.device import CPU, on_device
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.data.readers import ReaderData
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

MISTAKES = 24  # that are kept with their pixels


def evaluate(
    model: nn.Module,
    data: Data,
    split: str,
    *,
    classes: tuple[str, ...] | None = None,
    labels: Sequence[int] | None = None,
    device: torch.device = CPU,
    report: Report = silent,
) -> Evaluation:
    """Return what a pass over a split counts of `model` in eval mode, in full float32. Its mode is restored afterwards.

    The accuracies are those of `fbnetv3.training.accuracy.measure`.

    Args:
        classes: names of the network's classes; by default those of the data.
        labels: for each class of the data, the class of the network; by default the same.
        device: where the network is. The images are brought there.
        report: called with the images that are done and that of all images.

    Raises:
        InputError: an image cannot be read, and such images end the run; none can be read; the network has another number of
            classes, or its logits are not finite.
    """
    names, count = classes or data.classes, data.count(split)
    table = torch.tensor(range(len(names)) if labels is None else labels, device=device)
    counts, training = _Counts(names, data.transforms), model.training
    model.eval()
    try:
        with torch.no_grad(), tf32_units(used=False):
            for x, given in on_device(data, device).batches(split, ProcessRank()):
                counts.add(x, model(x), table[given])
                report(counts.images, count, f"measuring on the images of {split}")
    finally:
        model.train(training)
    if not counts.images:
        raise InputError(f"no image of {split} can be read; repair them")
    return counts.finish(data, split)


class _Counts:
    """The counts of the batches so far."""

    def __init__(self, classes: tuple[str, ...], transforms: Transforms) -> None:
        self.classes, self.transforms = classes, transforms
        self.images, self.hits5, self.nll = 0, 0, 0.0
        self.confusion: Counter[tuple[int, int]] = Counter()
        self.bins = torch.zeros(3, BINS, dtype=torch.float64)  # images, hits, and sum of confidences
        self.mistakes: list[tuple[int, Mistake]] = []  # each with the number of its image

    def add(self, x: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: inputs [n, c, h, w], logits [n, k], labels int64 [n]."""
        if logits.shape != (len(labels), len(self.classes)):
            raise InputError(
                f"the network returns {list(logits.shape)} for {len(labels)} images of {len(self.classes)} classes; give a "
                "network and data with the same number of classes"
            )
        self.hits5 += int(top_hits(logits, labels)[1])
        predicted, logits, labels = logits.argmax(1).cpu(), logits.cpu(), labels.cpu()
        check_logits(logits)
        scores = logits.double().log_softmax(1)
        of_label = scores.gather(1, labels[:, None])[:, 0]
        confidence, right = scores.gather(1, predicted[:, None])[:, 0].exp(), predicted == labels
        self.nll -= float(of_label.sum())
        self.confusion.update(zip(labels.tolist(), predicted.tolist(), strict=True))
        # A bin has its upper end, as in the definition; 0 is in the first one.
        places = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
        for row, values in zip(self.bins, (torch.ones_like(confidence), right.double(), confidence), strict=True):
            row.index_add_(0, places, values)
        self._keep(x, confidence.where(~right, -1.0), of_label.exp(), labels, predicted)
        self.images += len(labels)

    def _keep(self, x: Tensor, wrong: Tensor, of_label: Tensor, labels: Tensor, predicted: Tensor) -> None:
        """Keep the worst of the mistakes so far and of this batch.

        Args:
            wrong: confidence of the mistakes [n], -1 for what is right.
        """
        found = self.mistakes
        least = found[-1][1].confidence if len(found) == MISTAKES else 0.0
        for row in wrong.argsort(descending=True, stable=True)[:MISTAKES].tolist():
            if wrong[row] < least:
                break
            names = (self.classes[labels[row]], self.classes[predicted[row]])
            pixels = _pixels(x[row], self.transforms)
            mistake = Mistake("", *names, float(wrong[row]), float(of_label[row]), pixels)
            found = [*found, (self.images + row, mistake)]
        self.mistakes = sorted(found, key=lambda row: (-row[1].confidence, row[0]))[:MISTAKES]

    def finish(self, data: Data, split: str) -> Evaluation:
        """Return the counts of all batches, and the mistakes with the names of their images."""
        bins = tuple(
            Confidence(k / BINS, (k + 1) / BINS, int(images), int(hits), total)
            for k, (images, hits, total) in enumerate(self.bins.T.tolist())
        )
        mistakes = tuple(replace(row, image=_name(data, split, number)) for number, row in self.mistakes)
        return Evaluation(self.classes, self.images, self.hits5, self.nll, self.confusion, bins, mistakes)


def _pixels(x: Tensor, transforms: Transforms) -> Any:
    """Return an input of a network as the uint8 pixels that it was made of."""
    std, mean = (torch.tensor(values)[:, None, None] for values in (transforms.std, transforms.mean))
    return ((x.cpu() * std + mean) * 255).round().clamp(0, 255).byte().numpy()


def _name(data: Any, split: str, number: int) -> str:
    """Return what identifies the n-th image of a pass. Only data that reads its images knows their names."""
    if not isinstance(data, ReaderData):
        return f"image {number}"
    # Images that could not be read were left out of the pass.
    unread = data.bad.met.get(split, {})
    for index in sorted(unread):
        number += index <= number
    return data.images(split).name(number)
