"""Stage 2 without rounds: one training ends, the next one starts, and the order of the ledger decides everything."""

import hashlib
import json

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.clock import Clock
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import InProcess
from fbnetv3.search.nars import asynchronous
from fbnetv3.search.nars.asynchronous import later_places, run_asynchronously
from fbnetv3.search.nars.batches import Batch, BatchRunner
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.verify import Recorded
from fbnetv3.search.trial import Ledger, Outcome, comparable, read_ledger
from tests.search.scripted import config

AT_ONCE, TRAININGS = 3, 12


class Unlike:
    """An evaluator whose outcome depends on the seed: some trainings diverge, and those with the `failing` seeds fail."""

    def __init__(self, failing=()):
        self.failing, self.calls, self.stops = failing, [], {}

    def __call__(self, candidate, epochs, seed, *, stop=None):
        self.calls.append(seed)
        self.stops[seed] = stop
        if seed in self.failing:
            return Outcome((), "failed", 0.0, "OSError: disk full")
        if seed % 5 == 0:
            return Outcome((), "diverged", 0.0)
        return Outcome(tuple(seed % 89 + epoch for epoch in range(epochs)), "ok", 0.0)


def seconds(job):
    """Trainings of very unequal lengths."""
    return 1 + job.seed % 11


class Learnt:
    """A predictor that remembers what it was fitted to."""

    def __init__(self):
        self.fits = []

    def fit(self, trials):
        self.fits.append(tuple((t.place, tuple(t.acc1), t.status) for t in trials))

    def predict(self, x, noisy):
        return np.full(len(x), 50.0 + len(self.fits[-1])), np.ones(len(x))


class Rule:
    """Ends no training, and remembers the trials that it was made from."""

    def __init__(self, trials):
        self.known = [trial.place for trial in trials]

    def __call__(self, acc1):
        return False


class Stage:
    """Stage 2 of a small search in a moment: a proposal is any other candidate for any other argument."""

    def __init__(self, context, path, monkeypatch):
        self.context, self.path = context, path
        self.asked = []  # trained and pending rows of every proposal
        monkeypatch.setattr(asynchronous, "propose", self.propose)

    def propose(self, context, predictor, trained, pending, n):
        assert n == 1
        self.asked.append((trained.tolist(), pending.tolist()))
        known, pool = [*trained.tolist(), *pending.tolist()], context.pool()
        digest = hashlib.sha256(repr((predictor.fits[-1], self.asked[-1])).encode()).digest()
        left = [row for row in pool.tolist() if row not in known]
        return np.array([left[int.from_bytes(digest[:4]) % len(left)]])

    def seeds(self, *places):
        return {self.context.trial_seed(*place) for place in places}

    def run(self, executor, said=None, replayed=()):
        self.learnt = Learnt()
        with Ledger.open(self.path, "config") as ledger:
            progress = silent if said is None else lambda *words: said.append(words)
            runner = BatchRunner(self.context, ledger, executor, progress, replayed)
            first = runner.run(Batch(1, self.context.pool()[:4], 2))
            return run_asynchronously(runner, self.learnt, first, 2, self.learnt.fit, Rule)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    context = Context.of(config(tmp_path, batch=4, rounds=4, asynchronous=AT_ONCE))
    return Stage(context, tmp_path / "ledger.jsonl", monkeypatch)


def events(path):
    """What the lines of a ledger say: `plan` or `end`, and the place."""
    rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    named = [("plan", row["planned"]) if "planned" in row else ("end", row) for row in rows]
    return [(kind, (row["round"], row["index"])) for kind, row in named]


def test_every_candidate_is_trained_once_at_the_place_that_it_has_in_a_search_in_rounds(stage):
    trials = stage.run(Clock(Unlike(), AT_ONCE, seconds))
    assert [t.place for t in trials] == [(round, index) for round in (2, 3, 4) for index in range(4)]
    assert [t.place for t in trials] == later_places(stage.context.config.batches)
    assert len({tuple(t.candidate) for t in trials}) == TRAININGS
    assert [t.seed for t in trials] == [stage.context.trial_seed(*t.place) for t in trials]
    assert len(read_ledger(stage.path)) == 4 + TRAININGS


def test_a_proposal_follows_every_end_and_is_written_before_its_training_starts(stage):
    stage.run(Clock(Unlike(), AT_ONCE, seconds))
    kinds = [kind for kind, _ in events(stage.path)[4:]]
    assert kinds == ["plan"] * AT_ONCE + ["end", "plan"] * (TRAININGS - AT_ONCE) + ["end"] * AT_ONCE
    ends = [place for kind, place in events(stage.path)[4:] if kind == "end"]
    assert ends != sorted(ends)  # or this test would say little


def test_a_proposal_knows_the_trainings_that_have_ended_and_those_that_run(stage):
    trials = {t.place: t for t in stage.run(Clock(Unlike(), AT_ONCE, seconds))}
    first = stage.context.pool()[:4].tolist()
    ended, running, known, number = [], [], [], 0
    for kind, place in events(stage.path)[4:]:
        if kind == "end":
            running.remove(place)
            ended.append(place)
            continue
        known = [trials[one].candidate for one in sorted(ended)]
        assert stage.asked[number] == (first + known, [trials[one].candidate for one in running])
        assert trials[place].predicted == [50.0 + 4 + len(ended), 1.0]
        running.append(place)
        assert len(running) <= AT_ONCE
        number += 1
    assert number == TRAININGS


@pytest.mark.parametrize("kept", [0, 9, 12, 17], ids=lambda kept: f"resumed after {kept} lines" if kept else "at once")
def test_what_ends_a_training_early_is_made_from_what_its_proposal_knew(stage, kept):
    evaluator = Unlike()
    stage.run(Clock(evaluator, AT_ONCE, seconds))
    if kept:
        stage.path.write_bytes(b"".join(stage.path.read_bytes().splitlines(keepends=True)[:kept]))
        evaluator = Unlike()
        stage.run(InProcess(evaluator))
    found, stops = events(stage.path), evaluator.stops
    checked = 0
    for i, (kind, place) in enumerate(found):
        if kind == "plan" and (seed := stage.context.trial_seed(*place)) in stops:
            assert stops[seed].known == sorted(place for kind, place in found[:i] if kind == "end")
            checked += 1
    assert checked == TRAININGS - sum(kind == "end" for kind, _ in found[4 : max(kept - 1, 4)])


def test_the_accuracy_head_is_fitted_once_for_every_proposal_after_the_first_ones(stage):
    trials = stage.run(Clock(Unlike(), AT_ONCE, seconds))
    assert len(stage.learnt.fits) == 1 + TRAININGS - AT_ONCE
    assert [len(fit) for fit in stage.learnt.fits] == list(range(4, 4 + TRAININGS - AT_ONCE + 1))
    assert {place for place, *_ in stage.learnt.fits[-1]} < {(1, i) for i in range(4)} | {t.place for t in trials}


def test_trainings_that_end_in_another_order_lead_to_other_proposals(stage, tmp_path):
    one = stage.run(Clock(Unlike(), AT_ONCE, seconds))
    stage.path = tmp_path / "other.jsonl"
    two = stage.run(Clock(Unlike(), AT_ONCE, lambda job: 1 + job.seed % 7))
    assert [t.candidate for t in one[:3]] == [t.candidate for t in two[:3]]
    assert [t.candidate for t in one] != [t.candidate for t in two]


def test_the_order_of_the_ends_alone_decides_and_not_the_executor(stage, tmp_path):
    """One worker, and three of equal speed, end them in the order of their proposals."""
    ledgers = []
    for name, executor in {
        "here": InProcess(Unlike()),
        "one": Clock(Unlike(), 1, seconds),
        "three": Clock(Unlike(), AT_ONCE, lambda job: 1),
        "many": Clock(Unlike(), 99, lambda job: 1),
    }.items():
        stage.path = tmp_path / name
        stage.run(executor)
        ledgers.append(stage.path.read_bytes())
    assert len(set(ledgers)) == 1


SOME = [(2, 1), (3, 0), (3, 3), (4, 3)]


@pytest.mark.parametrize("failing", [[], SOME], ids=["none fails", "some fail"])
def test_a_search_that_is_killed_at_any_write_resumes_to_the_same_bytes(stage, tmp_path, failing):
    stage.run(Clock(Unlike(stage.seeds(*failing)), AT_ONCE, seconds))
    whole = stage.path.read_bytes()
    order = read_ledger(stage.path)
    assert sum(t.status == "failed" for t in order) == len(failing)
    lines = whole.splitlines(keepends=True)
    for kept in range(5, len(lines) + 1):  # the header, and round 1
        for end in (b"", lines[kept][:40] if kept < len(lines) else b""):  # a line may be cut off
            stage.path = tmp_path / f"cut_{kept}_{len(end)}"
            stage.path.write_bytes(b"".join(lines[:kept]) + end)
            stage.run(Recorded(order))
            assert stage.path.read_bytes() == whole


def test_a_resumed_search_trains_what_was_training_first_and_proposes_it_not_again(stage):
    stage.run(Clock(Unlike(), AT_ONCE, seconds))
    kept = stage.path.read_bytes().splitlines(keepends=True)[: 1 + 4 + AT_ONCE + 4]
    stage.path.write_bytes(b"".join(kept))
    with Ledger.open(stage.path, "config") as ledger:
        pending, seeds = ledger.pending, [t.seed for t in ledger.trials]
    assert len(pending) == AT_ONCE
    stage.asked.clear()
    evaluator = Unlike()
    stage.run(InProcess(evaluator))
    assert evaluator.calls[:AT_ONCE] == [planned.seed for planned in pending]
    assert not set(evaluator.calls) & set(seeds)
    assert len(stage.asked) == TRAININGS - AT_ONCE - 2


def test_a_search_that_was_resumed_in_another_order_is_the_one_that_its_ledger_leads_to(stage, tmp_path):
    """The trainings that were running start anew, so others may end first."""
    stage.run(Clock(Unlike(), AT_ONCE, seconds))
    before = [t.place for t in read_ledger(stage.path)]
    stage.path.write_bytes(b"".join(stage.path.read_bytes().splitlines(keepends=True)[:11]))
    trials = stage.run(Clock(Unlike(), AT_ONCE, lambda job: 1 + job.seed % 7))
    ledger, order = stage.path.read_bytes(), read_ledger(stage.path)
    assert [t.place for t in order] != before
    stage.path = tmp_path / "again"
    assert comparable(stage.run(Recorded(order))) == comparable(trials)
    assert stage.path.read_bytes() == ledger


def test_a_failed_training_is_not_learnt_from_not_proposed_again_and_not_repeated(stage):
    trials = stage.run(Clock(Unlike(stage.seeds(*SOME)), AT_ONCE, seconds))
    assert [t.place for t in trials if t.status == "failed"] == SOME
    assert len({tuple(t.candidate) for t in trials}) == TRAININGS
    evaluator = Unlike()
    stage.run(InProcess(evaluator))
    assert evaluator.calls == []


def test_as_many_failures_in_a_row_as_a_round_has_end_the_search_which_can_go_on(stage, tmp_path):
    later = stage.seeds(*later_places(stage.context.config.batches))
    with pytest.raises(InputError, match="4 trainings in a row failed, OSError: disk full; fix the cause, and resume"):
        stage.run(Clock(Unlike(later), AT_ONCE, seconds))
    assert [t.status for t in read_ledger(stage.path)[4:]] == ["failed"] * 4
    trials = stage.run(Clock(Unlike(), AT_ONCE, seconds))
    assert [t.status for t in trials].count("failed") == 4
    ledger, order = stage.path.read_bytes(), read_ledger(stage.path)
    stage.path = tmp_path / "again"
    stage.run(Recorded(order), replayed=order)
    assert stage.path.read_bytes() == ledger


def test_failures_that_do_not_follow_one_another_end_nothing(stage):
    odd = stage.seeds(*later_places(stage.context.config.batches)[1::2])
    trials = stage.run(InProcess(Unlike(odd)))
    assert [t.status == "failed" for t in trials] == [False, True] * (TRAININGS // 2)


def test_progress_says_how_many_have_ended_and_how_many_run(stage):
    said = []
    stage.run(InProcess(Unlike()), said)
    named = [(done, text.split(",")[:2]) for done, _, text in said if text.startswith("stage 2")]
    ends = [[done, ["stage 2", f" 3 at a time: {done - 4} of 12 candidates trained"]] for done in range(4, 17)]
    assert [list(one) for one in named] == ends


# The lines of the ledger of one worker: 1 to 4 are round 1, 5 to 7 the first plans, 8 an end, 9 the next plan, and so on.
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda rows: rows[8].update(candidate=[0] * 24), "trial 0 of round 2 is not the one that this search makes"),
        (lambda rows: rows[8].update(epochs=1, acc1=[1.0]), "trial 0 of round 2 is not the one that this search makes"),
        (lambda rows: rows.pop(5), "trial 0 of round 2 is not the one that this search makes"),
        (lambda rows: rows.append(rows[5]), "line 30 repeats trial 0 of round 2"),
        (lambda rows: rows.insert(5, rows.pop(6)), "12 planned trainings do not follow from 12 trials of stage 2"),
        (lambda rows: (rows.pop(9), rows.__delitem__(slice(10, None))), "3 planned .* from 2 trials of stage 2"),
        (
            lambda rows: rows.__delitem__(slice(10, 25, 2)),
            "12 planned trainings do not follow from 4 trials of stage 2",
        ),
    ],
    ids=["candidate", "epochs", "no plan", "twice", "order", "plan missing", "end missing"],
)
def test_a_ledger_whose_trials_and_plans_do_not_fit_is_refused(stage, edit, words):
    stage.run(InProcess(Unlike()))
    rows = [json.loads(line) for line in stage.path.read_text().splitlines()]
    edit(rows)
    stage.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=words):
        stage.run(InProcess(Unlike()))
