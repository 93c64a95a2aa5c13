"""Costs are exact: against hand counts, the closed form of every `Arch`, fvcore, and hooks on built networks."""

import collections
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.complexity import parts
from fbnetv3.layers import InvertedResidual
from fbnetv3.search.space.constraints import Constraint
from fbnetv3.search.space.costs import cost_tables, statistics
from fbnetv3.search.space.reader import ANY_DATA, list_spaces, load_space
from fbnetv3.search.space.sobol import sobol
from tests.search.spaces import TINY, Counting, load


def operators(model, example):
    """fvcore's FLOPs by operator."""
    from fvcore.nn import FlopCountAnalysis

    counter = FlopCountAnalysis(model, example).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return counter.by_operator()


def hooked(model, example):
    """The number of elements that convolutions and linear layers put out, and of blocks, when the network runs."""
    outputs, blocks = [], []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, i, o: outputs.append(o.numel()))
        if isinstance(module, InvertedResidual):
            module.register_forward_hook(lambda m, i, o: blocks.append(1))
    with torch.no_grad():
        model(example)
    return sum(outputs), len(blocks)


def check_built(name, log2_n, seed, count):
    space = load_space(name, ANY_DATA)
    index = sobol(space, log2_n, seed)[:count]
    costs = space.cost(index)
    names, values = space.statistics(index)
    for i, row in enumerate(index):
        arch = space.arch(row, "x")
        model = build_model(arch, space.num_classes, space.in_chans).eval()
        example = torch.zeros(1, space.in_chans, arch.resolution, arch.resolution)
        flops = operators(model, example)
        assert flops["conv"] + flops["linear"] == costs.conv[i]
        assert flops["batch_norm"] == 2 * costs.norm[i]
        assert flops["adaptive_avg_pool2d"] == costs.pool[i]
        assert sum(flops.values()) == costs.flops("fvcore")[i]
        assert costs.flops("published")[i] == costs.conv[i] + costs.pool[i] + space.layout.head[1]
        assert sum(p.numel() for p in model.parameters()) == costs.params("fvcore")[i]
        weights = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert sum(weights) == costs.params("published")[i]
        assert hooked(model, example) == tuple(values[i, [names.index("activations"), names.index("depth")]])


@pytest.mark.parametrize(
    ("name", "count"), [("micro", 6), ("cifar", 2), ("recipe_only", 1), ("released", 1), ("table2", 1)]
)
def test_costs_equal_fvcore_and_hooks_on_built_networks(name, count):
    check_built(name, 6, 2, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*list_spaces()} - {"recipe_only"}))
def test_costs_equal_fvcore_and_hooks_on_many_built_networks(name):
    check_built(name, 6, 3, 60)


@pytest.mark.parametrize("name", list_spaces())
def test_costs_and_statistics_equal_the_closed_form_of_every_architecture(name):
    space = load_space(name, ANY_DATA)
    index = sobol(space, 7, 1)
    costs = space.cost(index)
    names, values = space.statistics(index)
    for i, row in enumerate(index):
        arch = space.arch(row, "x")
        assert tuple(int(part[i]) for part in costs) == tuple(arch_cost(arch, space.num_classes, space.in_chans))
        by_part = collections.defaultdict(int)
        for part in parts(arch, space.num_classes, space.in_chans):
            key = "head" if part.name == "classifier" else part.name
            by_part[f"{key}.flops"] += part.cost.flops()
            by_part[f"{key}.params"] += part.cost.params()
        assert dict(zip(names[4:], values[i, 4:].tolist(), strict=True)) == by_part
        assert values[i, 3] == sum(block.n for block in arch.rows)
    assert names[:4] == ("flops", "params", "activations", "depth")
    assert np.array_equal(values[:, 0], costs.flops())
    assert np.array_equal(values[:, 1], costs.params())


def test_counts_are_64_bit_integers():
    space = load_space("released")
    index = sobol(space, 3, 1)
    assert space.statistics(index)[1].dtype == np.int64
    assert all(part.dtype == np.int64 for part in space.cost(index))


@pytest.fixture
def counted(tmp_path):
    """The space `tiny`, and its row of two blocks with expansions 2 and 3 and width 12, which is built as 16."""
    space = load(tmp_path, TINY)
    return space, np.array([[1, 1, 0, 1]])


# The image of 8 x 8 becomes 8 channels at 4 x 4 in the stem and 16 channels at 2 x 2 in the first block.
STEM = 9 * 8 * 16
# 8 -> 16 at 4 x 4, depthwise to 2 x 2, squeeze 16 -> 8 -> 16 (a quarter of 8 input channels, at least 8), 16 -> 16.
FIRST = 8 * 16 * 16 + 9 * 16 * 4 + 2 * 16 * 8 + 16 * 16 * 4
# 16 -> 48, depthwise, squeeze 48 -> 8 -> 48, 48 -> 16, all at 2 x 2.
SECOND = 16 * 48 * 4 + 9 * 48 * 4 + 2 * 48 * 8 + 48 * 16 * 4
HEAD, CLASSIFIER = 16 * 32 * 4 + 32 * 32, 32 * 3


def test_multiply_adds_pools_and_norms_by_hand(counted):
    space, row = counted
    count = space.cost(row)
    assert count.conv.tolist() == [STEM + FIRST + SECOND + HEAD + CLASSIFIER]
    assert count.pool.tolist() == [16 * 4 + 48 * 4 + 32 * 4]
    assert count.norm.tolist() == [8 * 16 + 16 * 16 + 2 * 16 * 4 + (2 * 48 + 16) * 4 + 32 * 4]


def test_statistics_by_hand(counted):
    space, row = counted
    columns, values = space.statistics(row)
    found = dict(zip(columns, values[0].tolist(), strict=True))
    squeezes, last = (8 + 16) + (8 + 48), 32 + 3
    assert found["activations"] == space.cost(row).norm[0] + squeezes + last
    assert found["depth"] == 2
    assert found["stages.0.flops"] == FIRST + SECOND + 16 * 4 + 48 * 4
    assert found["head.flops"] == HEAD + CLASSIFIER + 32 * 4 + 32
    assert found["stem.params"] == 72
    assert len(found) == 4 + 2 * 3


def test_further_blocks_cost_nothing_where_there_are_none(tmp_path):
    space = load(tmp_path, TINY)
    rest = [c.name for c in space.coordinates].index("row0.e.rest")
    rows = np.zeros((2, len(space.coordinates)), int)
    rows[1, rest] = 1
    names, values = space.statistics(rows)
    assert np.array_equal(*values)
    assert values[0, names.index("depth")] == 1


def test_many_rows_have_the_costs_of_each(monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.costs.CHUNK", 100)
    space = load_space("released")
    index = sobol(space, 8, 0)[:250]
    together, (_, values) = space.cost(index), space.statistics(index)
    for i in (0, 99, 100, 249):
        assert [int(part[i]) for part in together] == [int(part[0]) for part in space.cost(index[i : i + 1])]
        assert np.array_equal(values[i], space.statistics(index[i : i + 1])[1][0])


@pytest.mark.parametrize("convention", ["published", "fvcore"])
@pytest.mark.parametrize("metric", ["flops", "params"])
def test_a_figure_is_the_one_of_the_complete_cost(metric, convention):
    space = load_space("released")
    index = sobol(space, 8, 0)
    values = Constraint(metric, 1e9, convention=convention).values(space, index)
    assert np.array_equal(values, getattr(space.cost(index), metric)(convention))


def test_no_rows_have_no_costs():
    space = load_space("released")
    index = sobol(space, 1, 0)
    assert space.cost(index[:0]).conv.shape == (0,)
    assert space.statistics(index[:0])[1].shape == (0, space.statistics(index)[1].shape[1])
    assert space.figure("flops", "published", index[:0]).shape == (0,)


def test_equal_spaces_share_their_tables():
    first, second = load_space("micro"), load_space("micro")
    assert first is not second
    assert first._costs is second._costs


def test_other_classes_have_other_tables():
    space = load_space("micro")
    ten, twenty = (cost_tables("micro", space.layout, space.coordinates, 1, classes) for classes in (10, 20))
    index = sobol(space, 2, 0)
    assert (twenty.cost(index).conv - ten.cost(index).conv).tolist() == [10 * 64] * 4


def test_statistics_are_asked_of_the_space():
    index = np.array([[1, 2, 0]])
    names, values = statistics(Counting.make(), index)
    assert (names, values.tolist()) == (("flops", "params"), [[12, 2]])


@pytest.mark.parametrize("name", ["table2", "released"])
def test_the_window_of_the_paper_has_a_known_share_of_a_space(name):
    space = load_space(name, ANY_DATA)
    flops = Constraint("flops", 1e12).values(space, sobol(space, 16, 0))
    assert np.mean((flops >= 400e6) & (flops <= 800e6)) == pytest.approx(0.38, abs=0.02)
    assert 0.001 < np.mean(flops <= 450e6) < 0.006


def test_a_space_with_too_many_combinations_is_refused(tmp_path):
    wide = [TINY["rows"][0] | {"c": "(8, 1600, 8)", "e": "(1, 8)/(1, 8)"} for _ in range(2)]
    space = load(tmp_path, TINY | {"rows": wide, "resolution": "(32, 320, 8)"})
    with pytest.raises(InputError, match=r"resolution x row0\.c x .* combinations for one block; at most 4,194,304"):
        space.cost(sobol(space, 3, 0))
