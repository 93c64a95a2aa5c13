"""Labels are exact: against hand counts, the closed form of every `Arch`, fvcore and hooks on built networks."""

import collections
import warnings

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from fbnetv3 import InputError, build_model
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.complexity import parts
from fbnetv3.layers import InvertedResidual
from fbnetv3.search.space.costs import Constraint, cost, statistics
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import list_spaces, load_space

TINY = {
    "schema": 1,
    "name": "tiny",
    "about": "Countable by hand.",
    "resolution": 8,
    "in_chans": 1,
    "num_classes": 3,
    "stem": {"k": 3, "c": 8, "s": 2},
    "rows": [{"k": 3, "e": "(1, 2)/(2, 3)", "c": "(12, 16, 4)", "n": "(1, 3)", "s": 2, "se": True}],
    "head": {"e": 2, "c": 32},
    "recipe": {},
}


def load(tmp_path, data):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_space(str(path))


def operators(model, example):
    """fvcore's FLOPs by operator."""
    from fvcore.nn import FlopCountAnalysis

    counter = FlopCountAnalysis(model, example).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return counter.by_operator()


def hooked(model, example):
    """Elements that convolutions and linear layers put out, and the number of blocks, by running the network."""
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
    space = load_space(name)
    index = sobol(space, log2_n, seed)[:count]
    labels = cost(space, index)
    names, rich = statistics(space, index)
    for i, row in enumerate(index):
        arch = space.arch(row, "x")
        model = build_model(arch, space.num_classes, space.in_chans).eval()
        example = torch.zeros(1, space.in_chans, arch.resolution, arch.resolution)
        flops = operators(model, example)
        assert flops["conv"] + flops["linear"] == labels.conv[i]
        assert flops["batch_norm"] == 2 * labels.norm[i]
        assert flops["adaptive_avg_pool2d"] == labels.pool[i]
        assert sum(flops.values()) == labels.flops("fvcore")[i]
        assert labels.flops("published")[i] == labels.conv[i] + labels.pool[i] + space.head[1]
        assert sum(p.numel() for p in model.parameters()) == labels.params("fvcore")[i]
        weights = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert sum(weights) == labels.params("published")[i]
        assert hooked(model, example) == tuple(rich[i, [names.index("activations"), names.index("depth")]])


@pytest.mark.parametrize(
    ("name", "count"), [("micro", 10), ("cifar", 4), ("recipe_only", 1), ("released", 2), ("table2", 2)]
)
def test_labels_equal_fvcore_and_hooks_on_built_networks(name, count):
    check_built(name, 6, 2, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*list_spaces()} - {"recipe_only"}))
def test_labels_equal_fvcore_and_hooks_on_hundreds_of_built_networks(name):
    check_built(name, 8, 3, 200)


@pytest.mark.parametrize("name", list_spaces())
def test_labels_equal_the_closed_form_of_every_arch(name):
    space = load_space(name)
    index = sobol(space, 8, 1)
    labels = cost(space, index)
    names, rich = statistics(space, index)
    for i, row in enumerate(index):
        arch = space.arch(row, "x")
        assert tuple(int(part[i]) for part in labels) == tuple(arch_cost(arch, space.num_classes, space.in_chans))
        by_part = collections.defaultdict(int)
        for part in parts(arch, space.num_classes, space.in_chans):
            key = "head" if part.name == "classifier" else part.name
            by_part[f"{key}.flops"] += part.cost.flops()
            by_part[f"{key}.params"] += part.cost.params()
        assert dict(zip(names[4:], rich[i, 4:].tolist(), strict=True)) == by_part
        assert rich[i, 3] == sum(block.n for block in arch.rows)
    assert names[:4] == ("flops", "params", "activations", "depth")
    assert np.array_equal(rich[:, 0], labels.flops())
    assert np.array_equal(rich[:, 1], labels.params())
    assert rich.dtype == np.int64
    assert all(part.dtype == np.int64 for part in labels)


def test_a_network_counted_by_hand(tmp_path):
    space = load(tmp_path, TINY)
    # e.first 2, e.rest 3, c 12 (built as 16), n 2: 8 x 8 -> stem 8 channels at 4 x 4 -> 16 channels at 2 x 2.
    names = [c.name for c in space.coordinates]
    row = np.zeros((1, len(names)), int)
    row[0, names.index("row0.e.first")] = row[0, names.index("row0.e.rest")] = row[0, names.index("row0.n")] = 1
    stem = 9 * 8 * 16
    # 8 -> 16 at 4 x 4, depthwise to 2 x 2, squeeze 16 -> 8 -> 16 (a quarter of 8 input channels, at least 8), 16 -> 16.
    first = 8 * 16 * 16 + 9 * 16 * 4 + 2 * 16 * 8 + 16 * 16 * 4
    # 16 -> 48, depthwise, squeeze 48 -> 8 -> 48, 48 -> 16, all at 2 x 2.
    second = 16 * 48 * 4 + 9 * 48 * 4 + 2 * 48 * 8 + 48 * 16 * 4
    head, classifier = 16 * 32 * 4 + 32 * 32, 32 * 3
    pools = 16 * 4 + 48 * 4 + 32 * 4
    count = cost(space, row)
    assert count.conv.tolist() == [stem + first + second + head + classifier]
    assert count.pool.tolist() == [pools]
    assert count.norm.tolist() == [8 * 16 + 16 * 16 + 2 * 16 * 4 + (2 * 48 + 16) * 4 + 32 * 4]
    squeezes, last = (8 + 16) + (8 + 48), 32 + 3
    columns, values = statistics(space, row)
    rich = dict(zip(columns, values[0].tolist(), strict=True))
    assert rich["activations"] == count.norm[0] + squeezes + last
    assert rich["depth"] == 2
    assert rich["stages.0.flops"] == first + second + 16 * 4 + 48 * 4
    assert rich["head.flops"] == head + classifier + 32 * 4 + 32
    assert rich["stem.params"] == 72
    assert len(rich) == 4 + 2 * 3


def test_one_block_has_no_others(tmp_path):
    space = load(tmp_path, TINY)
    rest = [c.name for c in space.coordinates].index("row0.e.rest")
    rows = np.zeros((2, len(space.coordinates)), int)
    rows[1, rest] = 1
    names, rich = statistics(space, rows)
    assert np.array_equal(*rich)
    assert rich[0, names.index("depth")] == 1


def test_many_rows_have_the_labels_of_each(monkeypatch):
    monkeypatch.setattr("fbnetv3.search.space.costs.CHUNK", 100)
    space = load_space("released")
    index = sobol(space, 8, 0)[:250]
    whole, (_, rich) = cost(space, index), statistics(space, index)
    for i in (0, 99, 100, 249):
        assert [int(part[i]) for part in whole] == [int(part[0]) for part in cost(space, index[i : i + 1])]
        assert np.array_equal(rich[i], statistics(space, index[i : i + 1])[1][0])
    for metric in ("flops", "params"):
        for convention in ("published", "fvcore"):
            constraint = Constraint(metric, 1e9, convention=convention)
            assert np.array_equal(constraint.values(space, index), constraint.value(whole))
    empty = index[:0]
    assert cost(space, empty).conv.shape == (0,)
    assert statistics(space, empty)[1].shape == rich[:0].shape


@pytest.mark.parametrize("name", ["table2", "released"])
def test_the_window_of_the_paper_holds_what_is_known(name):
    space = load_space(name)
    flops = Constraint("flops", 1e12).values(space, sobol(space, 16, 0))
    assert np.mean((flops >= 400e6) & (flops <= 800e6)) == pytest.approx(0.38, abs=0.02)
    assert 0.001 < np.mean(flops <= 450e6) < 0.006


def test_a_space_with_too_many_combinations_is_refused(tmp_path):
    wide = [TINY["rows"][0] | {"c": "(8, 1600, 8)", "e": "(1, 8)/(1, 8)"} for _ in range(2)]
    space = load(tmp_path, TINY | {"rows": wide, "resolution": "(32, 320, 8)"})
    with pytest.raises(InputError, match=r"resolution x row0\.c x .* combinations for one block; at most 4,194,304"):
        cost(space, sobol(space, 3, 0))
