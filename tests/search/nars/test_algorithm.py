"""Algorithm 1 on scripted trainings: its stages, its finalists, and what failed trainings do to it."""

import numpy as np
import pytest

from fbnetv3.complexity import cost
from fbnetv3.progress import silent
from fbnetv3.search.nars import algorithm
from fbnetv3.search.nars.algorithm import Stage2Result, choose_finalists, fit_trials, new_first, stage1, stage3
from fbnetv3.search.nars.context import Context
from fbnetv3.search.nars.evolve import cautious_score
from fbnetv3.search.nars.hopeless import labels_of
from fbnetv3.search.nars.proposal import Finalist
from fbnetv3.search.nars.rounds import Part
from fbnetv3.search.runs.verify import Recorded, replay
from fbnetv3.search.space.encoding import encode
from fbnetv3.search.trial import Outcome, comparable
from tests.search.scripted import Failing, Scripted, Stoppable, config, run_scripted


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return config(tmp_path_factory.mktemp("config"), pool=256, batch=8, rounds=4, early_stopping=0.92)


@pytest.fixture(scope="module")
def searched(cfg, tmp_path_factory):
    """Proposal, trials and context of four rounds of eight trainings and two finalists."""
    return run_scripted(cfg, tmp_path_factory.mktemp("searched") / "ledger.jsonl")


def test_every_round_trains_a_batch_and_the_finalists_come_last(searched):
    places = [(r, i) for r in (1, 2, 3, 4) for i in range(8)] + [(5, 0), (5, 1)]
    assert [(t.round, t.index) for t in searched[1]] == places


def test_no_candidate_is_trained_twice_before_the_finals(searched):
    assert len({tuple(t.candidate) for t in searched[1][:32]}) == 32


def test_every_training_has_its_own_seed(searched):
    assert len({t.seed for t in searched[1]}) == 34


def test_the_candidates_of_the_first_round_are_not_predicted(searched):
    assert all((t.predicted is None) == (t.round == 1) for t in searched[1])


def test_early_stopping_shortens_later_rounds_but_not_the_finals(searched):
    # The scripted ranking is clear after one epoch.
    assert all(t.epochs == (2 if t.round in (1, 5) else 1) for t in searched[1])
    assert searched[0].epochs == 1


def test_every_trial_satisfies_the_constraint(cfg, searched):
    assert all(cfg.constraint.min <= t.flops <= cfg.constraint.max for t in searched[1])


def test_later_rounds_are_better_than_the_random_one(searched):
    _, trials, context = searched
    best = {r: max(context.label(t, 1) for t in trials if t.round == r) for r in (1, 2, 3, 4)}
    assert max(best[2], best[3], best[4]) > best[1]


def test_the_answer_is_feasible_and_no_worse_than_the_first_round(cfg, searched):
    proposal, trials, context = searched
    chosen = context.space.candidate(proposal.candidate, context.base, "x")
    assert cost(chosen.arch, 10, 1).flops() <= cfg.constraint.max
    assert Scripted()(chosen, 1, 0).acc1[0] >= max(context.label(t, 1) for t in trials if t.round == 1)


def test_the_same_seed_gives_the_same_search(cfg, searched, tmp_path):
    proposal, trials, _ = searched
    again, trials_again, _ = run_scripted(cfg, tmp_path / "again.jsonl")
    assert again == proposal
    assert comparable(trials_again) == comparable(trials)


def test_the_largest_seed_will_do(tmp_path):
    cfg = config(tmp_path, seed=2**64 - 1)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "ledger.jsonl")
    assert len(trials) == cfg.trainings
    assert proposal.predicted is not None


def test_another_seed_gives_another_search(cfg, searched, tmp_path):
    assert run_scripted(cfg.replace(seed=1), tmp_path / "other.jsonl")[0] != searched[0]


def test_the_answer_says_how_well_statistics_were_predicted(cfg, searched):
    assert [statistic.name for statistic in searched[0].proxy] == ["flops", "params"]
    assert len(searched[0].proxy[0].exact) == cfg.pool - cfg.pool * 4 // 5


class Deceived(Scripted):
    """The first six trainings look best by far. After them, only one training is better than the others."""

    def __init__(self, wins):
        super().__init__()
        self.wins = wins

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        if len(self.calls) > 6:
            outcome = Outcome((50.0, 60.0 + (len(self.calls) - 7 == self.wins))[:epochs], "ok", 0.0)
        return outcome


@pytest.mark.parametrize("wins", [0, 1, 3])
def test_after_short_trials_the_most_accurate_finalist_is_the_answer(tmp_path, wins, monkeypatch):
    monkeypatch.setattr(algorithm, "trial_epochs", lambda *_: 1)
    cfg = config(tmp_path, batch=3, finalists=4)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Deceived(wins))
    assert [t.epochs for t in trials] == [2, 2, 2, 1, 1, 1, 2, 2, 2, 2]
    assert [list(f.candidate) for f in proposal.finalists] == [t.candidate for t in trials[6:]]
    assert proposal.candidate == proposal.finalists[wins].candidate
    assert proposal.predicted == proposal.finalists[wins].predicted
    assert [f.final for f in proposal.finalists] == [60.0 + (i == wins) for i in range(4)]
    assert tuple(max(trials[:6], key=lambda t: t.acc1[0]).candidate) in [f.candidate for f in proposal.finalists]


def test_after_complete_trials_finalists_are_new_and_the_best_score_is_the_answer(tmp_path):
    cfg = config(tmp_path, batch=3, finalists=4)
    proposal, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Deceived(0))
    assert len({tuple(t.candidate) for t in trials}) == 10
    before = stage1(context)
    fit_trials(context, before, trials[:6], 2)
    chosen = encode(context.space, np.array([t.candidate for t in trials[6:]]))
    means, stds = before.predict(chosen)
    scores = (means - cfg.evolution.caution * stds).tolist()
    assert scores == sorted(scores, reverse=True)
    assert [t.predicted for t in trials[6:]] == [pytest.approx(list(f.predicted)) for f in proposal.finalists]
    predictor = stage1(context)
    rows = fit_trials(context, predictor, trials, 2)
    means, stds = predictor.predict(encode(context.space, rows))
    best = (means - cfg.evolution.caution * stds).argmax()
    assert proposal.candidate == tuple(rows[best])
    assert proposal.predicted == pytest.approx((means[best], stds[best]))


def test_a_finalist_is_measured_after_the_epochs_of_the_trials_and_at_the_end(searched):
    proposal, trials, _ = searched
    assert [f.measured for f in proposal.finalists] == [t.acc1[0] for t in trials[32:]]
    assert [f.final for f in proposal.finalists] == [t.acc1[1] for t in trials[32:]]


def test_a_finalist_whose_training_failed_is_left_out(tmp_path):
    cfg = config(tmp_path, batch=3)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Failing({6}))
    assert trials[6].status == "failed"
    assert [list(f.candidate) for f in proposal.finalists] == [trials[7].candidate]
    assert proposal.candidate in [tuple(t.candidate) for t in trials if t.status == "ok"]


def test_without_finalists_the_highest_score_is_the_answer(tmp_path):
    cfg = config(tmp_path, batch=3)
    trials = run_scripted(cfg, tmp_path / "a.jsonl")[1]
    alone, fewer, context = run_scripted(cfg.replace(finalists=0), tmp_path / "b.jsonl")
    assert comparable(fewer) == comparable([t for t in trials if t.round < 3])
    predictor = stage1(context)
    rows = fit_trials(context, predictor, fewer, 2)
    assert alone.candidate == tuple(
        stage3(context, predictor, Stage2Result(fewer, rows, 2, Part(1, (2, 2), 0))).index[0]
    )
    assert alone.finalists == ()


@pytest.mark.parametrize(
    ("trials", "count", "expected"),
    [
        ([[9]], 3, [1, 2, 9]),  # the best trial takes the last place
        ([[9], [8]], 2, [1, 9]),
        ([[2], [9]], 3, [1, 2, 3]),  # it is among them already
        ([[3], [9]], 3, [1, 2, 3]),
        ([[9]], 1, [1]),  # a single finalist is the best predicted one
        ([], 2, [1, 2]),  # no trial is feasible
        ([[9]], 7, [1, 2, 3, 9]),  # the evolution found only three
    ],
)
def test_finalists_by_hand(trials, count, expected):
    rows = choose_finalists(np.array([[1], [2], [3]]), np.array(trials, int).reshape(-1, 1), count)
    assert rows[:, 0].tolist() == expected


def test_rows_that_were_finalists_come_last(tmp_path):
    context = Context.of(config(tmp_path))
    rows = context.pool()[:4]
    before = [Finalist(tuple(rows[i].tolist()), (1.0, 1.0), 1.0, 1.0) for i in (0, 2)]
    assert new_first(context.space, before, rows).tolist() == rows[[1, 3, 0, 2]].tolist()
    assert new_first(context.space, before, rows[:1]).tolist() == rows[:1].tolist()
    assert new_first(context.space, [], rows) is rows


@pytest.mark.parametrize(("wins", "finalist"), [(1, 1), (7, 6)], ids=["before", "in the extension"])
def test_after_short_trials_the_finalists_of_an_extension_compete_with_those_before(
    tmp_path, wins, finalist, monkeypatch
):
    monkeypatch.setattr(algorithm, "trial_epochs", lambda *_: 1)
    cfg = config(tmp_path, batch=3, finalists=4, extensions=[5])
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Deceived(wins))
    assert [t.epochs for t in trials] == [2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 1, 2, 2, 2, 2]
    assert [list(f.candidate) for f in proposal.finalists] == [t.candidate for t in trials[6:10] + trials[11:]]
    assert len({f.candidate for f in proposal.finalists}) == 8
    assert proposal.candidate == proposal.finalists[finalist].candidate
    assert proposal.predicted == proposal.finalists[finalist].predicted


def test_without_finalists_an_extension_answers_with_the_highest_score(tmp_path):
    cfg = config(tmp_path, batch=2, finalists=0)
    path = tmp_path / "a.jsonl"
    before = run_scripted(cfg, path)[1]
    proposal, trials, context = run_scripted(cfg.replace(extensions=[3]), path)
    assert [t.place for t in trials] == [*(t.place for t in before), (3, 0), (3, 1), (4, 0)]
    predictor = stage1(context)
    rows = fit_trials(context, predictor, trials, proposal.epochs)
    assert proposal.candidate == tuple(
        stage3(context, predictor, Stage2Result(trials, rows, 2, Part(3, (2, 1), 0))).index[0]
    )


@pytest.mark.parametrize("stopping", ["rule", "model"])
def test_the_order_in_which_trainings_ended_changes_no_extension(tmp_path, stopping):
    """Several workers write the trainings of a round in any order."""
    cfg, ledgers = config(tmp_path, batch=4, stopping=stopping), []
    run_scripted(cfg, tmp_path / "ended.jsonl", evaluator=Stoppable())
    header, *lines = (tmp_path / "ended.jsonl").read_text().splitlines(keepends=True)
    for name, order in {"same": lines, "other": lines[::-1]}.items():
        (tmp_path / name).write_text("".join([header, *order]))
        ledgers.append(run_scripted(cfg.replace(extensions=[5]), tmp_path / name, evaluator=Stoppable()))
    (proposal, trials, context), (other, others, _) = ledgers
    assert (proposal, comparable(trials)) == (other, comparable(others))
    assert [t.place for t in trials[10:]] == [(4, 0), (4, 1), (4, 2), (5, 0), (5, 1)]
    assert replay(context, "nars", Recorded(trials), silent) == (trials, [], proposal)


def test_more_constraints_hold_for_every_trial(tmp_path):
    cfg = config(tmp_path, also=[{"metric": "params", "max": 22e3}], batch=4)
    trials = run_scripted(cfg, tmp_path / "a.jsonl")[1]
    assert len(trials) == 10
    assert all(t.params <= 22e3 and t.flops <= cfg.constraint.max for t in trials)
    without = run_scripted(cfg.replace(also=()), tmp_path / "b.jsonl")[1]
    assert max(t.params for t in without) > 22e3


def test_a_search_in_which_every_training_diverges_has_an_answer(tmp_path):
    cfg = config(tmp_path, batch=3)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=lambda *_: Outcome((), "diverged", 0.0))
    assert {t.status for t in trials} == {"diverged"}
    assert proposal.predicted[0] == pytest.approx(10.0, abs=1e-3)  # chance


def test_failed_trainings_are_recorded(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=2)
    trials = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Failing({1, 2}))[1]
    assert len(trials) == 10
    assert [t.status for t in trials].count("failed") == 2
    assert {t.error for t in trials} == {"", "OSError: disk full"}


class Spy:
    """A predictor that remembers what it was fitted to."""

    def fit(self, x, y, variance=None):
        self.rows, self.labels = len(x), list(y)
        self.variance = None if variance is None else list(variance)


def test_the_predictor_does_not_learn_from_failed_trainings(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=1)
    _, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Failing({1, 2}))
    spy = Spy()
    best = fit_trials(context, spy, trials[:4], 1)
    assert (spy.rows, spy.labels) == (2, [context.label(trials[0], 1), context.label(trials[3], 1)])
    assert {tuple(row) for row in best.tolist()} == {tuple(trials[0].candidate), tuple(trials[3].candidate)}


def test_fitting_returns_the_rows_best_first(searched):
    _, trials, context = searched
    best = fit_trials(context, Spy(), trials[:8], 2)
    labels = {tuple(t.candidate): context.label(t, 2) for t in trials[:8]}
    assert [labels[tuple(row)] for row in best.tolist()] == sorted(labels.values(), reverse=True)


def test_repeats_train_the_first_candidates_again(tmp_path):
    cfg = config(tmp_path, batch=4)
    trials = run_scripted(cfg, tmp_path / "a.jsonl")[1]
    more = run_scripted(cfg.replace(repeats=2), tmp_path / "b.jsonl")[1]
    repeats = [t for t in more if t.round == 0]
    assert [t.candidate for t in repeats] == [t.candidate for t in trials[:2]]
    assert not {t.seed for t in repeats} & {t.seed for t in trials}
    assert comparable([t for t in more if t.round == 1]) == comparable([t for t in trials if t.round == 1])
    assert cfg.replace(repeats=2).trainings == cfg.trainings + 2 == len(more)


def test_the_evolution_starts_from_the_best_trials_and_scores_with_caution(cfg):
    context = Context.of(cfg.replace(evolution={"evaluations": 300, "restarts": 0, "parents": 2}))
    predictor, rows = stage1(context), context.pool()[:6]
    predictor.fit(encode(context.space, rows), 80.0 - np.arange(6.0))
    evolved = stage3(context, predictor, Stage2Result([], rows, 1, Part(1, (2, 2), 0)))
    score = cautious_score(context.space, predictor, context.config.evolution.caution)
    assert evolved.scores == pytest.approx(score(evolved.index))
    assert evolved.scores[0] >= score(rows[:2]).max() - 1e-6  # the last digits depend on the rows scored together
    assert context.constraints.satisfied(evolved.index).all()


@pytest.fixture(scope="module")
def stopping(tmp_path_factory):
    """Configuration, proposal, trials, context and ledger of a search that a model of learning curves makes shorter."""
    folder = tmp_path_factory.mktemp("stopping")
    cfg = config(folder, pool=256, first=12, batch=4, rounds=4, stopping="model")
    return cfg, *run_scripted(cfg, folder / "ledger.jsonl", evaluator=Stoppable()), folder / "ledger.jsonl"


def test_hopeless_trainings_of_later_rounds_end_early(stopping):
    _, proposal, trials, context, _ = stopping
    stopped = [t for t in trials if t.stopped]
    assert {t.round for t in stopped} <= {2, 3, 4}
    assert {(t.epochs, t.trained) for t in stopped} == {(2, 1)}
    # Accuracy rises by 5 from the first to the second epoch, so the model knows the end nearly exactly.
    limit = sorted(context.label(t, 2) for t in trials if t.round == 1)[-3]
    assert all(t.acc1[0] + 5 < limit for t in stopped if t.round == 2)
    assert {t.epochs for t in trials} == {proposal.epochs} == {2}


def test_no_stopped_training_is_the_answer_or_a_finalist(stopping):
    _, proposal, trials, context, _ = stopping
    stopped = {tuple(t.candidate) for t in trials if t.stopped}
    assert proposal.candidate not in stopped
    assert not {f.candidate for f in proposal.finalists} & stopped
    best = fit_trials(context, stage1(context), trials, 2)
    assert not {tuple(row) for row in best.tolist()} & stopped
    assert tuple(context.best_trial(trials).candidate) not in stopped


def test_the_predictor_learns_from_stopped_trainings_what_the_model_expects_of_them(stopping):
    _, _, trials, context, _ = stopping
    spy = Spy()
    fit_trials(context, spy, trials, 2)
    labels = labels_of(trials, 2, context.chance, context.config.seed)
    assert (spy.labels, spy.variance) == (list(labels.accuracies), list(labels.variance))
    assert max(spy.variance) > 0


def test_an_evaluator_that_cannot_stop_trains_to_the_end(stopping, tmp_path):
    trials = run_scripted(stopping[0], tmp_path / "ledger.jsonl")[1]
    assert not any(t.stopped for t in trials)
    assert {len(t.acc1) for t in trials if t.status == "ok"} == {2}


@pytest.mark.slow
def test_a_search_with_stopped_trainings_is_continued_with_the_same_end(stopping, tmp_path):
    cfg, proposal, trials, _, ledger = stopping
    lines = ledger.read_text().splitlines(keepends=True)
    for kept in (1, 10, 15, 20, len(lines)):
        path = tmp_path / f"{kept}.jsonl"
        path.write_text("".join(lines[:kept]))
        again = run_scripted(cfg, path, evaluator=Stoppable())
        assert again[:2] == (proposal, trials)
        assert path.read_text() == ledger.read_text()


@pytest.fixture(scope="module")
def asynchronous(cfg):
    return cfg.replace(asynchronous=3, rounds=3, batch=4)


@pytest.mark.slow
def test_an_asynchronous_search_with_stopped_trainings_is_continued_and_made_again_with_the_same_end(
    stopping, tmp_path
):
    cfg, whole = stopping[0].replace(asynchronous=3), tmp_path / "whole.jsonl"
    proposal, trials, context = run_scripted(cfg, whole, evaluator=Stoppable())
    assert any(t.stopped for t in trials)
    again, pending, answer = replay(context, "nars", Recorded(trials), silent)
    assert (again, pending, answer) == (trials, [], proposal)
    lines = whole.read_text().splitlines(keepends=True)
    for kept in (15, 20, 27):
        path = tmp_path / f"{kept}.jsonl"
        path.write_text("".join(lines[:kept]))
        assert run_scripted(cfg, path, evaluator=Stoppable())[:2] == (proposal, trials)
        assert path.read_text() == whole.read_text()


def test_an_asynchronous_search_has_the_stages_and_the_trainings_of_one_in_rounds(asynchronous, tmp_path):
    proposal, trials, _ = run_scripted(asynchronous, tmp_path / "a.jsonl")
    assert [t.place for t in trials] == [(r, i) for r in (1, 2, 3) for i in range(4)] + [(4, 0), (4, 1)]
    assert len({tuple(t.candidate) for t in trials[:12]}) == 12
    assert [t.predicted is None for t in trials] == [True] * 4 + [False] * 10
    assert [list(f.candidate) for f in proposal.finalists] == [t.candidate for t in trials[12:]]
    assert proposal.candidate in [tuple(t.candidate) for t in trials]
    rounds = run_scripted(asynchronous.replace(asynchronous=0), tmp_path / "b.jsonl")[1]
    assert comparable(rounds[:4]) == comparable(trials[:4])  # the first batch is the same


def test_one_training_at_a_time_is_a_search_in_rounds_of_one(asynchronous, tmp_path):
    """Without other trainings there is nothing to draw, and a proposal knows all trainings before it."""
    one = run_scripted(asynchronous.replace(asynchronous=1), tmp_path / "a.jsonl")
    rounds = asynchronous.replace(asynchronous=0, first=4, batch=1, rounds=9)
    alone = run_scripted(rounds, tmp_path / "b.jsonl")
    assert [t.candidate for t in one[1]] == [t.candidate for t in alone[1]]
    assert one[0] == alone[0]
