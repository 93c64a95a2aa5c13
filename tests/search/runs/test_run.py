"""The search as a whole: real trainings, crashes after every write, SIGKILL, and resumption to the same end."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.pair_file import load_pair, save_pair
from fbnetv3.progress import silent as quiet
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.algorithm import fit_trials
from fbnetv3.search.nars.baselines import random_search
from fbnetv3.search.nars.config import list_presets, load_preset, read_config
from fbnetv3.search.nars.context import Context
from fbnetv3.search.runs.run import start
from fbnetv3.search.runs.verify import verify
from fbnetv3.search.sessions import resume_search, run_search
from fbnetv3.search.trial import Outcome, comparable, read_ledger
from fbnetv3.weight_file import read_weight_file
from tests.places import ROOT
from tests.search.scripted import BASE_RECIPE, Scripted, config, run_scripted


def test_algorithm_1_on_a_scripted_evaluator(tmp_path):
    cfg = config(tmp_path, pool=256, batch=8, rounds=4)
    proposal, trials, context = run_scripted(cfg, tmp_path / "a.jsonl")
    places = [(r, i) for r in (1, 2, 3, 4) for i in range(8)] + [(5, 0), (5, 1)]
    assert [(t.round, t.index) for t in trials] == places
    assert len({tuple(t.candidate) for t in trials[:32]}) == 32
    assert len({t.seed for t in trials}) == 34
    assert all((t.predicted is None) == (t.round == 1) for t in trials)
    assert all(
        t.epochs == (2 if t.round in (1, 5) else 1) for t in trials
    )  # the scripted ranking is clear after one epoch
    assert all(cfg.constraint.min <= t.flops <= cfg.constraint.max for t in trials)
    best = {r: max(context.label(t, 1) for t in trials if t.round == r) for r in (1, 2, 3, 4)}
    assert max(best[2], best[3], best[4]) > best[1]
    chosen = context.space.candidate(proposal.candidate, context.base, "x")
    assert cost(chosen.arch, 10, 1).flops() <= cfg.constraint.max
    assert Scripted()(chosen, 1, 0).acc1[0] >= best[1]
    again, trials_again, _ = run_scripted(cfg, tmp_path / "b.jsonl")
    assert again == proposal
    assert comparable(trials_again) == comparable(trials)
    other, _, _ = run_scripted(cfg.replace(seed=1), tmp_path / "c.jsonl")
    assert other != proposal


def test_random_search_takes_the_best_measured_of_as_many_trainings(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=3)
    proposal, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", random_search)
    assert len(trials) == 14
    best = max(trials, key=lambda t: context.label(t, 2))
    assert list(proposal.candidate) == best.candidate
    assert proposal.predicted is None


class Deceived(Scripted):
    """What looks best by far in the trials is worth nothing in the finals but for the last one predicted."""

    def __init__(self, wins):
        super().__init__()
        self.wins = wins

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        if len(self.calls) > 6:
            outcome = Outcome((50.0, 60.0 + (len(self.calls) - 7 == self.wins)), "ok", 0.0)
        return outcome


@pytest.mark.parametrize("wins", [0, 1, 3])
def test_the_best_measured_finalist_is_the_answer(tmp_path, wins):
    cfg = config(tmp_path, batch=3, finalists=4)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Deceived(wins))
    assert [list(f.candidate) for f in proposal.finalists] == [t.candidate for t in trials[6:]]
    assert proposal.candidate == proposal.finalists[wins].candidate
    assert proposal.predicted == proposal.finalists[wins].predicted
    assert [f.final for f in proposal.finalists] == [60.0 + (i == wins) for i in range(4)]
    scores = [mean - cfg.evolution.caution * std for mean, std in (f.predicted for f in proposal.finalists)]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    best = max(trials[:6], key=lambda t: t.acc1[:1])
    assert tuple(best.candidate) in [f.candidate for f in proposal.finalists]
    assert [t.predicted for t in trials[6:]] == [pytest.approx(list(f.predicted)) for f in proposal.finalists]


def test_without_finalists_the_highest_score_is_the_answer(tmp_path):
    cfg = config(tmp_path, batch=3)
    with_finalists, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl")
    alone, fewer, _ = run_scripted(cfg.replace(finalists=0), tmp_path / "b.jsonl")
    assert comparable(fewer) == comparable([t for t in trials if t.round < 3])
    assert alone.candidate == with_finalists.finalists[0].candidate
    assert alone.finalists == ()


def test_further_constraints_hold_for_every_trial(tmp_path):
    also = [{"metric": "params", "max": 22e3}]
    cfg = config(tmp_path, also=also, batch=4)
    trials = run_scripted(cfg, tmp_path / "a.jsonl")[1]
    assert len(trials) == 10
    assert all(t.params <= 22e3 and t.flops <= cfg.constraint.max for t in trials)
    without = run_scripted(cfg.replace(also=()), tmp_path / "b.jsonl")[1]
    assert max(t.params for t in without) > 22e3
    assert read_config(cfg.to_dict(), "here") == cfg


@pytest.mark.parametrize("cut", [False, True])
def test_a_crash_after_every_write_then_resume_ends_the_same(tmp_path, cut):
    cfg = config(tmp_path, batch=3, rounds=3)
    proposal, _, _ = run_scripted(cfg, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for lines in range(len(whole)):
        path = tmp_path / f"cut{lines}.jsonl"
        path.write_bytes(b"".join(whole[:lines]) + (whole[lines][:20] if cut else b""))
        evaluator = Scripted()
        again, trials, _ = run_scripted(cfg, path, evaluator=evaluator)
        assert again == proposal
        assert path.read_bytes() == b"".join(whole)
        assert len(evaluator.calls) == 11 - max(lines - 1, 0)  # nothing in the ledger is trained again
    assert len(trials) == 11


def test_a_ledger_of_other_versions_is_refused(tmp_path):
    cfg = config(tmp_path)
    path = tmp_path / "a.jsonl"
    run_scripted(cfg, path)
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[1])
    row["candidate"][0] ^= 1
    path.write_text(lines[0] + json.dumps(row) + "\n" + "".join(lines[2:]))
    with pytest.raises(InputError, match="trial 0 of round 1 is not the one that this search makes"):
        run_scripted(cfg, path)


def test_every_training_diverging_is_a_result(tmp_path):
    cfg = config(tmp_path, batch=3)
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=lambda *_: Outcome((), "diverged", 0.0))
    assert {t.status for t in trials} == {"diverged"}
    assert proposal.predicted[0] == pytest.approx(10.0, abs=1e-3)  # chance


class Failing(Scripted):
    """Trainings with these numbers fail, as they do on a full disk."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def __call__(self, candidate, epochs, seed):
        outcome = super().__call__(candidate, epochs, seed)
        return Outcome((), "failed", 0.0, "OSError: disk full") if len(self.calls) - 1 in self.fails else outcome


def test_a_failed_training_is_recorded_and_teaches_nothing(tmp_path):
    cfg = config(tmp_path, batch=4, rounds=2)
    _, trials, context = run_scripted(cfg, tmp_path / "a.jsonl", evaluator=Failing({1, 2}))
    assert [t.status for t in trials if t.status == "failed"] == ["failed"] * 2
    assert {t.error for t in trials} == {"", "OSError: disk full"}
    assert len(trials) == 10
    seen = []

    class Spy:
        def fit(self, x, y):
            seen.append((len(x), list(y)))

    best = fit_trials(context, Spy(), trials[:4], 1)
    assert seen == [(2, [context.label(trials[0], 1), context.label(trials[3], 1)])]
    assert {tuple(row) for row in best.tolist()} == {tuple(trials[0].candidate), tuple(trials[3].candidate)}


def test_failed_trainings_are_tried_again_until_a_later_round_stands_on_them(tmp_path):
    cfg = config(tmp_path, batch=3, rounds=2)
    path = tmp_path / "a.jsonl"
    with pytest.raises(
        InputError, match="all 3 trainings of round 2 failed, OSError: disk full; fix the cause, and resume"
    ):
        run_scripted(cfg, path, evaluator=Failing({0, 3, 4, 5}))
    assert [t.status for t in read_ledger(path)] == ["failed", "ok", "ok", "failed", "failed", "failed"]
    evaluator = Scripted()
    _, trials, _ = run_scripted(cfg, path, evaluator=evaluator)
    assert len(evaluator.calls) == 5  # round 2, and the finalists
    assert [(t.round, t.index) for t in trials] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]
    assert [t.status == "failed" for t in trials] == [True] + [False] * 7
    assert read_ledger(path) == trials


def test_random_search_does_not_answer_with_a_failed_training(tmp_path):
    cfg = config(tmp_path, batch=2, rounds=1)
    evaluator = Failing({0, 2, 3})
    proposal, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl", random_search, evaluator)
    assert list(proposal.candidate) == trials[1].candidate


def test_repeats_train_the_first_candidates_again_and_change_nothing_else(tmp_path):
    cfg = config(tmp_path, batch=4)
    plain, trials, _ = run_scripted(cfg, tmp_path / "a.jsonl")
    again, more, _ = run_scripted(cfg.replace(repeats=2), tmp_path / "b.jsonl")
    assert again == plain
    repeats = [t for t in more if t.round == 0]
    assert [t.candidate for t in repeats] == [t.candidate for t in trials[:2]]
    assert not {t.seed for t in repeats} & {t.seed for t in trials}
    assert comparable([t for t in more if t.round]) == comparable(trials)
    assert cfg.replace(repeats=2).trainings == cfg.trainings + 2 == len(more)


def pictures(folder, classes, side=20):
    """A data set of files: 12 pictures a class to train on, and 4 each to validate and test."""
    from PIL import Image

    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for label in range(classes):
            (folder / split / f"class{label}").mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([label, i]).integers(0, 40 + 20 * label, (side, side, 3), np.uint8)
                Image.fromarray(noise).save(folder / split / f"class{label}" / f"{i}.png")
    return folder


@pytest.fixture
def small_space(tmp_path):
    """Colour images of two resolutions, for ten classes."""
    space = yaml.safe_load((ROOT / "search/space/spaces/micro.yaml").read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(space | {"in_chans": 3, "resolution": "(16, 24, 8)"}))
    return {"space": str(tmp_path / "small.yaml"), "constraint": {"metric": "flops", "max": 1e9}}


def test_a_search_on_files_trains_at_the_candidates_resolutions(tmp_path, small_space):
    data = str(pictures(tmp_path / "data", 4))
    recipe = BASE_RECIPE | {"batch_size": 16, "ema_decay": 0.5}
    cfg = config(tmp_path, **small_space, data=data, classes=4, final_training=False, finalists=0)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (found,) = run_search(cfg, tmp_path / "run", executor=ExecutorSettings(workers=1))
    assert [t.status for t in found.trials] == ["ok"] * 4
    assert found.curve == ()
    pair = load_pair(tmp_path / "run" / "pair.yaml")
    assert pair.measured == {}
    assert pair.arch.resolution in (16, 24)
    assert not (tmp_path / "run" / "weights.pt").exists()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["nars"]["test_acc1"] is None
    assert "had no final training here" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(InputError, match=r"is for 3 channels and 10 classes, data .* has 3 and 4; choose a space"):
        run_search(cfg.replace(classes=None), tmp_path / "other", executor=ExecutorSettings(workers=1))


def test_a_preset_without_data_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="imagenet200 names no data: give --data"):
        run_search(load_preset("imagenet200"), tmp_path / "run", executor=ExecutorSettings(workers=1))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list_presets())
def test_presets_have_the_papers_numbers_or_say_choice(name):
    preset = load_preset(name)
    assert read_config(preset.to_dict(), "here") == preset
    Context.of(preset).constraints.sample(preset.batch * preset.rounds, 0)
    if name.startswith("imagenet200"):
        base = Context.of(preset).base
        assert (preset.pool, preset.batch, preset.early_stopping, preset.classes) == (20_000, 48, 0.92, 200)
        assert preset.rounds == (4 if name == "imagenet200_recipe" else 5)
        assert (base.epochs, base.lr_decay) == (150, 0.963)
        assert base.stretched(preset.final_stretch).lr_decay == pytest.approx(0.9875, abs=1e-4)


@pytest.mark.parametrize("name", list_presets())
def test_the_documentation_has_the_presets_numbers(name):
    preset = load_preset(name)
    sizes, epochs = f"{preset.pool:,}, {preset.batch}, {preset.rounds}", Context.of(preset).base.epochs
    row = f"| `{name}` | `{preset.space}` | {sizes} | {epochs} |"
    assert row in (ROOT / "docs/search.md").read_text()


def files(folder):
    return {name: (folder / name).read_bytes() for name in ("pair.yaml", "final/metrics.csv", "config.yaml")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A real search, in one process."""
    folder = tmp_path_factory.mktemp("finished")
    cfg = config(folder, baseline=True)
    found = run_search(cfg, folder / "run", executor=ExecutorSettings(workers=1))
    return cfg, folder / "run", found


def test_a_real_search_leaves_what_it_promises(finished):
    cfg, folder, found = finished
    assert [f.method for f in found] == ["nars", "random"]
    for f, sub in zip(found, (folder, folder / "baseline"), strict=True):
        pair = load_pair(sub / "pair.yaml")
        assert pair == f.pair
        assert pair.constraint["max"] == cfg.constraint.max
        assert cost(pair.arch, 10, 1).flops() == f.flops <= cfg.constraint.max
        file = read_weight_file(sub / "weights.pt")
        assert file.arch == pair.arch
        from fbnetv3.training.accuracy import measure
        from fbnetv3.training.data.packaged import load_images

        data = load_images("fashion_mnist")
        assert measure(file.build(), data, "test").acc1 == pair.measured["acc1"]
    result = json.loads((folder / "result.json").read_text())
    assert result["nars"]["trainings"] == result["random"]["trainings"] == 6
    finalists = result["nars"]["finalists"]
    assert [f["final"] for f in finalists] == [t.acc1[-1] for t in found[0].trials if t.round == 3]
    assert [f["measured"] for f in finalists] == [t.acc1[found[0].proposal.epochs - 1] for t in found[0].trials][-2:]
    assert all(f["predicted"] for f in finalists)
    assert "Finalists" in (folder / "report.html").read_text()
    assert (folder / "report.html").stat().st_size > 10_000
    assert read_ledger(folder / "ledger.jsonl") == list(found[0].trials)


@pytest.mark.slow
def test_workers_do_not_change_the_search(finished, tmp_path):
    cfg, folder, _ = finished
    run_search(cfg.replace(baseline=False), tmp_path / "run", executor=ExecutorSettings(workers=2))
    assert comparable(read_ledger(tmp_path / "run" / "ledger.jsonl")) == comparable(
        read_ledger(folder / "ledger.jsonl")
    )
    ours, theirs = files(tmp_path / "run"), files(folder)
    assert ours["pair.yaml"] == theirs["pair.yaml"]
    assert ours["final/metrics.csv"] == theirs["final/metrics.csv"]


def test_resuming_a_finished_search_changes_nothing(finished):
    _, folder, found = finished
    before = files(folder)
    assert [f.pair for f in resume_search(folder, executor=ExecutorSettings(workers=1))] == [f.pair for f in found]
    assert files(folder) == before


def test_a_used_folder_is_not_overwritten(finished):
    cfg, folder, _ = finished
    with pytest.raises(InputError, match="already holds a search; continue it with `fbnetv3 search resume"):
        run_search(cfg, folder, executor=ExecutorSettings(workers=1))


def test_an_edited_configuration_is_refused(finished, tmp_path):
    _, folder, _ = finished
    text = (folder / "config.yaml").read_text()
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "ledger.jsonl").write_bytes((folder / "ledger.jsonl").read_bytes())
    (copy / "config.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    with pytest.raises(InputError, match="another configuration"):
        resume_search(copy, executor=ExecutorSettings(workers=1))
    (copy / "config.yaml").write_text(text.replace("rounds: 2", "rounds: two"))
    with pytest.raises(InputError, match="rounds is 'two'"):
        resume_search(copy, executor=ExecutorSettings(workers=1))
    (copy / "config.yaml").write_text(text)
    (copy / "environment.json").write_text("{cut")
    with pytest.raises(InputError, match="is no record of versions, or is damaged"):
        resume_search(copy, executor=ExecutorSettings(workers=1))
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing"):
        resume_search(tmp_path / "absent", executor=ExecutorSettings(workers=1))


def statuses(checks):
    return {check.what: check.status for check in checks}


def test_verify_finds_a_search_as_it_was_made(finished):
    _, folder, _ = finished
    before = files(folder)
    checks = verify(folder, 2, quiet)
    assert {check.status for check in checks} == {"same"}, checks
    assert [check.what for check in checks] == [
        "versions",
        "nars: 6 proposals of the ledger",
        "nars: pair.yaml",
        "nars: accuracy of the pair's weights",
        "nars: training of trial 0 of round 1",
        "nars: training of trial 1 of round 3",
        "random: 6 proposals of the ledger",
        "random: baseline/pair.yaml",
        "random: accuracy of the pair's weights",
        "random: training of trial 0 of round 1",
        "random: training of trial 5 of round 1",
    ]
    assert files(folder) == before


@pytest.fixture
def copied(finished, tmp_path):
    """NARS's half of the finished search, to be tampered with."""
    folder = tmp_path / "copy"
    shutil.copytree(finished[1], folder, ignore=shutil.ignore_patterns("baseline", "final", "plots"))
    return folder


def test_verify_tells_what_was_changed(copied):
    lines = (copied / "ledger.jsonl").read_text().splitlines(keepends=True)
    row = json.loads(lines[1])
    better = row | {"acc1": [99.0, 99.5]}
    (copied / "ledger.jsonl").write_text("".join([lines[0], json.dumps(better) + "\n", *lines[2:]]))
    found = {check.what: check for check in verify(copied, 1, quiet)}
    assert found["nars: training of trial 0 of round 1"].status == "differs"
    assert found["nars: training of trial 0 of round 1"].note == f"{row['acc1'][-1]:.2f}%, recorded 99.50%"
    assert found["nars: 6 proposals of the ledger"].status == "differs"  # what followed does not follow from this
    moved = row | {"flops": row["flops"] + 1}
    (copied / "ledger.jsonl").write_text("".join([lines[0], json.dumps(moved) + "\n", *lines[2:]]))
    (check,) = [c for c in verify(copied, 0, quiet) if "proposals" in c.what]
    assert check.note == f"trial 0 of round 1: flops is {row['flops'] + 1}, not {row['flops']}"
    (copied / "ledger.jsonl").write_text("".join(lines))
    pair = load_pair(copied / "pair.yaml")
    better = dataclasses.replace(pair, measured=pair.measured | {"acc1": 99.0}, seed=9)
    save_pair(better, copied / "pair.yaml")
    found = statuses(verify(copied, 0, quiet))
    assert found["nars: pair.yaml"] == found["nars: accuracy of the pair's weights"] == "differs"
    assert found["nars: 6 proposals of the ledger"] == "same"


def test_verify_of_a_search_that_has_not_ended(copied):
    lines = (copied / "ledger.jsonl").read_text().splitlines(keepends=True)
    (copied / "ledger.jsonl").write_text("".join(lines[:4]))
    found = statuses(verify(copied, 0, quiet))
    assert found["nars: 3 proposals of the ledger"] == "same"
    assert found["nars: answer"] == "not checked"
    with pytest.raises(InputError, match=r"no search in .*: config.yaml is missing; give the folder"):
        verify(copied / "plots", 0, quiet)


def command(folder, preset, *more):
    return [
        sys.executable,
        "-m",
        "fbnetv3",
        "search",
        *more,
        *(["--preset", preset, "--out"] if preset else []),
        str(folder),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_at_random_moments_and_resumed(finished, tmp_path, workers):
    """SIGKILL the real command, workers and all, again and again; the end is that of an undisturbed search."""
    cfg, folder, _ = finished
    preset = tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump(cfg.replace(baseline=False).to_dict()))
    run, rng, kills = tmp_path / "run", random.Random(0), 0
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = command(run, str(preset), "run")
    whole = len((folder / "ledger.jsonl").read_bytes().splitlines())
    # killed soon after each line of the ledger but the last, however fast the machine
    for lines in [*range(whole), None]:
        process = subprocess.Popen(
            [*arguments, "--workers", workers],
            env=environment,
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while lines is not None and process.poll() is None and count_lines(run / "ledger.jsonl") < lines:
            time.sleep(0.01)
        if lines is not None:
            time.sleep(rng.random() * 0.5)
            kills += process.poll() is None
            process.kill()
        code = process.wait()
        if code >= 0:
            assert code == 0
            break
        wait_for_no_workers(process.pid)
        if (run / "config.yaml").exists():
            arguments = command(run, None, "resume")
    assert kills >= whole // 2
    assert comparable(read_ledger(run / "ledger.jsonl")) == comparable(read_ledger(folder / "ledger.jsonl"))
    assert (run / "pair.yaml").read_bytes() == (folder / "pair.yaml").read_bytes()


def count_lines(path):
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def wait_for_no_workers(group):
    """A killed driver must leave no worker behind."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("workers outlived their driver by ten seconds")


def test_space_and_data_must_fit(tmp_path):
    space = yaml.safe_load((ROOT / "search/space/spaces/micro.yaml").read_text()) | {"in_chans": 3}
    (tmp_path / "rgb.yaml").write_text(yaml.safe_dump(space))
    with pytest.raises(InputError, match="is for 3 channels and 10 classes, data fashion_mnist has 1 and 10"):
        start(config(tmp_path, space=str(tmp_path / "rgb.yaml")), tmp_path / "run", 1, quiet)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"speed": 1}, "unknown key 'speed'"),
        ({"pool": 3}, "a pool of 3 is too small for 2 batches of 2"),
        ({"rounds": 0}, "rounds is 0"),
        ({"repeats": 3}, "repeats is 3; at most the 2 of the first batch"),
        ({"predictor": "quick"}, "unknown predictor preset 'quick'"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"schema": 2}, "schema is 2"),
        ({"evolution": {"speed": 1}}, "evolution: unknown key 'speed'; available: parents"),
        ({"constraint": {"metric": "flops"}}, "constraint: missing key 'max'"),
        ({"evolution": "fast"}, "evolution is 'fast'; give one of default, paper, or settings"),
        ({"also": [{"metric": "params", "max": "1M"}]}, r"also\[0\]: max is '1M'"),
        ({"latency": {"max": 1.0}}, "latency: missing key 'table'"),
        ({"finalists": -1}, "finalists is -1"),
        ({"early_stopping": 1.5}, "early_stopping is 1.5"),
    ],
)
def test_configurations_are_read_strictly(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        read_config(config(tmp_path).to_dict() | change, "here")


def test_the_fingerprint_covers_what_trials_depend_on(tmp_path):
    cfg = config(tmp_path)
    assert cfg.replace(baseline=True).fingerprint == cfg.fingerprint
    for change in (
        {"seed": 1},
        {"pool": 65},
        {"early_stopping": 0.9},
        {"predictor": {"width": 8}},
        {"evolution": {"random": 9}},
    ):
        assert cfg.replace(**change).fingerprint != cfg.fingerprint


def test_pair_files_are_read_strictly(finished, tmp_path):
    _, folder, found = finished
    pair = found[0].pair
    save_pair(pair, tmp_path / "copy.yaml")
    assert load_pair(tmp_path / "copy.yaml") == pair
    good = yaml.safe_load((folder / "pair.yaml").read_text())
    for change, words in (
        ({"colour": 1}, "unknown key 'colour'"),
        ({"schema": 7}, "schema is 7"),
        ({"measured": {"split": "test", "epochs": 1}}, "measured: acc1 is None; give a float"),
        ({"recipe": good["recipe"] | {"lr": "fast"}}, "recipe: lr is 'fast'"),
        ({"arch": good["arch"] | {"stem": {"block": "conv"}}}, "arch: stem: missing key 'c'"),
        ({"seed": "x"}, "seed is 'x'"),
    ):
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump(good | change))
        with pytest.raises(InputError, match=words):
            load_pair(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text((folder / "pair.yaml").read_text()[:200])
    with pytest.raises(InputError, match=r"bad.yaml"):
        load_pair(tmp_path / "bad.yaml")
