"""What rivals that learn have in common. Their contract is in test_catalogue.py, which all of them pass."""

import numpy as np

from fbnetv3.search.rivals.rival import Guided
from tests.search.rivals.made_up import grid_context


class Nearest(Guided):
    """Proposes neighbours of the first candidate, and notes what it was told."""

    def __init__(self, constraints, startup):
        super().__init__(constraints, 0, startup)
        self.begun, self.learnt = [], []

    def _begin(self, row):
        self.begun.append(row)

    def _propose(self):
        return self.untried.near(self.begun[0])

    def _learn(self, row, accuracy):
        self.learnt.append((row, accuracy))


def test_it_begins_with_the_first_candidates_of_a_sobol_sample(tmp_path):
    context = grid_context(tmp_path)
    rival = Nearest(context.constraints, 6)
    rows = rival.ask(4)
    rival.tell(rows, np.arange(4.0))
    rows = np.concatenate([rows, rival.ask(4)])
    sobol = context.constraints.sample(8, 0)
    assert rows[:6].tolist() == rival.begun == sobol[:6].tolist()
    assert ((rows[6:] != rows[0]).sum(axis=1) == 1).all()
    assert rival.learnt == [(tuple(row), i) for i, row in enumerate(rows[:4].tolist())]


def test_before_the_first_result_it_is_random(tmp_path):
    context = grid_context(tmp_path)
    rival = Nearest(context.constraints, 2)
    first = np.concatenate([rival.ask(5), rival.ask(1)])
    assert first.tolist() == context.constraints.sample(6, 0).tolist()
    rival.tell(first[:5], np.full(5, np.nan))  # all failed
    assert rival.ask(1).tolist() == context.constraints.sample(7, 0)[6:].tolist()
    rival.tell(first[5:], np.array([50.0]))
    assert (rival.ask(1) != first[0]).sum() == 1
