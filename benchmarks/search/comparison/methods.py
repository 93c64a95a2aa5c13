"""The methods that a comparison runs, and one search of one method in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from fbnetv3.benchmarks.search.comparison.cases import with_predictor, without_finalists
from fbnetv3.benchmarks.search.comparison.landscape import INVENTED
from fbnetv3.errors import InputError, available
from fbnetv3.search.nars.algorithm import feasible, nars, stage1, stage2
from fbnetv3.search.nars.batches import BatchRunner
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import cautious_score
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.rivals.catalogue import RIVALS
from fbnetv3.search.rivals.packages import load_package
from fbnetv3.search.rivals.search import random_search
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.space import SearchSpace

LEDGER = "ledger.jsonl"
Search = Callable[[Context, BatchRunner], Proposal]
Family = Literal["rival", "ablation", "order"]


def stage_two_alone(context: Context, runner: BatchRunner) -> Proposal:
    """Run stages 1 and 2 of NARS, and answer with the best trained candidate as NARS does (Table 7 asks what stage 3 adds)."""
    predictor = stage1(context)
    trained = stage2(context, predictor, runner)
    rows = feasible(context, trained.rows)
    score = cautious_score(context.space, predictor, context.config.evolution.caution)
    return Proposal(tuple(rows[score(rows).argmax()].tolist()), None, trained.epochs)


def _without_stage3(config: SearchConfig) -> SearchConfig:
    """Return the configuration without finalists, and without the evolution in every round of stage 2."""
    return without_finalists(config.replace(beyond_pool=False))


def _without_uncertainty(config: SearchConfig) -> SearchConfig:
    """Return the configuration that trains the highest predicted accuracies, however uncertain the others are."""
    return config.replace(acquisition="mean")


def _without_early_stopping(config: SearchConfig) -> SearchConfig:
    """Return the configuration whose trainings all have the recipe's epochs: no ranking surely correlates by 1."""
    return config.replace(stopping="rule", early_stopping=1.0)


@dataclass(frozen=True)
class Method:
    """A method of search.

    Attributes:
        search: searches pairs, or one part of them.
        change: what the method changes in the configuration.
        rounds: whose rounds its ledger has, see `foreign_trial`.
        family: `rival` of NARS, `ablation` of NARS, or `order` in which architecture and recipe are searched. The intervals of
            a family are corrected together.
        packages: that it needs and that are extras.
        parts: what is searched one after the other, `architecture` or `recipe`, while the other part stays.
        unfit: returns why the method cannot search a space, or nothing if it can.
    """

    search: Search
    change: Callable[[SearchConfig], SearchConfig] = lambda config: config
    rounds: str = "nars"
    family: Family = "rival"
    packages: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    unfit: Callable[[SearchSpace], str] = lambda space: ""


def _lacks_a_part(space: SearchSpace) -> str:
    """Return why architecture and recipe cannot be searched one by one in a space, or nothing if they can."""
    if space.trainable:
        return "it needs a table"
    missing = [name for name, arch in (("architecture", True), ("recipe", False)) if not _choices(space, arch)]
    return f"the table has no choice of the {missing[0]}" if missing else ""


def _has_one_epoch(space: SearchSpace) -> str:
    """Return why nothing can stop early in a space, or nothing if it can."""
    one = not space.trainable and space.base_recipe("table").epochs == 1
    return "its trainings have one epoch, so that none stops early" if one else ""


def _choices(space: SearchSpace, arch: bool) -> int:
    return sum(len(c.values) > 1 for c in space.coordinates if c.arch == arch)


def _orders(suffix: str, search: Search, rounds: str) -> dict[str, Method]:
    """Return the methods that do not search architecture and recipe jointly, with one searcher."""
    names = {
        "architecture_only": ("architecture",),
        "recipe_only": ("recipe",),
        "architecture_then_recipe": ("architecture", "recipe"),
        "recipe_then_architecture": ("recipe", "architecture"),
    }
    return {
        f"{name}{suffix}": Method(search, rounds=rounds, family="order", parts=parts, unfit=_lacks_a_part)
        for name, parts in names.items()
    }


def _rivals() -> dict[str, Method]:
    """Return the rivals that learn: in batches of the size of NARS's, and `_sequential`.

    The latter see every result before they propose again, which needs a run without parallel workers: they show what batches
    cost a rival.
    """
    found = {}
    for end, batch in (("", 0), ("_sequential", 1)):
        for name, entry in RIVALS.items():
            search = partial(entry.search, batch=batch)
            found[name + end] = Method(search, rounds="other", packages=entry.packages, unfit=entry.unfit)
    return found


# The order is that of the tables and the plot.
METHODS = {
    "nars": Method(nars),
    "random": Method(random_search, rounds="random"),
    **_rivals(),
    "nars_scratch": Method(nars, partial(with_predictor, pretrain=False), family="ablation"),
    "nars_paper_labels": Method(nars, partial(with_predictor, rich_labels=False), family="ablation"),
    "nars_no_stage3": Method(stage_two_alone, _without_stage3, family="ablation"),
    "nars_no_uncertainty": Method(nars, _without_uncertainty, family="ablation"),
    "nars_no_early_stopping": Method(nars, _without_early_stopping, family="ablation", unfit=_has_one_epoch),
    **_orders("", nars, "nars"),
    **_orders("_random", random_search, "random"),
}


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        cases: configurations by name.
        methods: names of `METHODS`.
        seeds: seeds of every method.
        known: where the accuracies of a space of networks come from, if nothing is trained: `INVENTED`, or the path of the
            table that a surrogate is fitted to.

    Raises:
        InputError: a method is unknown or needs a package that is missing, or there is no method.
    """

    cases: Mapping[str, SearchConfig]
    methods: Sequence[str]
    seeds: Sequence[int]
    known: str = ""

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(
                f"methods: unknown {', '.join(unknown) or 'none'}; {available(''.join(unknown[:1]), METHODS)}"
            )
        for name in dict.fromkeys(package for method in self.methods for package in METHODS[method].packages):
            load_package(name)

    @cached_property
    def kind(self) -> str:
        """Where the accuracies come from: `table`, `table, held out` (see `TableSpace.held_out`), `invented`, `surrogate`
        or `real`.

        Raises:
            InputError: the tables are of both kinds.
        """
        kinds = {self._kind(space) for space in self.spaces.values()}
        if len(kinds) > 1:
            raise InputError(
                "some of the tables keep the trainings of a candidate apart, and others do not; convert all of them with "
                "fbnetv3 search table convert"
            )
        return kinds.pop()

    def _kind(self, space: SearchSpace) -> str:
        if not space.trainable:
            return "table, held out" if space.held_out else "table"
        if not self.known:
            return "real"
        return INVENTED if self.known == INVENTED else "surrogate"

    @cached_property
    def spaces(self) -> dict[str, SearchSpace]:
        """The spaces by what the configurations name them."""
        return {name: load_space(name) for name in {config.space for config in self.cases.values()}}

    def left_out(self, case: str) -> dict[str, str]:
        """Return the methods that cannot search the space of a case, with the reason."""
        space = self.spaces[self.cases[case].space]
        reasons = {name: METHODS[name].unfit(space) for name in self.methods}
        return {name: reason for name, reason in reasons.items() if reason}
