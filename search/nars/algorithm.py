"""Algorithm 1 over a ledger: the three stages, and random search to compare with.

What is proposed is a pure function of the configuration and of the trials in the ledger, so a resumed search is the same
call again: trials that the ledger holds are not trained again, everything else is recomputed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError
from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.executor import Executor, Job
from fbnetv3.search.execution.images import Evaluator, ImageEvaluator, Outcome
from fbnetv3.search.nars.config import SearchConfig
from fbnetv3.search.nars.evolve import Score, evolve
from fbnetv3.search.nars.select import early_stopping_epoch, first_batch, promising_batch
from fbnetv3.search.predictor.diagnostics import Statistic, held_out_statistics
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.constraints import Limits
from fbnetv3.search.space.costs import cost, statistics
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.space import IntMatrix, SearchSpace, load_space
from fbnetv3.search.space.table import TableEvaluator, TableSpace
from fbnetv3.search.trial import Ledger, Trial
from fbnetv3.training.distributed import find_device
from fbnetv3.training.recipe import Recipe

logger = logging.getLogger(__name__)

REPEATS = 0  # the round of candidates that train again
Progress = Callable[[int, int, str], None]  # trainings done, trainings in all, a few words


@dataclass(frozen=True)
class Finalist:
    """One of the best of stage 3, or the best trial of stage 2, trained to find out whether the predictor was right."""

    candidate: tuple[int, ...]
    predicted: tuple[float, float]  # mean and deviation, in percent after the epochs of the trials
    measured: float  # validation accuracy in percent after those epochs, or chance if it diverged
    final: float  # and after all epochs of the recipe: the best of these is chosen


@dataclass(frozen=True)
class Proposal:
    """A pair that a search answers with: index row, and predicted accuracy (mean, deviation) if a predictor chose it."""

    candidate: tuple[int, ...]
    predicted: tuple[float, float] | None
    epochs: int  # after which the prediction, or the best measurement, holds
    history: tuple[float, ...] = ()  # best score of every generation of the evolution
    finalists: tuple[Finalist, ...] = ()  # by predicted score, best first; the last one may be the best trial
    proxy: tuple[Statistic, ...] = ()  # what the encoder knows of the 20% of the pool that it was not pretrained on


@dataclass(frozen=True)
class Context:
    """What the stages share: configuration, space, base recipe, and how a candidate is evaluated."""

    config: SearchConfig
    space: SearchSpace
    base: Recipe
    given: Evaluator | None = None

    @classmethod
    def of(cls, config: SearchConfig, evaluator: Evaluator | None = None) -> Context:
        """Load what the configuration names; without an evaluator, candidates are trained on its images.

        Of a table, whose accuracies are looked up, the configuration's data and recipe are not read.
        """
        space = load_space(config.space)
        if isinstance(space, TableSpace):
            return cls(config, space, space.base, evaluator or TableEvaluator(space))
        return cls(config, space, load_recipe(config.recipe), evaluator)

    @cached_property
    def evaluator(self) -> Evaluator:
        """How a candidate is evaluated.

        Raises:
            InputError: the configuration's data is not there, or does not fit the space.
        """
        return self.given or image_evaluator(self.config, self.space)

    @cached_property
    def limits(self) -> Limits:
        """All constraints of the configuration."""
        config, latency = self.config, self.config.latency
        measured = () if latency is None else (latency.load(self.space),)
        return Limits(self.space, (config.constraint, *config.also), measured)

    def trial_seed(self, round: int, index: int) -> int:
        """The seed of a trial's training, a function of the search's seed and the trial's place."""
        return int(np.random.SeedSequence([self.config.seed, round, index]).generate_state(1)[0])

    def label(self, trial: Trial, epoch: int) -> float:
        """The accuracy that the predictor learns from: after `epoch`, or chance for a training that ended early."""
        return trial.acc1[epoch - 1] if trial.status == "ok" else self.chance

    @property
    def chance(self) -> float:
        """Accuracy in percent of guessing."""
        return 100.0 / (self.config.classes or self.space.num_classes)


def image_evaluator(config: SearchConfig, space: SearchSpace) -> ImageEvaluator:
    """Trainings on the data that a configuration names.

    Raises:
        InputError: none named, none there, or data that does not fit the space.
    """
    if config.data is None:
        raise InputError(f"{config.name} names no data: give --data (`fbnetv3 train --help` says what it takes)")
    evaluator = ImageEvaluator(config.data, find_device(config.device), config.precision, config.readers)
    data = evaluator.images(max(space.resolutions))
    channels, classes = data.transforms.in_chans, len(data.classes)
    if (space.in_chans, config.classes or space.num_classes) != (channels, classes):
        raise InputError(
            f"space {space.name} is for {space.in_chans} channels and {config.classes or space.num_classes} classes, "
            f"data {data.name} has {channels} and {classes}; choose a space for this data"
        )
    return evaluator


def random_search(context: Context, ledger: Ledger, executor: Executor, progress: Progress) -> Proposal:
    """As many trainings as NARS makes, of random candidates inside the constraint; the best measured one."""
    config = context.config
    total = config.trainings
    seed = context.trial_seed(0, 1)  # another pool than NARS draws, with this seed or any other
    pool = context.limits.sample(max(config.pool, total), seed)
    rows = pool[first_batch(len(pool), total, seed)]
    trials = train_batch(context, ledger, executor, 1, rows, None, context.base.epochs, progress)
    best = best_trial(context, trials)
    return Proposal(tuple(best.candidate), None, best.epochs)


def nars(context: Context, ledger: Ledger, executor: Executor, progress: Progress) -> Proposal:
    """Algorithm 1, and the finalists: the best measured of the pairs with the highest scores inside the constraints."""
    config, space = context.config, context.space
    pool = context.limits.sample(config.pool, config.seed)
    encoded = encode(space, pool)
    progress(0, 1, "stage 1: pretraining the predictor on free statistics")
    predictor = pretrained_predictor(context, pool)
    proxy = held_out_statistics(space, predictor, pool[len(pool) * 4 // 5 :])
    tried = np.zeros(len(pool), bool)
    trials: list[Trial] = []
    epoch = context.base.epochs
    for round in range(1, config.rounds + 1):
        predicted = None
        if round == 1:
            chosen = first_batch(len(pool), config.batch, config.seed)
        else:
            chosen = promising_batch(predictor.predict_members(encoded), tried, config.batch, pool)
            predicted = np.stack(predictor.predict(encoded[chosen]))
        tried[chosen] = True
        trials += train_batch(context, ledger, executor, round, pool[chosen], predicted, epoch, progress)
        if round == 1:
            if config.repeats:
                again = pool[chosen[: config.repeats]]
                train_batch(context, ledger, executor, REPEATS, again, None, epoch, progress)
            epoch = early_stopping_epoch([t.acc1 for t in trials], config.early_stopping, epoch)
            logger.info("candidates train %d of %d epochs from round 2 on", epoch, context.base.epochs)
        best = fit_trials(context, predictor, trials, epoch)
    score = cautious_score(space, predictor, config.evolution.caution)
    evolved = evolve(space, score, best, context.limits, config.evolution, config.seed)
    rows = choose_finalists(evolved.index, best[context.limits.allows(best)], max(config.finalists, 1))
    expected = np.stack(predictor.predict(encode(space, rows)))
    pairs = [(float(mean), float(std)) for mean, std in expected.T]
    proposal = Proposal(tuple(rows[0].tolist()), pairs[0], epoch, evolved.history, proxy=proxy)
    if not config.finalists:
        return proposal
    # Deviation from Algorithm 1, which answers with the highest score: an evolution goes where the predictor is wrong
    # in its favour, so the best few are trained, with the best trial of stage 2, and their accuracy decides.
    last = train_batch(context, ledger, executor, config.rounds + 1, rows, expected, context.base.epochs, progress)
    finalists = tuple(
        Finalist(tuple(t.candidate), p, context.label(t, epoch), context.label(t, context.base.epochs))
        for t, p in zip(last, pairs, strict=True)
        if t.status != "failed"
    )
    won = max(finalists, key=lambda f: f.final)  # the better predicted one of equals
    return replace(proposal, candidate=won.candidate, predicted=won.predicted, finalists=finalists)


def kept(trials: Sequence[Trial]) -> list[Trial]:
    """Those that say something of their candidates: one that failed does not."""
    return [t for t in trials if t.status != "failed"]


def best_trial(context: Context, trials: Sequence[Trial]) -> Trial:
    """The most accurate trial, one that did not fail if there is one, the earliest of equal ones."""
    return max(kept(trials) or trials, key=lambda t: (context.label(t, t.epochs), -t.round, -t.index))


def choose_finalists(evolved: IntMatrix, best_trials: IntMatrix, count: int) -> IntMatrix:
    """The rows to train before one is chosen: the best evolved, and in the last place the best trial of stage 2.

    With the trial among them, stage 3 gives nothing away where the predictor has learnt little.
    """
    if count == 1 or not len(best_trials) or (evolved[: count - 1] == best_trials[0]).all(axis=1).any():
        return evolved[:count]
    return np.concatenate([evolved[: count - 1], best_trials[:1]])


def fit_trials(context: Context, predictor: AccuracyPredictor, trials: Sequence[Trial], epoch: int) -> IntMatrix:
    """Fit the predictor to the accuracies of trials after `epoch`; returns their index rows, best first."""
    rows = np.array([t.candidate for t in kept(trials)])
    labels = np.array([context.label(t, epoch) for t in kept(trials)])
    predictor.fit(encode(context.space, rows), labels)
    return rows[np.argsort(-labels, kind="stable")]


def cautious_score(space: SearchSpace, predictor: AccuracyPredictor, caution: float) -> Score:
    """Predicted accuracy, less `caution` deviations of the ensemble.

    Deviation from the paper, which scores by the mean: an optimum of the mean alone sits where the few trials leave the
    ensemble to guess, and there it guesses high.
    """

    def score(index: IntMatrix) -> npt.NDArray[np.float64]:
        mean, std = predictor.predict(encode(space, index))
        return mean - caution * std

    return score


def pretrained_predictor(context: Context, pool: IntMatrix) -> AccuracyPredictor:
    """Stage 1: a predictor whose encoder has learnt the statistics of 80% of the pool (sections 3.2 and 4.2)."""
    mask, settings = arch_mask(context.space), context.config.predictor
    names, labels = statistics(context.space, pool)
    columns = [i for i, name in enumerate(names) if settings.rich_labels or name in ("flops", "params")]
    predictor = AccuracyPredictor(mask, seed=context.config.seed, settings=settings)
    if not settings.pretrain:
        return predictor
    train = len(pool) * 4 // 5
    predictor.pretrain(encode(context.space, pool[:train])[:, mask], labels[:train, columns].astype(float))
    return predictor


def train_batch(
    context: Context,
    ledger: Ledger,
    executor: Executor,
    round: int,
    rows: IntMatrix,
    predicted: npt.NDArray[np.float64] | None,
    epochs: int,
    progress: Progress,
) -> list[Trial]:
    """The trials of a round in the order of `rows`: those of the ledger, the missing ones trained and appended.

    A failed training of the ledger is tried again as long as no later round stands on it.

    Args:
        predicted: mean and deviation of every row, [2, n].

    Raises:
        InputError: the ledger's trials are others, or all trainings of the round failed.
    """
    config, space = context.config, context.space
    costs = cost(space, rows)
    stands = any(t.round > round for t in ledger.trials)
    done = {t.index: t for t in ledger.trials if t.round == round and (stands or t.status != "failed")}
    jobs: dict[int, Job] = {}
    for i, row in enumerate(rows.tolist()):
        if i in done:
            if done[i].candidate != row or done[i].epochs != epochs:
                raise InputError(
                    f"{ledger.path}: trial {i} of round {round} is not the one that this search makes; "
                    "it was made with other versions of fbnetv3, torch or numpy, or edited: start in another folder"
                )
        else:
            # Round 0 leaves its first two seeds to the final training and to random search.
            seed = context.trial_seed(round, i + 2 * (round == REPEATS))
            jobs[i] = (space.candidate(row, context.base, "candidate"), epochs, seed)

    def report() -> None:
        scores = [context.label(t, t.epochs) for t in ledger.trials]
        best = f", best so far {max(scores):.1f}%" if scores else ""
        name = "repeats" if round == REPEATS else f"round {round}" if round <= config.rounds else "finalists"
        text = f"{name}: {len(done)} of {len(rows)} candidates trained{best}"
        progress(len(ledger.trials), config.trainings, text)

    report()
    for i, outcome in executor.run(jobs):
        done[i] = _trial(context, round, i, rows[i].tolist(), jobs[i], outcome, costs, predicted)
        ledger.append(done[i])
        report()
    if round != REPEATS and not kept(list(done.values())):
        raise InputError(f"all {len(rows)} trainings of round {round} failed, {done[0].error}; mend that, and resume")
    return [done[i] for i in range(len(rows))]


def _trial(
    context: Context,
    round: int,
    i: int,
    row: list[int],
    job: Job,
    outcome: Outcome,
    costs: Any,
    predicted: npt.NDArray[np.float64] | None,
) -> Trial:
    convention = context.config.constraint.convention
    return Trial(
        round=round,
        index=i,
        candidate=row,
        seed=job[2],
        epochs=job[1],
        flops=int(costs.flops(convention)[i]),
        params=int(costs.params(convention)[i]),
        predicted=None if predicted is None else predicted[:, i].tolist(),
        acc1=list(outcome.acc1),
        status=outcome.status,
        seconds=outcome.seconds,
        error=outcome.error,
    )
