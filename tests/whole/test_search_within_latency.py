"""Evolution within a latency and two costs at once."""

import numpy as np

from fbnetv3.search.nars.evolve import EvolutionSettings, evolve
from fbnetv3.search.space.constraints import Constraint, ConstraintSet
from fbnetv3.search.space.latency import LatencyLimit, LatencyTable, covering, distinct_parts, save_table
from fbnetv3.search.space.reader import load_space


def test_every_survivor_satisfies_all_constraints(tmp_path):
    space, rng = load_space("micro"), np.random.default_rng(1)
    times = {part: float(rng.random()) for part in distinct_parts(space, covering(space))}
    table = LatencyTable("micro", {"cpu": "none"}, times)
    save_table(table, tmp_path / "table.json")
    latency = LatencyLimit(str(tmp_path / "table.json"), 6.0).load(space)
    constraints = ConstraintSet(space, (Constraint("flops", 9e5), Constraint("params", 3e4)), (latency,))
    trials = np.empty((0, len(space.coordinates)), int)
    found = evolve(constraints, lambda i: i.sum(1).astype(float), trials, EvolutionSettings(evaluations=2000), 0)
    assert table.latency(space, found.index).max() <= 6.0
    assert constraints.satisfied(found.index).all()
