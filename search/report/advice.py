"""What to change in the next search, as far as the trials of this one tell. Every sentence follows from a count or a rank."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fbnetv3.pages.plots import count
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.early_stopping import agreement, fewest_candidates, lower_bound, rank_correlations
from fbnetv3.search.report.analysis import LEVELS, accuracies, convergence, coverage, measured, predictions
from fbnetv3.search.report.findings import value_words
from fbnetv3.search.space.space import Coordinate, SearchSpace
from fbnetv3.search.trial import REPEATS, Trial, in_rounds

DIVERGED, FAILED = 0.2, 0.1  # shares of the trainings from which on something should be done
HALF = 0.5  # least rank correlation that an earlier end is advised with
BEST, AT_END = 5, 4  # so many of the best candidates have the last value of a range
PREDICTED = 10  # predictions that say something
LATE = 1 / 3  # the last part of the trainings that should find something


@dataclass(frozen=True)
class Trials:
    """The trials of NARS with what they are read by.

    Attributes:
        epochs: after which they are compared.
    """

    config: SearchConfig
    space: SearchSpace
    trials: Sequence[Trial]
    epochs: int


def advice(config: SearchConfig, space: SearchSpace, trials: Sequence[Trial], epochs: int) -> list[str]:
    """Return what should be changed in the next search, in plain text; nothing where the trials do not tell.

    Args:
        trials: those of NARS.
        epochs: after which they are compared.
    """
    given = Trials(config, space, trials, epochs)
    rules: tuple[Callable[[Trials], str], ...] = (_failed, _diverged, _stopping, _predictor, _ends, _length)
    return [text for rule in rules if (text := rule(given))]


def _failed(given: Trials) -> str:
    lost = [t for t in given.trials if t.status == "failed"]
    if not lost or len(lost) < FAILED * len(given.trials):
        return ""
    return (
        f"{count(len(lost), 'training')} of {len(given.trials)} failed, most of them with “"
        f"{Counter(t.error for t in lost).most_common(1)[0][0]}”. Failed trainings teach nothing: fix the cause first."
    )


def _diverged(given: Trials) -> str:
    """Name the range whose upper part most of the diverged trainings have, and few others."""
    lost = [t for t in given.trials if t.status == "diverged"]
    others = [t for t in given.trials if t.status == "ok"]
    if len(lost) < max(3, DIVERGED * len(given.trials)):
        return ""
    text = f"{len(lost)} of {count(len(given.trials), 'training')} diverged"
    found = []
    for j, coordinate in enumerate(given.space.coordinates):
        if coordinate.arch or not coordinate.ordered:
            continue
        for value in range(1, len(coordinate.values)):
            inside = float(np.mean([t.candidate[j] >= value for t in lost]))
            outside = float(np.mean([t.candidate[j] >= value for t in others])) if others else 0.0
            found.append((inside - outside, inside, outside, coordinate, value))
    if not found or max(found, key=lambda row: row[0])[0] < HALF:
        return f"{text}, whatever the recipe: take a base recipe that trains more calmly."
    _, inside, outside, coordinate, value = max(found, key=lambda row: row[0])
    return (
        f"{text}; {inside:.0%} of these have a {_words(coordinate)} of {value_words(coordinate.values[value])} or more, of the "
        f"others {outside:.0%}. End its range below that."
    )


def _stopping(given: Trials) -> str:
    """Say what early stopping by the rule would have needed, if it saved nothing."""
    config, batch = given.config, [t for t in measured(given.trials) if t.round == 1]
    curves = rank_correlations([t.acc1 for t in batch])
    last = len(curves)
    later = any(1 < t.round <= config.rounds for t in given.trials)
    if config.stopping != "rule" or not later or last < 2 or given.epochs < last:
        return ""
    candidates = sum(len(t.acc1) == last for t in batch)
    ends = [lower_bound(c.spearman, candidates) for c in curves[:-1]]
    # What the rule compares with the threshold: from an epoch on, the lower end stays at least so high.
    from_here = [min(ends[k:]) if not any(map(math.isnan, ends[k:])) else math.nan for k in range(len(ends))]
    enough = [k for k, end in enumerate(from_here) if end >= HALF]
    start = f"Early stopping bought nothing: all trainings ran for {count(last, 'epoch')}."
    needed = fewest_candidates(config.early_stopping)
    if not enough and needed is not None and candidates < needed:
        return (
            f"{start} A first batch of {candidates} cannot show that earlier rankings are right: give first: {needed}."
        )
    if not enough:
        return f"{start} Earlier rankings do not agree with the last one, so a lower threshold would not help either."
    k = enough[0]
    threshold = math.floor(from_here[k] * 100) / 100
    return (
        f"{start} Lower its threshold: with early_stopping: {threshold:g} instead of {config.early_stopping:g}, later "
        f"trainings would have ended after {count(k + 1, 'epoch')}. Or take stopping: model, which decides for each training."
    )


def _predictor(given: Trials) -> str:
    pairs = predictions(given.trials, given.epochs)
    if len(pairs) < PREDICTED:
        return ""
    rank, found = agreement(pairs[:, 0], pairs[:, 2]).spearman, coverage(pairs)
    texts = []
    if not math.isnan(rank) and rank < 0.2:
        texts.append(
            f"The predictor ranked the {len(pairs)} candidates that it chose hardly better than chance (rank correlation "
            f"{rank:.2f}): give it a larger first batch, or longer trainings, which are less noisy."
        )
    if found is not None and found.inside[1] < LEVELS[1] - 0.3:
        texts.append(
            f"Only {found.inside[1]:.0%} of the trainings came out inside the interval that should hold {LEVELS[1]:.0%}: do "
            "not trust predicted intervals of this search."
        )
    return " ".join(texts)


def _ends(given: Trials) -> str:
    """Name the ranges of the recipe at whose end nearly all of the best candidates are."""
    whole = [t for t in measured(given.trials) if t.round != REPEATS]
    order = np.argsort([-value for value in accuracies(whole, given.epochs)], kind="stable")
    best = list(dict.fromkeys(tuple(whole[i].candidate) for i in order))[:BEST]
    if len(best) < BEST or len(whole) < 4 * BEST:
        return ""
    texts = []
    for j, coordinate in enumerate(given.space.coordinates):
        if coordinate.arch or not coordinate.ordered or len(coordinate.values) < 3:
            continue
        for end, word in ((0, "lowest"), (len(coordinate.values) - 1, "highest")):
            inside = sum(row[j] == end for row in best)
            # A value of 0 switches something off, and there is nothing below it.
            if inside >= AT_END and not (end == 0 and coordinate.values[0] == 0):
                texts.append(
                    f"{inside} of the {BEST} best candidates have the {word} {_words(coordinate)}, "
                    f"{value_words(coordinate.values[end])}: extend its range."
                )
    return " ".join(texts)


def _length(given: Trials) -> str:
    """Say whether the last trainings still found something, if all rounds were made."""
    ordered = [t for t in in_rounds(given.trials) if t.round != REPEATS]
    if len(ordered) < 12 or not any(t.round >= given.config.rounds for t in ordered):
        return ""
    curve = convergence(ordered, given.epochs).best
    if math.isnan(curve[-1]):
        return ""
    first = int(np.argmax(curve == curve[-1])) + 1
    if first > (1 - LATE) * len(ordered):
        return (
            f"The best accuracy came from training {first} of {len(ordered)}, near the end: more rounds may find more."
        )
    if first <= len(ordered) / 2:
        return (
            f"The best accuracy came from training {first} of {len(ordered)}; the later ones did not improve on it. With the "
            "same space, fewer rounds cost less."
        )
    return ""


def _words(coordinate: Coordinate) -> str:
    return coordinate.name.replace("_", " ")
