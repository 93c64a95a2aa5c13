"""SMAC3: what it is told, and that its files are gone."""

import gc

import numpy as np
import pytest

from fbnetv3.search.rivals.settings import STARTUP
from tests.search.rivals.made_up import grid_context, run

pytest.importorskip("smac")

from fbnetv3.search.rivals.smac_rival import Smac


def told(rival):
    """Index rows, costs and states of what SMAC knows, in its order."""
    history = rival.facade.runhistory
    return [
        (rival._row(history.get_config(key.config_id)), value.cost, value.status.name) for key, value in history.items()
    ]


def test_it_is_told_every_result_once_and_trains_nothing_again(tmp_path):
    context = grid_context(tmp_path, max_flops=130.0)
    rival = Smac(context.constraints, 0, 4)
    rows = run(rival, context, 24, 4)
    known = {tuple(row): cost for row, cost, state in told(rival) if state == "SUCCESS"}
    costs = (100 - context.space.accuracy(rows)).tolist()
    assert known == pytest.approx(dict(zip(map(tuple, rows.tolist()), costs, strict=True)))
    # The others, if any, are proposals that were moved.
    assert {tuple(row) for row, _, state in told(rival) if state != "SUCCESS"}.isdisjoint(known)


def test_its_proposals_are_feasible_without_being_moved(tmp_path, monkeypatch):
    context = grid_context(tmp_path, sizes=(6, 6, 6), max_flops=130.0)
    rival = Smac(context.constraints, 0, 1)
    monkeypatch.setattr(rival.untried, "near", lambda row: pytest.fail(f"{row} was moved"))
    run(rival, context, 24, 1)


def test_infeasible_and_tried_candidates_have_no_improvement(tmp_path):
    context = grid_context(tmp_path, sizes=(5, 4, 3), max_flops=130.0)
    rival = Smac(context.constraints, 0, 4)
    rival.untried.take([0, 0, 0])
    rows = context.space.table
    values = [{str(j): i for j, i in enumerate(row)} for row in rows.tolist()]
    points = [rival._config_space.Configuration(rival.space, values=v).get_array() for v in values]
    rival._improvement = lambda points: np.ones((len(points), 1))
    found = rival._feasible_improvement(np.array(points))[:, 0]
    assert (np.isfinite(found) == rival.untried.have(rows)).all()


def test_where_smac_has_no_more_proposals_a_near_candidate_is_taken(tmp_path, monkeypatch):
    context = grid_context(tmp_path)
    rival = Smac(context.constraints, 0, 1)
    run(rival, context, STARTUP + 1, 1)
    last = rival._last

    def stop():
        raise StopIteration

    monkeypatch.setattr(rival.facade, "ask", stop)
    [row] = rival.ask(1)
    assert (row != last).sum() == 1


def test_its_local_search_starts_in_one_order(tmp_path):
    """SMAC has these configurations in a set of texts, whose order is another one in another process."""
    rival = Smac(grid_context(tmp_path).constraints, 0, 4)
    starts = rival.space.sample_configuration(20)
    orders = []
    for rival._starts in (lambda: starts, lambda: starts[::-1]):
        orders.append(list(map(rival._row, rival.facade._acquisition_maximizer._local_search._get_initial_points())))
    assert orders[0] == orders[1]
    assert orders[0] != list(map(rival._row, starts))


def test_a_failed_training_is_no_result(tmp_path):
    context = grid_context(tmp_path)
    rival = Smac(context.constraints, 0, 4)
    rows = rival.ask(2)
    rival.tell(rows, np.array([50.0, np.nan]))
    assert told(rival) == [(rows[0].tolist(), 50.0, "SUCCESS")]


def test_its_files_are_gone_with_it(tmp_path):
    rival = Smac(grid_context(tmp_path).constraints, 0, 4)
    folder = rival._folder
    assert rival.facade.scenario.output_directory.is_relative_to(folder)
    assert folder.is_dir()
    del rival
    gc.collect()
    assert not folder.exists()
