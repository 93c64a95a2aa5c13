"""The rounds of a search and of its extensions: how many trainings each of them has, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass

from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.trial import REPEATS


@dataclass(frozen=True)
class Part:
    """The search as it began, or one of its extensions.

    Attributes:
        first: number of its first round.
        batches: number of trainings of every round of stage 2.
        finalists: number of trainings of the round after these; 0 if there is none.
    """

    first: int
    batches: tuple[int, ...]
    finalists: int

    @property
    def last(self) -> int:
        """Number of the round of finalists."""
        return self.first + len(self.batches)

    @property
    def sizes(self) -> dict[int, int]:
        """Number of trainings by round, in order."""
        batches = dict(enumerate(self.batches, self.first))
        return batches | {self.last: self.finalists} if self.finalists else batches


def parts(config: SearchConfig) -> list[Part]:
    """Return the search as it began and its extensions. The finalists of an extension are among its trainings."""
    found = [Part(1, config.batches, config.finalists)]
    for trainings in config.extensions:
        finalists = min(config.finalists, trainings)
        found.append(Part(max(found[-1].sizes) + 1, in_batches(trainings - finalists, config.batch), finalists))
    return found


def in_batches(trainings: int, batch: int) -> tuple[int, ...]:
    """Return the sizes of batches for so many trainings. The last one may be smaller."""
    return tuple(min(batch, trainings - done) for done in range(0, trainings, batch))


def round_sizes(config: SearchConfig, method: str = "nars") -> dict[int, int]:
    """Return the number of trainings by round, in the order of a search.

    Args:
        method: `nars` or `random`. Random search has a round for every part, since none of its candidates depends on a result.
    """
    found = parts(config)
    if method == "random":
        first, *more = (sum(part.sizes.values()) for part in found)
        return dict(enumerate([first + config.repeats, *more], 1))
    sizes = {1: config.batches[0], REPEATS: config.repeats}
    for part in found:
        sizes |= part.sizes
    return sizes


def finalist_rounds(config: SearchConfig) -> list[int]:
    """Return the numbers of the rounds that train finalists, for all epochs of the recipe."""
    return [part.last for part in parts(config) if part.finalists]


def round_name(config: SearchConfig, number: int) -> str:
    """Return what a round of NARS is called: round 2, repeats, finalists; those of the first extension are finalists 2."""
    if number == REPEATS:
        return "repeats"
    rounds = finalist_rounds(config)
    if number not in rounds:
        return f"round {number}"
    return "finalists" if number == rounds[0] else f"finalists {rounds.index(number) + 1}"
