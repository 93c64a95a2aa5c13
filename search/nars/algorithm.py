"""Algorithm 1 of the paper: pretrain a predictor, improve it with batches of trainings, search with it.

What is proposed is a pure function of the configuration and of the trials in the ledger. So resuming a search is the same
call again: trials that the ledger holds are not trained again, and everything else is recomputed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fbnetv3.search.nars.acquisition import first_batch, warm_batch
from fbnetv3.search.nars.asynchronous import run_asynchronously
from fbnetv3.search.nars.batches import Batch, BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.early_stopping import trial_epochs
from fbnetv3.search.nars.evolve import Evolved, cautious_score, evolve
from fbnetv3.search.nars.hopeless import hopeless
from fbnetv3.search.nars.pretrain import pretrained_predictor, proxy_statistics
from fbnetv3.search.nars.proposal import Finalist, Proposal
from fbnetv3.search.nars.propose import fresh, propose
from fbnetv3.search.nars.rounds import Part, finalist_rounds, parts, round_name
from fbnetv3.search.predictor.model import AccuracyPredictor
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.space.space import IntMatrix, SearchSpace
from fbnetv3.search.trial import REPEATS, Stop, Trial, evaluated, in_rounds

logger = logging.getLogger(__name__)


def nars(context: Context, runner: BatchRunner) -> Proposal:
    """Neural architecture-recipe search (Algorithm 1), and the training of finalists; then the extensions of the search."""
    done = len(runner.ledger.trials)
    runner.progress(done, context.config.trainings, "stage 1: pretraining the predictor on free statistics")
    predictor = stage1(context)
    proxy = proxy_statistics(context, predictor)
    trained = stage2(context, predictor, runner)
    proposal = choose(context, predictor, runner, trained, stage3(context, predictor, trained))
    for part in parts(context.config)[1:]:
        trained = more_of_stage2(context, predictor, runner, part)
        proposal = choose(context, predictor, runner, trained, stage3(context, predictor, trained))
    return replace(proposal, proxy=proxy)


def stage1(context: Context) -> AccuracyPredictor:
    """Pretrain the predictor on free statistics of a Sobol pool (section 3.2)."""
    return pretrained_predictor(context)


@dataclass(frozen=True, eq=False)
class Stage2Result:
    """What stage 2 leaves.

    Attributes:
        trials: all of them.
        rows: index rows of those that were not stopped, best first.
        epochs: after which the trials were compared.
        part: the search as it began, or the extension, whose finalists come next.
    """

    trials: Sequence[Trial]
    rows: IntMatrix
    epochs: int
    part: Part


def stage2(context: Context, predictor: AccuracyPredictor, runner: BatchRunner) -> Stage2Result:
    """Constrained iterative optimisation: train the candidates that `propose` chooses, and fit the predictor to all trials.

    The first batch is random, and trains for all epochs of the recipe. It decides how long later batches train (section 3.3),
    or it is the first to teach the model that ends hopeless trainings. An asynchronous search has no batches after it.
    """
    trials, epochs = first_round(context, predictor, runner)
    part = parts(context.config)[0]
    later = replace(part, first=2, batches=part.batches[1:])
    return _train_batches(context, predictor, runner, later, trials, epochs)


def more_of_stage2(context: Context, predictor: AccuracyPredictor, runner: BatchRunner, part: Part) -> Stage2Result:
    """Go on with stage 2 for an extension. All trials before it are labels, those of finalists too."""
    trials = in_rounds(trial for trial in runner.ledger.trials if trial.round < part.first)
    epochs = trial_epochs(trials, context.config, context.base.epochs)
    return _train_batches(context, predictor, runner, part, trials, epochs)


def _train_batches(
    context: Context, predictor: AccuracyPredictor, runner: BatchRunner, part: Part, trials: list[Trial], epochs: int
) -> Stage2Result:
    """Train the batches of a part one after the other, each from all trials before it."""
    config = context.config
    fit = partial(fit_trials, context, predictor, epochs=epochs)

    def stop(trials: Sequence[Trial]) -> Stop | None:
        return hopeless(trials, epochs, config.hopeless, config.seed) if config.stopping == "model" else None

    if config.asynchronous:
        trials += run_asynchronously(runner, predictor, trials, epochs, fit, stop)
        return Stage2Result(trials, fit(trials), epochs, part)
    for round, size in enumerate(part.batches, part.first):
        fit(trials)
        trained = np.array([t.candidate for t in trials])
        rows = propose(context, predictor, trained, trained[:0], size)
        predicted = np.stack(predictor.predict(encode(context.space, rows), noisy=True))
        trials += runner.run(Batch(round, rows, epochs, predicted, stop(trials)))
    return Stage2Result(trials, fit(trials), epochs, part)


def first_round(context: Context, predictor: AccuracyPredictor, runner: BatchRunner) -> tuple[list[Trial], int]:
    """Train the first batch and its repeats; return the trials, and how many epochs later candidates train."""
    config, pool, epochs = context.config, context.pool(), context.base.epochs
    chosen = first_batch(len(pool), config.batches[0], config.seed)
    if context.sources:
        chosen = warm_batch(chosen, predictor.predict_sources(encode(context.space, pool)), pool)
    trials = runner.run(Batch(1, pool[chosen], epochs))
    if config.repeats:
        # The same candidates with other seeds: how noisy trainings are, and how far rankings can agree (Figure 5).
        trials += runner.run(Batch(REPEATS, pool[chosen][: config.repeats], epochs, name="repeats"))
    later = trial_epochs([*trials, *runner.known], config, epochs)
    logger.info("candidates train %d of %d epochs from round 2 on", later, epochs)
    return trials, later


def stage3(context: Context, predictor: AccuracyPredictor, trained: Stage2Result) -> Evolved:
    """Predictor-based evolutionary search inside the constraints (section 3.4)."""
    settings = context.config.evolution
    score = cautious_score(context.space, predictor, settings.caution)
    return evolve(context.constraints, score, trained.rows, settings, context.config.seed)


def choose(
    context: Context, predictor: AccuracyPredictor, runner: BatchRunner, trained: Stage2Result, evolved: Evolved
) -> Proposal:
    """Train the finalists and return the best candidate; without finalists, the candidate with the highest score.

    Deviation from Algorithm 1, which answers with the highest score. An evolution goes where the predictor is wrong in its
    favour, so the best few are trained. The answer is the trained candidate with the highest score after that: the highest
    measured accuracy may be an accident. If the trials of stage 2 were stopped early, finalists alone have complete
    trainings. Then the best trial is one of them, and the highest measured accuracy decides. The finalists before an extension
    are among them.
    """
    config, epochs, part = context.config, trained.epochs, trained.part
    shortened = epochs < context.base.epochs
    best, count = feasible(context, trained.rows), max(part.finalists, 1)
    if shortened or not part.finalists:
        before = _finalists(context, trained.trials, epochs)
        ranked, best = (new_first(context.space, before, rows) for rows in (evolved.index, best))
        rows = choose_finalists(ranked, best, count)
    else:
        # A small space may have nothing new left. Then the best candidates are trained again.
        known = np.array([trial.candidate for trial in evaluated(trained.trials)])
        new = evolved.index[fresh(context.space, known, evolved.index)]
        rows = np.concatenate([new, best])[:count]
    expected = np.stack(predictor.predict(encode(context.space, rows), noisy=True))
    mean, std = expected[:, 0]
    proposal = Proposal(tuple(rows[0].tolist()), (float(mean), float(std)), epochs, evolved.history)
    if not part.finalists:
        return proposal
    batch = Batch(part.last, rows, context.base.epochs, expected, name=round_name(config, part.last))
    trials = [*trained.trials, *runner.run(batch)]
    finalists = _finalists(context, trials, epochs)
    if shortened:
        # Of equally accurate finalists `max` takes the first, which has the higher predicted score.
        winner = max(finalists, key=lambda finalist: finalist.final)
        return replace(proposal, candidate=winner.candidate, predicted=winner.predicted, finalists=finalists)
    rows = feasible(context, fit_trials(context, predictor, trials, epochs))
    top = rows[cautious_score(context.space, predictor, config.evolution.caution)(rows).argmax()]
    mean, std = predictor.predict(encode(context.space, top[None]))
    return replace(
        proposal, candidate=tuple(top.tolist()), predicted=(float(mean[0]), float(std[0])), finalists=finalists
    )


def _finalists(context: Context, trials: Sequence[Trial], epochs: int) -> tuple[Finalist, ...]:
    """Return the finalists among trials, without those whose trainings failed."""
    rounds = finalist_rounds(context.config)
    return tuple(
        Finalist(
            tuple(t.candidate), (t.predicted[0], t.predicted[1]), context.label(t, epochs), context.label(t, t.epochs)
        )
        for t in evaluated(trials)
        if t.round in rounds and t.predicted
    )


def new_first(space: SearchSpace, finalists: Sequence[Finalist], rows: IntMatrix) -> IntMatrix:
    """Return rows with those at the end that were finalists before an extension: they have complete trainings already."""
    if not finalists:
        return rows
    new = fresh(space, np.array([finalist.candidate for finalist in finalists]), rows)
    return np.concatenate([rows[new], np.delete(rows, new, axis=0)])


def feasible(context: Context, rows: IntMatrix) -> IntMatrix:
    """Return the index rows that satisfy the constraints. Of a search for another budget some trials may not."""
    return rows[context.constraints.satisfied(rows)]


def choose_finalists(evolved: IntMatrix, best_trials: IntMatrix, count: int) -> IntMatrix:
    """Return the rows of the finalists: the best evolved ones and, in the last place, the best trial of stage 2.

    With the best trial among them, stage 3 loses nothing where the predictor has learnt little.
    """
    if count == 1 or not len(best_trials) or (evolved[: count - 1] == best_trials[0]).all(axis=1).any():
        return evolved[:count]
    return np.concatenate([evolved[: count - 1], best_trials[:1]])


def fit_trials(context: Context, predictor: AccuracyPredictor, trials: Sequence[Trial], epochs: int) -> IntMatrix:
    """Fit the predictor to the accuracies of trials after `epochs` epochs.

    Returns:
        The index rows of the trials that were not stopped, best first.
    """
    used, accuracies, variance = context.labels(trials, epochs)
    rows = np.array([trial.candidate for trial in used])
    predictor.fit(encode(context.space, rows), accuracies, variance)
    # A stopped training has no final accuracy, so it is no answer.
    whole = np.flatnonzero([not trial.stopped for trial in used])
    return rows[whole[np.argsort(-accuracies[whole], kind="stable")]]
