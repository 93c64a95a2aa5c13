"""One search of a comparison in its folder: copies of its inputs, its answer, curves, made-up trainings."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.comparison.methods import METHODS, Comparison, Method
from fbnetv3.benchmarks.search.comparison.run import (
    curve,
    keep_inputs,
    make_context,
    run_one,
)
from fbnetv3.progress import silent
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table import TableEvaluator, TableSpace
from fbnetv3.search.space.table_archive import write_archive
from fbnetv3.search.trial import Outcome, Trial, read_ledger, until_stopped
from fbnetv3.training.recipe import Recipe
from tests.search import scripted
from tests.search.scripted import change_first

ONE = ExecutorSettings(workers=1)


def trial(round_, row, acc1):
    return Trial(round_, 0, row, 0, len(acc1), 1, 1, None, acc1, "ok", 0.0)


def test_a_search_is_run_once(table, small, tmp_path):
    config = small(table)["trainings_16"]
    answer = run_one(METHODS["random"], config, "", tmp_path, ONE, silent)
    assert len(read_ledger(tmp_path / "ledger.jsonl")) == answer["trainings"] == len(answer["curve"]) == 16
    assert answer["curve"][-1] == pytest.approx(answer["acc1"], abs=1e-4)

    def refuse(context, runner):
        raise AssertionError("searches again")

    assert run_one(Method(refuse), config, "", tmp_path, ONE, silent) == answer
    with pytest.raises(InputError, match="another configuration; give another --out"):
        run_one(METHODS["random"], config.replace(seed=5), "", tmp_path, ONE, silent)


@pytest.mark.parametrize("changes", [{"round": 77}, {"candidate": [99] * 8}, {"seed": 5}], ids=str)
def test_a_ledger_with_a_trial_of_another_search_is_refused(table, small, tmp_path, changes):
    config = small(table)["trainings_16"]
    for name in ("random", "evolution"):
        run_one(METHODS[name], config, "", tmp_path / name, ONE, silent)
        (tmp_path / name / "answer.json").unlink()
        change_first(tmp_path / name / "ledger.jsonl", **changes)
        with pytest.raises(InputError, match=r"ledger.jsonl: line 2: trial 0 of round (1|77) "):
            run_one(METHODS[name], config, "", tmp_path / name, ONE, silent)


def test_the_curve_is_the_true_accuracy_of_the_best_measured(table, small):
    context, _, truth = make_context(small(table)["trainings_16"], "")
    rows = [[0, 0, 0], [4, 4, 4], [1, 1, 1]]
    trials = [trial(1, row, [acc1]) for row, acc1 in zip(rows, (60.0, 55.0, 70.0), strict=True)]
    first, third = context.space.accuracy(np.array([rows[0], rows[2]])).tolist()
    assert curve(context, truth, trials, third) == [first, first, third]
    assert curve(context, None, trials, 0.0) == [60.0, 60.0, 70.0]


def test_a_table_file_is_judged_by_the_trainings_that_were_not_seen(small, tmp_path):
    lines = [f"{i},{i + 1},1,{20 + i + bonus}" for i in range(50) for bonus in (0, 30)]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["arch.a,label.flops,label.params,acc1", *lines]))
    write_archive(load_space(str(table)), tmp_path / "mine.npz")
    config = small(tmp_path / "mine.npz")["trainings_16"]
    answer = run_one(METHODS["random"], config, "", tmp_path / "run", ONE, silent)
    # Random search trains every candidate once. Its answer was lucky: the training that it did not see has 30 points less.
    [best] = answer["candidate"]
    assert max(t.acc1[0] for t in read_ledger(tmp_path / "run" / "ledger.jsonl")) == 50 + best
    assert answer["acc1"] == answer["curve"][-1] == 20 + best
    assert Comparison({"x": config}, ["nars"], [0]).kind == "table, held out"


def test_the_curve_compares_trials_after_as_many_epochs(table, small):
    context, _, truth = make_context(small(table)["trainings_16"], "")
    long, short = trial(1, [0, 0, 0], [30.0, 60.0]), trial(2, [4, 4, 4], [40.0])
    assert curve(context, truth, [long, short, long], 1.0)[1] == truth(np.array([[4, 4, 4]]))[0]


def test_a_stopped_training_has_fewer_epochs_and_is_never_the_best(table, small):
    context, _, truth = make_context(small(table)["trainings_16"], "")
    first = trial(1, [0, 0, 0], [30.0, 60.0])
    stopped = dataclasses.replace(trial(2, [4, 4, 4], [99.0]), epochs=2, stopped=True)
    assert curve(context, None, [first, stopped], 0.0) == [60.0, 60.0]
    best = truth(np.array([[0, 0, 0]]))[0]
    assert curve(context, truth, [first, stopped, stopped], 7.0) == [best, best, 7.0]


class Hopeful(TableEvaluator):
    """A table whose trainings have three epochs."""

    def __call__(self, candidate, epochs, seed, *, stop=None):
        [end] = super().__call__(candidate, 1, seed).acc1
        return Outcome(until_stopped((end / 3, end / 2, end), stop), "ok", 0.0)


def test_the_answer_says_how_many_epochs_were_trained(table, small, tmp_path, monkeypatch):
    monkeypatch.setattr(TableSpace, "base_recipe", lambda self, name: Recipe("sgd", 0.1, epochs=3, batch_size=2))
    monkeypatch.setattr(TableSpace, "evaluator", lambda self: Hopeful(self))
    [config] = small(table, (28,)).values()
    config = config.replace(first=12, rounds=4, stopping="model", hopeless=0.4)
    answer = run_one(METHODS["nars"], config, "", tmp_path, ONE, silent)
    trials = read_ledger(tmp_path / "ledger.jsonl")
    assert any(t.stopped for t in trials)
    assert answer["epochs"] == sum(len(t.acc1) for t in trials)
    assert len(answer["curve"]) == answer["trainings"] == 28


def run_random(table, small, out):
    """Compare one method with itself: one search, whose folder is returned."""
    comparison = Comparison(small(table), ["random"], [0])
    config, folder = next(iter(comparison.cases.values())), out / "case" / "random" / "seed0"
    return run_one(
        METHODS["random"], config, "", folder, ONE, silent, keep_inputs(comparison, out)[config.space]
    ), folder


def test_a_comparison_has_a_copy_of_its_table(table, small, tmp_path):
    shutil.copy(table, tmp_path / "grid.csv")
    answer, folder = run_random(tmp_path / "grid.csv", small, tmp_path / "out")
    assert (tmp_path / "out" / "inputs" / "space" / "grid.csv").read_bytes() == table.read_bytes()
    # The configuration names the copy from its own folder, and the answer does not depend on where the table is.
    (tmp_path / "out").rename(tmp_path / "moved")
    assert load_preset(str(tmp_path / "moved" / "case" / "random" / "seed0" / "config.yaml")).space == str(
        tmp_path / "moved" / "inputs" / "space" / "grid.csv"
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "grid.csv").rename(tmp_path / "elsewhere" / "grid.csv")
    assert run_random(tmp_path / "elsewhere" / "grid.csv", small, tmp_path / "moved")[0] == answer
    assert not folder.exists()


def test_a_comparison_with_another_table_is_refused(table, small, tmp_path):
    shutil.copy(table, tmp_path / "grid.csv")
    run_random(tmp_path / "grid.csv", small, tmp_path / "out")
    for name, text in (("grid.csv", "5"), ("other.csv", "0")):
        lines = table.read_text().splitlines()
        (tmp_path / name).write_text("\n".join([*lines[:-1], lines[-1] + text]) + "\n")
        with pytest.raises(
            InputError, match=r"holds a comparison with another inputs/space/grid.csv; give another --out"
        ):
            run_random(tmp_path / name, small, tmp_path / "out")


def test_a_comparison_of_the_version_before_is_continued(table, small, tmp_path):
    """It knew a table by its name only."""
    config, folder = small(table)["trainings_16"], tmp_path / "out" / "case" / "random" / "seed0"
    answer = run_one(METHODS["random"], config, "", folder, ONE, silent)
    ledger = (folder / "ledger.jsonl").read_bytes()
    assert run_random(table, small, tmp_path / "out")[0] == answer
    (folder / "answer.json").unlink()
    (folder / "ledger.jsonl").write_bytes(b"".join(ledger.splitlines(keepends=True)[:-3]))
    # The time of proposals differs from run to run.
    again = run_random(table, small, tmp_path / "out")[0] | {"proposal_seconds": answer["proposal_seconds"]}
    assert again == answer
    assert (folder / "ledger.jsonl").read_bytes() == ledger
    # A table that was changed shows in the costs.
    (folder / "answer.json").unlink()
    path = tmp_path / "grid.csv"
    header, *lines = table.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    path.write_text("\n".join([header, *(",".join([*c[:3], c[3] + "0", *c[4:]]) for c in cells)]) + "\n")
    space = dataclasses.replace(config, space=str(path))
    (folder / "ledger.jsonl").write_bytes(ledger.replace(config.fingerprint.encode(), space.fingerprint.encode()))
    with pytest.raises(InputError, match=r"now says .*: the space .*grid.csv was changed after the search began"):
        run_one(METHODS["random"], space, "", folder, ONE, silent)


def scored(candidate, epochs, seed):
    return scripted.Scripted()(candidate, epochs, seed)


def test_a_custom_evaluator_makes_the_final_training_too(tmp_path):
    """There are no images, so nothing else could make it. A scripted curve nears its top by 10 points over the epochs."""
    cfg = scripted.config(tmp_path, data=None, evaluator=f"{__name__}:scored", final_stretch=2)
    place = tmp_path / "random"
    answer = run_one(METHODS["random"], cfg, "", place, ONE, silent)
    best = max(trial.acc1[-1] for trial in read_ledger(place / "ledger.jsonl") if trial.acc1)
    assert answer["acc1"] == pytest.approx(best + 10 / 2 - 10 / 4)  # 4 epochs instead of 2
    assert (answer["split"], answer["final_epochs"]) == ("val", 4)
    assert json.loads((place / "final" / "outcome.json").read_text())["acc1"][-1] == answer["acc1"]
