import dataclasses
import hashlib

import numpy as np
import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.recipes import load_recipe
from fbnetv3.schema import read
from fbnetv3.search.space.costs import Constraint, cost
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.sobol import draws, sample, sobol
from fbnetv3.search.space.space import Coordinate, list_spaces, load_space

MICRO = load_space("micro")
BASE = load_recipe("fashion_mnist/micro")

# The paper's Table 2, word for word, with its recipe line in the units that make probabilities of it.
TABLE2 = {
    "schema": 1,
    "name": "t2",
    "about": "Table 2",
    "resolution": "(224, 272, 8)",
    "in_chans": 3,
    "num_classes": 1000,
    "stem": {"k": 3, "c": "(16, 24, 2)", "s": 2},
    "rows": [
        {"k": [3, 5], "e": 1, "c": "(16, 24, 2)", "n": "(1, 4)", "s": 1, "se": False},
        {"k": [3, 5], "e": "(4, 7)/(2, 5)", "c": "(20, 32, 4)", "n": "(4, 7)", "s": 2, "se": False},
        {"k": [3, 5], "e": "(4, 7)/(2, 5)", "c": "(24, 48, 4)", "n": "(4, 7)", "s": 2, "se": True},
        {"k": [3, 5], "e": "(4, 7)^1/(2, 5)^2", "c": "(56, 84, 4)", "n": "(4, 8)", "s": 2, "se": False},
        {"k": [3, 5], "e": "(4, 7)^1/(2, 5)^2", "c": "(96, 144, 4)", "n": "(6, 10)", "s": 1, "se": True},
        {"k": [3, 5], "e": "(4, 7)", "c": "(180, 224, 4)", "n": "(5, 9)", "s": 2, "se": True},
        {"k": [3, 5], "e": 6, "c": "(180, 224, 4)", "n": 1, "s": 1, "se": True},
    ],
    "head": {"e": 6, "c": 1984},
    "recipe": {
        "lr": "(20, 30)e-3",
        "optimizer": ["rmsprop", "sgd"],
        "ema": [True, False],
        "dropout": "(1, 31)e-2",
        "stochastic_depth": "(10, 31)e-2",
        "mixup": "(0, 41)e-2",
        "weight_decay": "(7, 21)e-6",
    },
    "sgd_lr_factor": 4,
}


def load(tmp_path, data):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_space(str(path))


def test_the_grammar_reads_table_2_to_the_papers_sizes(tmp_path):
    space = load(tmp_path, TABLE2)
    packaged = load_space("table2")
    assert set(packaged.coordinates) == set(space.coordinates)  # their order is that of the file
    assert (packaged.rows, packaged.head) == (space.rows, space.head)
    assert space.arch_size / 7 == pytest.approx(1.76e17, rel=0.005)  # the paper's 10^17, resolution (7 values) apart
    assert space.arch_size == pytest.approx(1.23e18, rel=0.005)
    assert space.recipe_size == pytest.approx(1.89e7, rel=0.005)  # 10^7
    assert space.arch_size / space.built_size == 260  # what rounding of widths leaves out
    by_name = {c.name: c for c in space.coordinates}
    assert by_name["lr"].values[0] == 0.02
    assert by_name["lr"].values[-1] == 0.03
    assert by_name["row3.c"].nominal == (56, 60, 64, 68, 72, 76, 80, 84)
    assert by_name["row3.c"].values == (56, 64, 64, 72, 72, 80, 80, 88)  # as built
    index = sample(space, 50, Constraint("flops", 800e6, 400e6), seed=0)
    for row, flops in zip(index[:10], cost(space, index).flops()[:10], strict=True):
        assert arch_cost(space.arch(row, "x")).flops() == flops
        assert 400e6 <= flops <= 800e6


def test_the_default_space_differs_from_table_2_where_the_released_networks_do():
    table2, released = ({c.name: c.nominal for c in load_space(name).coordinates} for name in ("table2", "released"))
    alike = table2.keys() & released.keys()
    assert {name for name in alike if table2[name] != released[name]} == {"row6.c"}
    assert released["row6.c"] == (*table2["row6.c"], 228, 232, 236, 240)
    split = {"row1.k", "row2.k", "row3.k", "row4.k", "row5.k", "row5.e"}
    assert table2.keys() - alike == {*split, "ema"}
    assert released.keys() - alike == {f"{name}.{part}" for name in split for part in ("first", "rest")}
    assert all(released[f"{name}.{part}"] == table2[name] for name in split for part in ("first", "rest"))


def test_a_fixed_recipe_value_is_every_pairs(tmp_path):
    space = load_space("released")
    row = sobol(space, 4, 0)[0]
    assert space.recipe(row, BASE.replace(ema=False)).ema is True
    assert "ema" not in {c.name for c in space.coordinates}
    space = load(tmp_path, TABLE2 | {"recipe": {"optimizer": "sgd", "lr": "(2, 3)e-2"}})
    assert space.recipe_size == 2
    first = [0] * len(space.coordinates)
    assert space.recipe(first, BASE).optimizer == "sgd"
    assert space.recipe(first, BASE).lr == pytest.approx(0.08)  # four times, since the space fixes SGD


def test_a_space_of_recipes_has_one_architecture():
    space = load_space("recipe_only")
    assert (space.arch_size, space.built_size) == (1, 1)
    assert space.recipe_size == load_space("table2").recipe_size
    assert not arch_mask(space).any()
    index = sample(space, 30, Constraint("flops", 800e6), seed=0)
    assert len({space.arch(row, "x") for row in index}) == 1
    assert len({space.recipe(row, BASE) for row in index}) == 30
    assert 0.95 < cost(space, index).flops()[0] / 750.7e6 < 1.05  # the unverified rows that it stands for


def test_shared_values_are_one_coordinate():
    names = [c.name for c in MICRO.coordinates]
    assert names.count("e.first^1") == names.count("e.rest^2") == 1
    row = sobol(MICRO, 6, 0)[0]
    row[names.index("row2.n")] = row[names.index("row3.n")] = 1
    stage = MICRO.arch(row, "x").stages[2]
    assert stage[0].e == stage[2].e
    assert stage[1].e == stage[3].e


def test_recipes_of_a_space():
    names = [c.name for c in MICRO.coordinates]
    row = np.zeros(len(names), int)
    assert MICRO.recipe(row, BASE).optimizer == "rmsprop"
    assert MICRO.recipe(row, BASE).lr == 0.001
    row[names.index("optimizer")] = 1
    assert MICRO.recipe(row, BASE).lr == pytest.approx(0.02)  # times the factor for SGD (Table 2, caption)
    assert MICRO.recipe(row, BASE).epochs == BASE.epochs


def test_index_rows_out_of_range_are_refused():
    with pytest.raises(InputError, match="is no index row"):
        MICRO.arch([9] * len(MICRO.coordinates), "x")
    with pytest.raises(InputError, match="is no index row"):
        MICRO.arch([0], "x")


def test_rounded_widths_make_equal_rows_equal(tmp_path):
    space = load(tmp_path, TABLE2)
    column = [c.name for c in space.coordinates].index("row3.c")
    rows = np.zeros((8, len(space.coordinates)), int)
    rows[:, column] = np.arange(8)
    canonical = space.canonical(rows)
    assert canonical[:, column].tolist() == [0, 1, 1, 3, 3, 5, 5, 7]
    assert np.array_equal(encode(space, rows), encode(space, canonical))


def test_distinct_rows_are_the_first_of_their_kind():
    rows = np.array([[1, 2], [0, 1], [1, 2], [0, 1], [0, 0]])
    rows = np.concatenate([rows, np.zeros((5, len(MICRO.coordinates) - 2), int)], axis=1)
    assert MICRO.distinct(rows).tolist() == [0, 1, 4]
    assert MICRO.distinct(rows[:0]).tolist() == []


def test_no_digit_is_lost_in_a_space_of_many_coordinates():
    values = tuple(range(1, 9))
    wide = dataclasses.replace(
        MICRO, coordinates=tuple(Coordinate(str(i), values, True, True, values) for i in range(50))
    )
    rows = np.concatenate([digit * np.eye(50, dtype=int) for digit in range(1, 8)])
    assert wide.distinct(np.concatenate([rows, rows])).tolist() == list(range(350))


@pytest.mark.parametrize("name", list_spaces())
def test_distinct_rows_are_numpys(name):
    space = load_space(name)
    index = np.concatenate([space.canonical(sobol(space, 8, seed)) for seed in (0, 1, 0)])
    index[300:310, 0] = 0
    index[310:320] = index[300:310]
    index[320:330, -1] = (index[300:310, -1] + 1) % space.sizes[-1]  # the last digit alone differs
    index[320:330, :-1] = index[300:310, :-1]
    _, first = np.unique(index, axis=0, return_index=True)
    assert space.distinct(index).tolist() == sorted(first)


def test_pieces_of_a_sequence_are_the_whole_one():
    from scipy.stats import qmc

    for log2_n, n in ((4, 11), (14, 2**14), (15, 20_000)):
        pieces = np.concatenate(list(draws(MICRO, n, 5)))
        whole = qmc.Sobol(len(MICRO.sizes), scramble=True, rng=np.random.default_rng(5)).random_base2(log2_n)[:n]
        assert np.array_equal(pieces, np.floor(whole * MICRO.sizes))


def test_samples_are_the_first_different_ones_of_the_sequence():
    space, window = load_space("table2"), Constraint("flops", 800e6, 400e6)
    drawn = space.canonical(sobol(space, 15, 4))
    drawn = drawn[window.allows(cost(space, drawn))]
    _, first = np.unique(drawn, axis=0, return_index=True)
    assert np.array_equal(sample(space, 10_000, window, seed=4), drawn[np.sort(first)[:10_000]])


def test_samples_of_a_small_space_are_each_pair_once(tmp_path):
    rows = [{"k": 3, "e": "(1, 2)", "c": "(8, 32, 4)", "n": 1, "s": 2, "se": False}]
    small = load(tmp_path, TABLE2 | {"rows": rows, "resolution": 32, "stem": {"k": 3, "c": 16, "s": 2}, "recipe": {}})
    assert (small.arch_size, small.built_size) == (14, 8)  # 8 16 16 24 24 32 32 as built
    everything = sample(small, 8, Constraint("flops", 1e12), seed=0)
    assert len({small.arch(row, "x") for row in everything}) == 8
    with pytest.raises(InputError, match="only 8 of 1,048,576 samples"):
        sample(small, 9, Constraint("flops", 1e12), seed=0)


# What the version before the look-up tables drew, labelled and encoded.
FINGERPRINT = "58c58b6b5bca792e"


def test_seeded_samples_labels_and_encodings_do_not_change():
    digest = hashlib.sha256()
    for seed in range(2):
        for n, constraint in (
            (10, Constraint("flops", 4e5, 1.5e5)),
            (500, Constraint("flops", 1e6, 5e5)),
            (40, Constraint("params", 6e4)),
            (300, Constraint("flops", 5e5, convention="fvcore")),
        ):
            index = sample(MICRO, n, constraint, seed)
            for part in (index, *cost(MICRO, index), encode(MICRO, index)):
                digest.update(np.ascontiguousarray(part).tobytes())
    assert digest.hexdigest()[:16] == FINGERPRINT


def test_samples_are_different_inside_and_reproducible():
    window = Constraint("flops", 1.0e6, 0.5e6)
    index = sample(MICRO, 500, window, seed=3)
    assert len(np.unique(index, axis=0)) == 500
    flops = cost(MICRO, index).flops()
    assert flops.min() >= 0.5e6
    assert flops.max() <= 1.0e6
    assert np.array_equal(index, sample(MICRO, 500, window, seed=3))
    assert not np.array_equal(index, sample(MICRO, 500, window, seed=4))


def test_sobol_covers_every_value_equally():
    index = sobol(MICRO, 12, 0)
    for column, size in zip(index.T, MICRO.sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        assert counts.min() > 0.9 * len(index) / size
        assert counts.max() < 1.1 * len(index) / size


def test_an_infeasible_budget_says_what_there_is():
    with pytest.raises(
        InputError,
        match=r"flops \(published convention\) from 0 to 1000, 10 are needed; the samples have \d{3},\d{3} to 2,\d{3},\d{3}:",
    ):
        sample(MICRO, 10, Constraint("flops", 1000), seed=0)


def test_constraints():
    index = sobol(MICRO, 6, 0)
    costs = cost(MICRO, index)
    assert np.array_equal(Constraint("params", 6e4).allows(costs), costs.weights <= 6e4)
    published, fvcore = (Constraint("flops", 1e9, convention=c).value(costs) for c in ("published", "fvcore"))
    assert (fvcore - published == 2 * costs.norm - costs.noop_pool).all()
    for bad, words in (
        ({"metric": "speed"}, "metric is 'speed'; .*'flops' or 'params'"),
        ({"convention": "mine"}, "convention is 'mine'; .*'published' or 'fvcore'"),
        ({"min": 2.0}, "here: flops from 2 to 1 is no window"),
        ({"max": "450M"}, "max is '450M'"),
    ):
        with pytest.raises(InputError, match=words):
            read(Constraint, {"metric": "flops", "max": 1.0} | bad, "here")


def test_encoding_by_hand():
    index = np.zeros((2, len(MICRO.coordinates)), int)
    index[1] = MICRO.sizes - 1
    x = encode(MICRO, index)
    names, position = [c.name for c in MICRO.coordinates], 0
    for name, coordinate in zip(names, MICRO.coordinates, strict=True):
        width = 1 if coordinate.ordered else len(coordinate.values)
        part = x[:, position : position + width]
        expected = [[0], [1]] if coordinate.ordered else [[1, 0], [0, 1]]
        assert part.tolist() == expected, name
        position += width
    assert position == x.shape[1] == len(arch_mask(MICRO))
    assert arch_mask(MICRO).sum() == 21


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"schema": 3}, "schema is 3"),
        ({"resolution": "(224, 272, 7)"}, "whole number of steps"),
        ({"resolution": "big"}, "give .*low, high, step"),
        ({"resolution": 2.5}, "resolution is 2.5"),
        ({"rows": []}, "give a list of rows"),
        ({"rows": [{"k": 3}]}, r"rows\[0\]: missing key 'e'"),
        ({"rows": [TABLE2["rows"][0] | {"se": "yes"}]}, "se is 'yes'"),
        ({"rows": [TABLE2["rows"][0] | {"k": [3, 3]}]}, "give different values"),
        ({"rows": [TABLE2["rows"][0] | {"k": [3, "five"]}]}, "each must be a whole number from 1 to 100,000"),
        (
            {"rows": [TABLE2["rows"][0] | {"e": "(1, 2)^a"}, TABLE2["rows"][1] | {"e": "(1, 3)^a"}]},
            r"e\^a is '\(1, 3\)\^a'; an earlier row shares it as \[1, 2\]",
        ),
        ({"recipe": {"speed": [1, 2]}}, "recipe has 'speed'; searchable: lr"),
        ({"recipe": {"ema": "always"}}, "ema is 'always'"),
        ({"recipe": {"ema": [1, 2]}}, "ema is 1"),
        ({"recipe": {"optimizer": ["adam"]}}, "optimizer is 'adam'; .*'rmsprop'"),
        ({"recipe": {"dropout": "(50, 150, 50)e-2"}}, "dropout is 1.0; .*less than 1"),
        ({"recipe": {"lr": [[0.1], [0.2]]}}, "give different values"),
        ({"recipe": {"lr": {"low": 1}}}, "lr is {'low': 1}"),
        ({"recipe": {"lr": "1e-5"}}, "lr is '1e-5'; give '"),
        ({"name": 7}, "name is 7; give a text"),
        ({"in_chans": 0}, "in_chans is 0; give a whole number from 1"),
        ({"sgd_lr_factor": 0}, "sgd_lr_factor is 0; give a number above 0"),
        ({"stem": {"k": 4, "c": 16, "s": 2}}, r"stem.k is \[4\]; give odd kernels"),
        ({"stem": {"k": 3, "c": 16, "s": 0}}, "stem.s is 0; give a whole number from 1"),
        ({"head": {"e": "(1, 6)", "c": 1984}}, r"head.e is '\(1, 6\)'; give a whole number"),
        ({"rows": [TABLE2["rows"][0] | {"k": "[3, 5]/[4, 5]"}]}, r"row0.k is \[4, 5\]; give odd kernels"),
        ({"rows": [TABLE2["rows"][0] | {"s": 0}]}, "row0.s is 0"),
        ({"rows": [TABLE2["rows"][0] | {"n": 0}]}, "row0.n is 0; give a whole number from 1"),
        ({"rows": [TABLE2["rows"][0] | {"e": "3^1"}]}, "row0.e is '3.1'; a fixed value is the same everywhere"),
        ({"rows": [TABLE2["rows"][0] | {"c": "(8, 900000)"}]}, "899,993 values; at most 10,000"),
        ({"rows": [TABLE2["rows"][0] | {"c": 100_001}]}, "row0.c is 100001; give a whole number from 1 to 100,000"),
        ({"rows": [TABLE2["rows"][0] | {"n": "[1, 100001]"}]}, "each must be a whole number from 1 to 100,000"),
        ({"head": {"e": 6, "c": 10**30}}, "head.c is 10+; give a whole number from 1 to 100,000"),
        ({"rows": [TABLE2["rows"][0] | {"c": "(1.2.3, 4)"}]}, r"row0.c is '\(1.2.3, 4\)'; give"),
        ({"recipe": None}, "recipe is None"),
    ],
)
def test_spaces_are_read_strictly(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, TABLE2 | change)


def test_unknown_space_names_the_choices():
    with pytest.raises(
        InputError, match="unknown search space 'nano'; available: cifar, micro, recipe_only, released, table2, or"
    ):
        load_space("nano")
