"""Accuracies that are known without trainings: made-up ones, and those of a surrogate."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.benchmarks.search.comparison.landscape import INVENTED, NOISE, landscape
from fbnetv3.benchmarks.search.comparison.run import make_context
from fbnetv3.benchmarks.search.landscapes import Oracle
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.table_file import read_table
from tests.search.collect.made_up import WithTest, collected


def test_a_made_up_training_ends_near_the_true_accuracy():
    context, evaluate, truth = make_context(load_preset("quickstart"), INVENTED)
    assert isinstance(truth, Oracle)
    row = (context.space.sizes // 2).tolist()
    candidate = context.space.candidate(row, context.base, "x")
    epochs = candidate.recipe.epochs
    outcomes = [evaluate(candidate, epochs, seed) for seed in range(40)]
    assert all(outcome.status == "ok" and len(outcome.acc1) == epochs for outcome in outcomes)
    assert all(np.all(np.diff(outcome.acc1) > 0) for outcome in outcomes)
    last = np.array([outcome.acc1[-1] for outcome in outcomes]) - truth(np.array([row]))[0]
    assert abs(last.mean()) < 3 * NOISE / 40**0.5
    assert 0.5 * NOISE < last.std() < 1.5 * NOISE
    assert evaluate(candidate, epochs, 3) == outcomes[3]


def test_a_training_on_a_surrogate_has_the_noise_of_the_tables_trainings(tmp_path):
    collected(tmp_path / "out", tmp_path, WithTest(), trainings=60)
    path, space = tmp_path / "out" / "table.npz", load_space("micro")
    evaluate = landscape(str(path), "micro", space)
    context, again, truth = make_context(load_preset("quickstart"), str(path))
    row = read_table(path).table[0]
    candidate = context.space.candidate(row.tolist(), context.base, "x")
    assert again(candidate, 3, 7) == evaluate(candidate, 3, 7)
    ends, true = [evaluate(candidate, 3, seed).acc1[-1] for seed in range(40)], truth(row[None])[0]
    noise = evaluate.noise(true)
    assert abs(np.mean(ends) - true) <= 3 * noise / 40**0.5 + 1e-9
    assert np.std(ends) == pytest.approx(noise, rel=0.4, abs=1e-9)
    with pytest.raises(InputError, match="is of another space than cifar"):
        landscape(str(path), "cifar", load_space("cifar"))
