"""Algorithm 1 over a ledger: the three stages, and random search to compare with.

What is proposed is a pure function of the configuration and of the trials in the ledger, so a resumed search is the same
call again: trials that the ledger holds are not trained again, everything else is recomputed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.errors import InputError
from fbnetv3.recipes import load_recipe
from fbnetv3.search.config import SearchConfig
from fbnetv3.search.encoding import arch_mask, encode
from fbnetv3.search.evaluator import Evaluator, ImageEvaluator, Outcome
from fbnetv3.search.evolve import evolve
from fbnetv3.search.executor import Executor, Job
from fbnetv3.search.labels import cost
from fbnetv3.search.ledger import Ledger, Trial
from fbnetv3.search.optimize import early_stopping_epoch, first_batch, promising_batch
from fbnetv3.search.predictor import AccuracyPredictor
from fbnetv3.search.sampling import sample
from fbnetv3.search.space import IntMatrix, SearchSpace, load_space
from fbnetv3.training.data import load_images
from fbnetv3.training.recipe import Recipe

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # trainings done, trainings in all, a few words


@dataclass(frozen=True)
class Proposal:
    """A pair that a search answers with: index row, and predicted accuracy (mean, deviation) if a predictor chose it."""

    candidate: tuple[int, ...]
    predicted: tuple[float, float] | None
    epochs: int  # after which the prediction, or the best measurement, holds
    history: tuple[float, ...] = ()  # best score of every generation of the evolution


@dataclass(frozen=True)
class Context:
    """What the stages share: configuration, space, base recipe, and how a candidate is evaluated."""

    config: SearchConfig
    space: SearchSpace
    base: Recipe
    evaluator: Evaluator

    @classmethod
    def of(cls, config: SearchConfig, evaluator: Evaluator | None = None) -> Context:
        """Load what the configuration names, checking that it fits together; by default trainings on its images."""
        space, data = load_space(config.space), load_images(config.data)
        if (space.in_chans, space.num_classes) != (data.in_chans, len(data.classes)):
            raise InputError(
                f"space {space.name} is for {space.in_chans} channels and {space.num_classes} classes, "
                f"data {data.name} has {data.in_chans} and {len(data.classes)}; choose a space for this data"
            )
        return cls(config, space, load_recipe(config.recipe), evaluator or ImageEvaluator(config.data))

    def trial_seed(self, round: int, index: int) -> int:
        """The seed of a trial's training, a function of the search's seed and the trial's place."""
        return int(np.random.SeedSequence([self.config.seed, round, index]).generate_state(1)[0])

    def label(self, trial: Trial, epoch: int) -> float:
        """The accuracy that the predictor learns from: after `epoch`, or chance for a training that diverged."""
        return trial.acc1[epoch - 1] if trial.status == "ok" else 100.0 / self.space.num_classes


def random_search(context: Context, ledger: Ledger, executor: Executor, progress: Progress) -> Proposal:
    """As many trainings as NARS makes, of random candidates inside the constraint; the best measured one."""
    config, space = context.config, context.space
    total = config.batch * config.rounds
    seed = context.trial_seed(0, 1)  # another pool than NARS draws, with this seed or any other
    pool = sample(space, config.pool, config.constraint, seed)
    rows = pool[first_batch(len(pool), total, seed)]
    trials = _train_batch(context, ledger, executor, 1, rows, None, context.base.epochs, progress)
    best = max(trials, key=lambda t: (context.label(t, t.epochs), -t.index))
    return Proposal(tuple(best.candidate), None, best.epochs)


def nars(context: Context, ledger: Ledger, executor: Executor, progress: Progress) -> Proposal:
    """Algorithm 1; the pair of the best score inside the constraint."""
    config, space = context.config, context.space
    pool = sample(space, config.pool, config.constraint, config.seed)
    encoded = encode(space, pool)
    progress(0, 1, "stage 1: pretraining the predictor on FLOPs and parameters")
    predictor = pretrained_predictor(context, pool)
    tried = np.zeros(len(pool), bool)
    trials: list[Trial] = []
    epoch = context.base.epochs
    for round in range(1, config.rounds + 1):
        predicted = None
        if round == 1:
            chosen = first_batch(len(pool), config.batch, config.seed)
        else:
            members = predictor.predict_members(encoded)
            chosen = promising_batch(members, tried, config.batch)
            predicted = members[:, chosen]
        tried[chosen] = True
        trials += _train_batch(context, ledger, executor, round, pool[chosen], predicted, epoch, progress)
        if round == 1:
            epoch = early_stopping_epoch([t.acc1 for t in trials], config.early_stopping, epoch)
            logger.info("candidates train %d of %d epochs from round 2 on", epoch, context.base.epochs)
        rows = np.array([t.candidate for t in trials])
        labels = np.array([context.label(t, epoch) for t in trials])
        predictor.fit(encode(space, rows), labels)
    best = rows[np.argsort(-labels, kind="stable")]

    def score(index: IntMatrix) -> npt.NDArray[np.float64]:
        # Deviation from the paper, which scores by the mean: an optimum of the mean alone sits where the few trials leave
        # the ensemble to guess, and there it guesses high.
        mean, std = predictor.predict(encode(space, index))
        return mean - config.evolution.caution * std

    evolved = evolve(space, score, best, config.constraint, config.evolution, config.seed)
    mean, std = predictor.predict(encode(space, evolved.index[:1]))
    return Proposal(tuple(evolved.index[0].tolist()), (float(mean[0]), float(std[0])), epoch, evolved.history)


def pretrained_predictor(context: Context, pool: IntMatrix) -> AccuracyPredictor:
    """Stage 1: a predictor whose encoder has learnt FLOPs and parameters of 80% of the pool (sections 3.2 and 4.2)."""
    mask = arch_mask(context.space)
    costs = cost(context.space, pool)
    labels = np.stack([costs.flops(), costs.params()], axis=1).astype(float)
    predictor = AccuracyPredictor(mask, seed=context.config.seed, settings=context.config.predictor)
    train = len(pool) * 4 // 5
    predictor.pretrain(encode(context.space, pool[:train])[:, mask], labels[:train])
    return predictor


def _train_batch(
    context: Context, ledger: Ledger, executor: Executor, round: int, rows: IntMatrix,
    predicted: npt.NDArray[np.float64] | None, epochs: int, progress: Progress,
) -> list[Trial]:  # fmt: skip
    """The trials of a round in the order of `rows`: those of the ledger, the missing ones trained and appended."""
    config, space = context.config, context.space
    costs = cost(space, rows)
    done = {t.index: t for t in ledger.trials if t.round == round}
    jobs: dict[int, Job] = {}
    for i, row in enumerate(rows.tolist()):
        if i in done:
            if done[i].candidate != row or done[i].epochs != epochs:
                raise InputError(
                    f"{ledger.path}: trial {i} of round {round} is not the one that this search makes; "
                    "it was made with other versions of fbnetv3, torch or numpy, or edited: start in another folder"
                )
        else:
            jobs[i] = (space.candidate(row, context.base, "candidate"), epochs, context.trial_seed(round, i))

    def report() -> None:
        scores = [context.label(t, t.epochs) for t in ledger.trials]
        best = f", best so far {max(scores):.1f}%" if scores else ""
        text = f"round {round}: {len(done)} of {len(rows)} candidates trained{best}"
        progress(len(ledger.trials), config.batch * config.rounds, text)

    report()
    for i, outcome in executor.run(jobs):
        done[i] = _trial(context, round, i, rows[i].tolist(), jobs[i], outcome, costs, predicted)
        ledger.append(done[i])
        report()
    return [done[i] for i in range(len(rows))]


def _trial(
    context: Context, round: int, i: int, row: list[int], job: Job, outcome: Outcome, costs: Any,
    predicted: npt.NDArray[np.float64] | None,
) -> Trial:  # fmt: skip
    convention = context.config.constraint.convention
    return Trial(
        round=round,
        index=i,
        candidate=row,
        seed=job[2],
        epochs=job[1],
        flops=int(costs.flops(convention)[i]),
        params=int(costs.params(convention)[i]),
        predicted=None if predicted is None else [float(predicted[:, i].mean()), float(predicted[:, i].std())],
        acc1=list(outcome.acc1),
        status=outcome.status,
        seconds=outcome.seconds,
    )
