"""Spaces of networks: the architecture, the recipe and the costs of an index row."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.complexity import cost
from fbnetv3.recipes import load_recipe
from fbnetv3.search.space.audit import outside
from fbnetv3.search.space.constraints import Constraint, sample
from fbnetv3.search.space.encoding import arch_mask
from fbnetv3.search.space.network_space import as_networks
from fbnetv3.search.space.reader import load_space
from fbnetv3.search.space.sobol import sobol
from tests.search.spaces import TABLE2, TINY, Counting, load

MICRO = load_space("micro")
NAMES = [c.name for c in MICRO.coordinates]
BASE = load_recipe("fashion_mnist/micro")


def row(**indices):
    """The first row of the space, with these indices in it."""
    index = np.zeros(len(NAMES), int)
    for name, value in indices.items():
        index[NAMES.index(name)] = value
    return index


@pytest.mark.parametrize("index", [[9] * len(NAMES), [0]], ids=["too large", "too short"])
def test_index_rows_out_of_range_have_no_architecture(index):
    with pytest.raises(InputError, match="is no index row"):
        MICRO.arch(index, "x")


def test_the_architecture_of_a_row_by_hand(tmp_path):
    arch = load(tmp_path, TINY).arch([1, 0, 0, 2], "x")
    assert (arch.name, arch.resolution, arch.stem.c, arch.head.c, arch.head.e) == ("x", 8, 8, 32, 2)
    ((first, further),) = arch.stages
    assert (first.e, first.c, first.n, first.s, first.se) == (2, 16, 1, 2, True)
    assert (further.e, further.c, further.n, further.s, further.se) == (2, 16, 2, 1, True)


def test_rows_that_share_a_coordinate_have_the_same_value():
    assert NAMES.count("e.first^1") == NAMES.count("e.rest^2") == 1
    index = sobol(MICRO, 6, 0)[0]
    index[NAMES.index("row2.n")] = index[NAMES.index("row3.n")] = 1
    stage = MICRO.arch(index, "x").stages[2]
    assert stage[0].e == stage[2].e
    assert stage[1].e == stage[3].e


def test_the_recipe_is_the_base_with_the_searched_values():
    recipe = MICRO.recipe(row(dropout=2, mixup=3), BASE)
    assert (recipe.optimizer, recipe.lr) == ("rmsprop", 0.0003)
    assert (recipe.dropout, recipe.mixup) == (0.1, 0.15)
    assert recipe.epochs == BASE.epochs


def test_sgd_gets_a_multiple_of_the_searched_rate():
    assert MICRO.recipe(row(optimizer=1), BASE).lr == pytest.approx(20 * 0.0003)  # Table 2, caption


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.08), ("rmsprop", 0.02)])
def test_a_fixed_optimizer_decides_on_the_multiple(tmp_path, optimizer, lr):
    space = load(tmp_path, TABLE2 | {"recipe": {"optimizer": optimizer, "lr": "(2, 3)e-2"}})
    assert space.recipe_size == 2
    recipe = space.recipe([0] * len(space.coordinates), BASE)
    assert recipe.optimizer == optimizer
    assert recipe.lr == pytest.approx(lr)


def test_the_optimizer_of_the_base_recipe_decides_where_the_space_has_none(tmp_path):
    space = load(tmp_path, TABLE2 | {"recipe": {"lr": "(2, 3)e-2"}})
    first = [0] * len(space.coordinates)
    assert space.recipe(first, BASE.replace(optimizer="sgd")).lr == pytest.approx(0.08)
    assert space.recipe(first, BASE.replace(optimizer="rmsprop")).lr == pytest.approx(0.02)


def test_a_rate_that_is_not_searched_is_not_multiplied(tmp_path):
    space = load(tmp_path, TABLE2 | {"recipe": {"optimizer": "sgd"}})
    assert space.recipe([0] * len(space.coordinates), BASE.replace(lr=0.3)).lr == 0.3


def test_a_fixed_recipe_value_is_the_same_in_every_candidate():
    space = load_space("released")
    assert space.recipe(sobol(space, 4, 0)[0], BASE.replace(ema=False)).ema is True
    assert "ema" not in {c.name for c in space.coordinates}


def test_a_candidate_has_architecture_recipe_and_values():
    index = sobol(MICRO, 4, 1)[3]
    candidate = MICRO.candidate(index, BASE, "x")
    assert candidate.arch == MICRO.arch(index, "x")
    assert candidate.recipe == MICRO.recipe(index, BASE)
    assert candidate.values == MICRO.values(index)


@pytest.mark.parametrize("convention", ["published", "fvcore"])
def test_costs_are_those_of_the_architectures(convention):
    index = sobol(MICRO, 4, 2)
    costs = [cost(MICRO.arch(one, "x"), 10, 1) for one in index]
    assert MICRO.cost(index).flops(convention).tolist() == [c.flops(convention) for c in costs]
    assert MICRO.figure("flops", convention, index).tolist() == [c.flops(convention) for c in costs]
    assert MICRO.figure("params", convention, index).tolist() == [c.params(convention) for c in costs]


def test_the_first_statistics_are_the_costs():
    index = sobol(MICRO, 4, 2)
    names, values = MICRO.statistics(index)
    assert names[:2] == ("flops", "params")
    assert values[:, 0].tolist() == MICRO.cost(index).flops().tolist()
    assert values[:, 1].tolist() == MICRO.cost(index).params().tolist()


def test_a_space_of_recipes_has_one_architecture():
    space = load_space("recipe_only")
    assert (space.arch_size, space.built_size) == (1, 1)
    assert space.recipe_size == load_space("table2").recipe_size
    assert not arch_mask(space).any()
    index = sample(space, 30, Constraint("flops", 800e6), seed=0)
    assert len({space.arch(one, "x") for one in index}) == 1
    assert len({space.recipe(one, BASE) for one in index}) == 30
    assert 0.95 < space.cost(index).flops()[0] / 750.7e6 < 1.05  # the FLOPs of the unverified rows that it replaces


def test_the_recipes_of_the_quickstart_for_one_network():
    space = load_space("micro_recipe")
    assert space.arch_size == 1
    assert space.coordinates == tuple(c for c in MICRO.coordinates if not c.arch)
    row = [0] * len(space.coordinates)
    assert not list(outside(MICRO, space.arch(row, "x")))  # a network of the quickstart


@pytest.mark.parametrize(("resolution", "sides"), [(28, (28,)), ("(224, 240, 8)", (224, 232, 240))])
def test_the_sides_of_the_images(tmp_path, resolution, sides):
    assert load(tmp_path, TABLE2 | {"resolution": resolution}).resolutions == sides


def test_the_base_recipe_is_read_by_its_name():
    assert MICRO.base_recipe("fashion_mnist/micro") == BASE


def test_a_space_of_networks_passes_as_such():
    assert as_networks(MICRO) is MICRO


def test_a_space_without_networks_is_refused():
    with pytest.raises(
        InputError, match="counting is a table, whose candidates are no networks; give a space of networks"
    ):
        as_networks(Counting.make())


def test_coordinates_of_a_space_of_networks_cannot_be_fixed():
    with pytest.raises(InputError, match="space micro is no table: its coordinates cannot be fixed"):
        MICRO.subspace(row(), np.ones(len(NAMES), bool))
