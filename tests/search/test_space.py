import numpy as np
import pytest
import torch
import yaml

from fbnetv3 import InputError, build_model
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.recipes import load_recipe
from fbnetv3.schema import read
from fbnetv3.search.encoding import arch_mask, encode
from fbnetv3.search.labels import Constraint, cost
from fbnetv3.search.sampling import sample, sobol
from fbnetv3.search.space import list_spaces, load_space

MICRO = load_space("micro")
BASE = load_recipe("fashion_mnist/micro")

# The paper's Table 2, word for word, with its recipe line in the units that make probabilities of it.
TABLE2 = {
    "schema": 1, "name": "t2", "about": "Table 2", "resolution": "(224, 272, 8)", "in_chans": 3, "num_classes": 1000,
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
        "lr": "(20, 30)e-3", "optimizer": ["rmsprop", "sgd"], "ema": [True, False], "dropout": "(1, 31)e-2",
        "stochastic_depth": "(10, 31)e-2", "mixup": "(0, 41)e-2", "weight_decay": "(7, 21)e-6",
    },
    "sgd_lr_factor": 4,
}  # fmt: skip


def load(tmp_path, data):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_space(str(path))


def test_the_grammar_reads_table_2_to_the_papers_sizes(tmp_path):
    space = load(tmp_path, TABLE2)
    assert space.arch_size / 7 == pytest.approx(1.76e17, rel=0.005)  # the paper's 10^17, resolution (7 values) apart
    assert space.recipe_size == pytest.approx(1.89e7, rel=0.005)  # 10^7
    by_name = {c.name: c for c in space.coordinates}
    assert by_name["lr"].values[0] == 0.02
    assert by_name["lr"].values[-1] == 0.03
    assert by_name["row3.c"].values == (56, 64, 64, 72, 72, 80, 80, 88)  # 56..84 by 4, as built
    index = sample(space, 50, Constraint("flops", 800e6, 400e6), seed=0)
    for row, flops in zip(index[:10], cost(space, index).flops()[:10], strict=True):
        assert arch_cost(space.arch(row, "x")).flops() == flops
        assert 400e6 <= flops <= 800e6


def test_shared_values_are_one_coordinate():
    names = [c.name for c in MICRO.coordinates]
    assert names.count("e.first^1") == names.count("e.rest^2") == 1
    row = sobol(MICRO, 6, 0)[0]
    row[names.index("row2.n")] = row[names.index("row3.n")] = 1
    stage = MICRO.arch(row, "x").stages[2]
    assert stage[0].e == stage[2].e
    assert stage[1].e == stage[3].e


@pytest.mark.parametrize("name", list_spaces())
def test_labels_equal_the_closed_form_of_every_arch(name):
    space = load_space(name)
    index = sobol(space, 8, 1)
    labels = cost(space, index)
    for i, row in enumerate(index):
        expected = arch_cost(space.arch(row, "x"), space.num_classes, space.in_chans)
        assert tuple(int(part[i]) for part in labels) == tuple(expected)
    assert all(part.dtype == np.int64 for part in labels)


def test_labels_equal_fvcore_on_built_networks():
    from fvcore.nn import FlopCountAnalysis

    index = sobol(MICRO, 4, 2)
    labels = cost(MICRO, index)
    for i, row in enumerate(index):
        model = build_model(MICRO.arch(row, "x"), 10, 1).eval()
        counter = FlopCountAnalysis(model, torch.zeros(1, 1, 28, 28))
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert counter.total() == labels.flops("fvcore")[i]
        assert sum(p.numel() for p in model.parameters()) == labels.params("fvcore")[i]


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
        ({"rows": [TABLE2["rows"][0] | {"k": [3, "five"]}]}, "give whole numbers"),
        ({"rows": [TABLE2["rows"][0] | {"e": "(1, 2)^a"}, TABLE2["rows"][1] | {"e": "(1, 3)^a"}]}, "but they differ"),
        ({"recipe": {"speed": [1, 2]}}, "recipe has 'speed'; searchable: lr"),
        ({"recipe": {"ema": True}}, "fixed values belong to the base recipe"),
        ({"recipe": None}, "recipe is None"),
    ],
)
def test_spaces_are_read_strictly(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, TABLE2 | change)


def test_unknown_space_names_the_choices():
    with pytest.raises(InputError, match="unknown search space 'nano'; available: micro"):
        load_space("nano")
