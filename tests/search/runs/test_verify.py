"""Verification finds a search as it was made, and tells what was changed."""

import contextlib
import dataclasses
import json
import math
import shutil

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.clock import Clock
from fbnetv3.pair_file import load_pair, save_pair
from fbnetv3.progress import silent
from fbnetv3.search.execution.executor import Job
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import read_config, save_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.run import start
from fbnetv3.search.runs.verify import Recorded, replay, verify
from fbnetv3.search.trial import Outcome, Trial, comparable, read_ledger
from fbnetv3.training.engine import cpu_threads
from tests.search.scripted import Scripted, Stoppable, config, run_scripted

KEPT = ("pair.yaml", "final/metrics.csv", "config.yaml", "ledger.jsonl")
PROPOSALS, ANSWER, WEIGHTS = (
    "nars: 6 proposals of the ledger",
    "nars: pair.yaml",
    "nars: accuracy of the pair's weights",
)


def by_name(checks):
    return {check.what: check for check in checks}


def statuses(checks):
    return {check.what: check.status for check in checks}


@pytest.fixture
def copied(trained_search, tmp_path):
    """NARS's half of a search, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(trained_search[1], folder, ignore=shutil.ignore_patterns("baseline", "final", "plots"))
    return folder


def change_trial(folder, **changes):
    """Write other values into the first trial of a ledger; return the trial as it was."""
    first, second, *rest = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    row = json.loads(second)
    (folder / "ledger.jsonl").write_text("".join([first, json.dumps(row | changes) + "\n", *rest]))
    return row


def reconfigure(folder, cfg):
    """Give a search another configuration, and make its ledger belong to it."""
    save_config(cfg, folder / "config.yaml")
    header, *rest = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    header = json.dumps(json.loads(header) | {"config": cfg.fingerprint}) + "\n"
    (folder / "ledger.jsonl").write_text(header + "".join(rest))


def test_a_search_is_found_as_it_was_made_and_nothing_changes(trained_search):
    folder = trained_search[1]
    before = {name: (folder / name).read_bytes() for name in KEPT}
    checks = verify(folder, 2, silent)
    assert {check.status for check in checks} == {"same"}, checks
    assert [check.what for check in checks] == [
        "versions",
        PROPOSALS,
        ANSWER,
        WEIGHTS,
        "nars: training of trial 0 of round 1",
        "nars: training of trial 1 of round 3",
        "random: 6 proposals of the ledger",
        "random: baseline/pair.yaml",
        "random: accuracy of the pair's weights",
        "random: training of trial 0 of round 1",
        "random: training of trial 5 of round 1",
    ]
    assert {name: (folder / name).read_bytes() for name in KEPT} == before


def test_an_accuracy_that_was_changed_is_found_by_training_again(copied):
    row = change_trial(copied, acc1=[99.0, 99.5])
    check = by_name(verify(copied, 1, silent))["nars: training of trial 0 of round 1"]
    assert check.status == "differs"
    assert check.note == f"{row['acc1'][-1]:.2f}%, recorded 99.50%"


def test_what_does_not_follow_from_the_trials_before_it_is_found(copied):
    change_trial(copied, acc1=[99.0, 99.5])
    assert statuses(verify(copied, 0, silent))[PROPOSALS] == "differs"


def test_costs_that_were_changed_are_found_with_their_place(copied):
    row = change_trial(copied, flops=1)
    assert by_name(verify(copied, 0, silent))[PROPOSALS].note == f"trial 0 of round 1: flops is 1, not {row['flops']}"


def test_a_trial_that_the_search_does_not_make_is_found(copied):
    last = (copied / "ledger.jsonl").read_text().splitlines()[-1]
    extra = json.loads(last) | {"index": 2, "seed": 1}
    with (copied / "ledger.jsonl").open("a") as file:
        file.write(json.dumps(extra) + "\n")
    check = by_name(verify(copied, 0, silent))["nars: 7 proposals of the ledger"]
    assert check.status == "differs"
    assert check.note == "trial 2 of round 3 does not follow from the trials before it"


@pytest.mark.parametrize("row", [[99] * 24, [0], []], ids=["out of range", "too short", "empty"])
def test_a_candidate_of_no_space_is_found_and_not_trained(copied, row):
    change_trial(copied, candidate=row)
    checks = by_name(verify(copied, 9, silent))
    assert checks[PROPOSALS].status == "differs"
    assert checks[PROPOSALS].note.startswith(f"trial 0 of round 1: candidate is {row}, not [")
    assert "nars: training of trial 0 of round 1" not in checks
    assert checks["nars: training of trial 1 of round 1"].status == "same"


def test_a_seed_that_was_changed_is_found(copied):
    change_trial(copied, seed=5)
    check = by_name(verify(copied, 0, silent))[PROPOSALS]
    assert (check.status, check.note) == (
        "differs",
        "trial 0 of round 1 does not follow from the trials before it",
    )


def test_a_wrong_answer_of_an_older_version_is_a_failed_training(copied):
    """Its round has later ones, so what these learnt from it is found."""
    change_trial(copied, acc1=[math.nan, math.nan])
    assert statuses(verify(copied, 0, silent))[PROPOSALS] == "differs"


def test_a_pair_file_that_was_changed_is_found(copied):
    pair = load_pair(copied / "pair.yaml")
    save_pair(dataclasses.replace(pair, measured=pair.measured | {"acc1": 99.0}, seed=9), copied / "pair.yaml")
    checks = by_name(verify(copied, 0, silent))
    assert checks[ANSWER].status == checks[WEIGHTS].status == "differs"
    assert checks[ANSWER].note == "seed is not what the search answers with"
    assert checks[WEIGHTS].note == f"{pair.measured['acc1']:.2f}%, stated 99.00%"
    assert checks[PROPOSALS].status == "same"


def test_the_versions_in_a_pair_file_are_not_compared(copied):
    pair = load_pair(copied / "pair.yaml")
    save_pair(dataclasses.replace(pair, provenance=pair.provenance | {"torch": "1.0"}), copied / "pair.yaml")
    assert statuses(verify(copied, 0, silent))[ANSWER] == "same"


def test_weights_of_another_network_are_found(copied, trained_search):
    shutil.copy(trained_search[1] / "baseline" / "weights.pt", copied / "weights.pt")
    check = by_name(verify(copied, 0, silent))[WEIGHTS]
    assert check.status == "differs"
    assert check.note.endswith("weights.pt has the weights of another network")


def test_without_its_data_accuracies_are_not_checked(copied, trained_search):
    reconfigure(copied, trained_search[0].replace(data=None))
    checks = by_name(verify(copied, 1, silent))
    for what in (WEIGHTS, "nars: trainings"):
        assert checks[what].status == "not checked"
        assert "names no data" in checks[what].note


def test_other_versions_are_named(copied):
    record = json.loads((copied / "environment.json").read_text())
    (copied / "environment.json").write_text(json.dumps(record | {"torch": "1.0"}))
    check = by_name(verify(copied, 0, silent))["versions"]
    assert (check.status, check.note) == ("differs", f"torch was 1.0, is {record['torch']}")


def test_without_a_record_versions_are_not_checked(copied):
    (copied / "environment.json").unlink()
    check = by_name(verify(copied, 0, silent))["versions"]
    assert (check.status, check.note) == ("not checked", "environment.json is missing")


def test_the_answer_of_a_search_that_has_not_ended_is_not_checked(copied):
    lines = (copied / "ledger.jsonl").read_text().splitlines(keepends=True)
    (copied / "ledger.jsonl").write_text("".join(lines[:4]))
    checks = by_name(verify(copied, 0, silent))
    assert checks["nars: 3 proposals of the ledger"].status == "same"
    assert checks["nars: answer"].status == "not checked"
    assert checks["nars: answer"].note == "the search has not ended; it has made 3 trials"


def test_a_folder_without_a_search_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing; give the folder"):
        verify(tmp_path, 0, silent)


def test_trainings_by_several_processes_are_not_made_again(copied, trained_search):
    reconfigure(copied, trained_search[0].replace(processes=2))
    check = by_name(verify(copied, 1, silent))["nars: trainings"]
    assert (check.status, check.note) == ("not checked", "each was made by 2 processes")


def test_a_training_that_diverged_is_made_again(copied):
    change_trial(copied, acc1=[], status="diverged")
    check = by_name(verify(copied, 1, silent))["nars: training of trial 0 of round 1"]
    assert check.status == "differs"
    assert check.note.endswith("%, recorded diverged")


def test_a_search_is_replayed_with_its_recorded_accuracies(scripted_search):
    cfg, folder, results = scripted_search
    trials = read_ledger(folder / "ledger.jsonl")
    with cpu_threads(1):
        again, _, proposal = replay(Context.of(cfg), "nars", Recorded(trials), silent)
    assert comparable(again) == comparable(trials)
    assert proposal == results[0].proposal


def test_a_replay_ends_at_the_first_training_that_is_not_recorded(scripted_search):
    cfg, folder, _ = scripted_search
    trials = read_ledger(folder / "ledger.jsonl")[:4]
    with cpu_threads(1):
        again, _, proposal = replay(Context.of(cfg), "nars", Recorded(trials), silent)
    assert comparable(again) == comparable(trials)
    assert proposal is None


def test_a_search_of_an_earlier_version_is_replayed_with_its_epochs(tmp_path, monkeypatch):
    """It stopped at the first epoch. Now four candidates are too few to stop early."""
    cfg = config(tmp_path, batch=4)
    with monkeypatch.context() as patch:
        patch.setattr("fbnetv3.search.nars.algorithm.trial_epochs", lambda *_: 1)
        expected, trials, context = run_scripted(cfg, tmp_path / "ledger.jsonl")
    with cpu_threads(1):
        again, _, proposal = replay(context, "nars", Recorded(trials), silent)
    assert {t.epochs for t in again if t.round == 2} == {1}
    assert (comparable(again), proposal) == (comparable(trials), expected)


@pytest.fixture
def stopping(tmp_path):
    """Answer, trials and context of a search in which a model of learning curves ends trainings early."""
    cfg = config(tmp_path, first=12, batch=4, rounds=3, stopping="model")
    return run_scripted(cfg, tmp_path / "ledger.jsonl", evaluator=Stoppable())


def test_stopped_trainings_are_replayed(stopping):
    proposal, trials, context = stopping
    assert any(t.stopped for t in trials)
    with cpu_threads(1):
        again, _, found = replay(context, "nars", Recorded(trials), silent)
    assert (comparable(again), found) == (comparable(trials), proposal)


def test_a_training_that_was_stopped_without_a_reason_is_told(stopping):
    _, trials, context = stopping
    best = next(t for t in trials if t.round == 2 and not t.stopped and t.status == "ok")
    changed = [dataclasses.replace(t, acc1=t.acc1[:1], stopped=True) if t is best else t for t in trials]
    with cpu_threads(1):
        again, *_ = replay(context, "nars", Recorded(changed), silent)
    [found] = [t for t in again if t.place == best.place]
    assert found.status == "failed"


def recorded(index, seed):
    return Trial(1, index, [0], seed, 2, 1, 1, None, [], "failed", 3.0, f"OSError: disk {seed} full")


def test_recorded_trainings_end_as_they_did_and_in_their_order():
    executor = Recorded([recorded(1, 8), recorded(0, 7)])
    jobs = {"a": Job(None, 2, 7), "b": Job(None, 2, 8)}
    assert list(executor.run({})) == []
    assert list(executor.run(jobs)) == [
        ("b", Outcome((), "failed", 3.0, "OSError: disk 8 full")),
        ("a", Outcome((), "failed", 3.0, "OSError: disk 7 full")),
    ]
    assert [key for key, _ in executor.run(jobs.items(), at_once=1)] == ["a", "b"]


def test_trainings_of_an_unfinished_batch_are_replayed_although_one_of_them_is_missing(scripted_search):
    """The worker of the first one had not ended when the search was stopped."""
    cfg, folder, _ = scripted_search
    _, *trials = read_ledger(folder / "ledger.jsonl")[:2]
    with cpu_threads(1):
        again, _, proposal = replay(Context.of(cfg), "nars", Recorded(trials), silent)
    assert comparable(again) == comparable(trials)
    assert proposal is None


@pytest.fixture(scope="module")
def asynchronous_search(tmp_path_factory):
    """The folder of an asynchronous search, three trainings at a time, whose trainings end in a wild order."""
    folder = tmp_path_factory.mktemp("asynchronous")
    cfg = config(folder, batch=3, rounds=3, asynchronous=3, final_training=False)
    clock = Clock(Scripted(), 3, lambda job: 1 + job.seed % 11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExecutorSettings, "start", lambda *_: contextlib.nullcontext(clock))
        start(cfg, folder / "run", silent, ExecutorSettings(workers=3), Scripted())
    return folder / "run"


@pytest.fixture
def wild(asynchronous_search, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(asynchronous_search, tmp_path / "wild")


def cut(folder, lines):
    """Leave the header of a ledger and this many lines more."""
    path = folder / "ledger.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: lines + 1]))


def test_an_asynchronous_search_is_replayed_in_the_order_of_its_ledger(wild):
    places = [t.place for t in read_ledger(wild / "ledger.jsonl")][3:9]
    assert places != sorted(places)
    checks = by_name(verify(wild, 0, silent))
    assert checks["nars: 11 proposals of the ledger"].status == checks[ANSWER].status == "same"


def test_trainings_in_another_order_do_not_lead_to_its_proposals(wild):
    header, *lines = (wild / "ledger.jsonl").read_text().splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if i >= 3 and '"planned"' not in line]
    lines[ends[0]], lines[ends[1]] = lines[ends[1]], lines[ends[0]]
    (wild / "ledger.jsonl").write_text("".join([header, *lines]))
    assert by_name(verify(wild, 0, silent))["nars: 11 proposals of the ledger"].status == "differs"


@pytest.mark.parametrize("more", [0, 1], ids=["before a plan", "after a plan"])
def test_trainings_that_had_not_ended_are_verified(wild, more):
    cut(wild, 3 + 3 + 3 + more)  # round 1, the first plans, an end, a plan, and an end
    checks = by_name(verify(wild, 0, silent))
    assert checks[f"nars: {7 + more} proposals of the ledger"].status == "same"
    note = f"the search has not ended; it has made 5 trials, and {2 + more} trainings had not ended"
    assert checks["nars: answer"].note == note
    header, *lines = (wild / "ledger.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    ended = {(row["round"], row["index"]) for row in rows if "planned" not in row}
    pending = next(row["planned"] for row in rows if "planned" in row and (2, row["planned"]["index"]) not in ended)
    pending["predicted"][0] += 1.0
    (wild / "ledger.jsonl").write_text("\n".join([header, *map(json.dumps, rows), ""]))
    check = by_name(verify(wild, 0, silent))[f"nars: {7 + more} proposals of the ledger"]
    assert check.status == "differs"
    assert "predicted is" in check.note


def trained_on(folder, *words):
    """Write that a search was trained on these devices."""
    record = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps(record | {"devices": list(words)}))


def test_a_training_on_a_gpu_need_not_be_equal_to_the_last_bit(copied):
    row = change_trial(copied, acc1=[50.0, 60.25])
    trained_on(copied, "cuda (NVIDIA H200)")
    check = by_name(verify(copied, 1, silent))["nars: training of trial 0 of round 1"]
    assert check.status == "not checked"
    assert check.note.startswith(
        f"{row['acc1'][-1]:.2f}%, recorded 60.25%; trainings on a GPU, or on two devices, are not"
    )


def test_a_training_that_is_equal_on_another_device_is_the_same(copied):
    trained_on(copied, "cpu", "cuda (NVIDIA H200)")
    assert set(statuses(verify(copied, 1, silent)).values()) == {"same"}


@pytest.mark.parametrize(
    ("devices", "change", "status"),
    [(["cpu"], 0.2, "differs"), (["cuda (H200)"], 0.2, "same"), (["cuda (H200)"], 5.0, "differs")],
    ids=["cpu", "few images", "many images"],
)
def test_weights_may_have_a_slightly_different_accuracy_on_another_device(copied, devices, change, status):
    pair = load_pair(copied / "pair.yaml")
    measured = pair.measured | {"acc1": pair.measured["acc1"] + change}
    save_pair(dataclasses.replace(pair, measured=measured), copied / "pair.yaml")
    trained_on(copied, *devices)
    assert statuses(verify(copied, 0, silent))[WEIGHTS] == status


def test_a_device_that_is_not_there_is_refused(copied):
    with pytest.raises(InputError, match="--device cuda:99 cannot be used"):
        verify(copied, 1, silent, device="cuda:99")
    assert set(statuses(verify(copied, 1, silent, device="cpu")).values()) == {"same"}


def test_without_its_gpu_nothing_is_trained_again(copied):
    settings = yaml.safe_load((copied / "config.yaml").read_text()) | {"device": "cuda:99"}
    reconfigure(copied, read_config(settings, "here"))
    found = by_name(verify(copied, 1, silent))
    for what in (WEIGHTS, "nars: trainings"):
        assert (found[what].status, "--device cuda:99 cannot be used" in found[what].note) == ("not checked", True)
