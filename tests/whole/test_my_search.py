"""The example of a search with a function of one's own, as a user runs it."""

import numpy as np

from fbnetv3.recipes import load_recipe
from fbnetv3.search.execution.executor import Job, evaluate
from fbnetv3.search.nars.custom import import_evaluator
from fbnetv3.search.space.reader import load_space
from tests.places import ROOT


def test_the_example_is_an_evaluator_whose_outcomes_repeat(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    evaluator, space = import_evaluator("my_search:evaluate"), load_space("micro")
    candidate = space.candidate(np.zeros(len(space.sizes), int), load_recipe("fashion_mnist/micro"), "smallest")
    one, two = (evaluate(evaluator, Job(candidate, 1, 5)) for _ in range(2))
    assert (one.status, one.acc1) == ("ok", two.acc1)
    assert 0 < one.acc1[0] < 100
