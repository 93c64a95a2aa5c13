"""Regularised evolution: who is alive, who is a parent, and what a child is."""

import numpy as np

from fbnetv3.search.rivals.evolution import Evolution
from fbnetv3.search.rivals.settings import EvolutionSettings
from tests.search.rivals.made_up import grid_context, run


def evolve(context, settings, n=24):
    return run(Evolution(context.constraints, 0, 24, settings), context, n, 1)


def test_children_differ_in_one_coordinate_from_the_living(tmp_path):
    context = grid_context(tmp_path, sizes=(6, 6, 6))
    rows = evolve(context, EvolutionSettings(population=0.25, sample=0.5))
    assert rows[:6].tolist() == context.constraints.sample(6, 0).tolist()
    for i in range(6, 24):
        assert ((rows[i - 6 : i] != rows[i]).sum(axis=1) == 1).any()


def test_with_the_whole_population_as_sample_the_best_is_the_parent(tmp_path):
    context = grid_context(tmp_path, sizes=(6, 6, 6))
    rows = evolve(context, EvolutionSettings(population=0.25, sample=1.0))
    for i in range(6, 24):
        alive = rows[i - 6 : i]
        parent = alive[context.space.accuracy(alive).argmax()]
        assert (parent != rows[i]).sum() == 1


def test_the_oldest_leaves_by_the_order_of_results(tmp_path):
    context = grid_context(tmp_path, sizes=(6, 6, 6))
    evolution = Evolution(context.constraints, 0, 8, EvolutionSettings(population=0.25, sample=1.0))
    first, second = evolution.ask(2)
    evolution.tell(np.array([second]), np.array([90.0]))  # becomes the oldest one
    evolution.tell(np.array([first]), np.array([10.0]))
    third = evolution.ask(1)
    assert (third[0] != second).sum() == 1
    evolution.tell(third, np.array([20.0]))
    assert (evolution.ask(1)[0] != third[0]).sum() == 1


def test_a_failed_training_is_never_alive(tmp_path):
    context = grid_context(tmp_path, sizes=(6, 6, 6))
    evolution = Evolution(context.constraints, 0, 8, EvolutionSettings(population=0.25, sample=1.0))
    first, second = evolution.ask(2)
    evolution.tell(np.array([second, first]), np.array([50.0, np.nan]))
    assert [row for row, _ in evolution.alive] == [tuple(second.tolist())]
