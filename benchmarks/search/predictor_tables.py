"""Tables of accuracies that the predictor is measured on: real trainings, and invented tables that look like them.

The statistics of an invented table are exact, and its accuracies are made up. They saturate in size: random weights say how
much the FLOPs and the parameters of every stage count. Kernels, squeeze-and-excitation and every other choice have random
effects, which interact, and there is noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fbnetv3.complexity import Cost, classifier, conv_norm, conv_side, inverted_residual, pool_head
from fbnetv3.search.space.encoding import arch_mask, encode
from fbnetv3.search.space.table_file import read_table

Floats = npt.NDArray[np.floating[Any]]
Choices = dict[str, npt.NDArray[np.int64]]
POOL = 20_000


@dataclass(frozen=True, eq=False)
class AccuracyTable:
    """Candidates with known accuracies.

    Attributes:
        name: name of the table.
        x: encoded candidates [n, d].
        arch_columns: which columns of `x` describe the architecture [d].
        labels: free statistics [n, k].
        y: accuracies in percent [n].
    """

    name: str
    x: Floats
    arch_columns: npt.NDArray[np.bool_]
    labels: Floats
    y: Floats


@dataclass(frozen=True)
class Geometry:
    """The space of an invented table: rows of inverted residuals, as in mobile networks.

    Attributes:
        resolutions: sides of the image in pixels.
        stem: channels of the stem.
        rows: the widths to choose from, and the stride, of every row.
        expansions: expansions to choose from, in every row.
        depths: numbers of blocks to choose from, in every row.
        head: channels of the head.
        one_hot: whether expansions are encoded one-hot; otherwise min-max.
    """

    resolutions: tuple[int, ...]
    stem: int
    rows: tuple[tuple[tuple[int, ...], int], ...]
    expansions: tuple[int, ...]
    depths: tuple[int, ...]
    head: int
    one_hot: bool


# Shaped like two common spaces of mobile networks: MnasNet's, and an FBNet's with widths and resolutions to choose from.
GEOMETRIES = {
    "mnasnet": Geometry(
        (224,),
        32,
        (((16,), 1), ((24,), 2), ((40,), 2), ((80,), 2), ((96,), 1), ((192,), 2), ((320,), 1)),
        (1, 4, 6),
        (1, 2, 3),
        1280,
        True,
    ),
    "fbnet": Geometry(
        (224, 240, 256),
        16,
        (
            ((16, 24), 1),
            ((24, 32), 2),
            ((32, 40, 48), 2),
            ((64, 72, 80, 88), 2),
            ((104, 112, 120, 128), 1),
            ((176, 184, 192, 200), 2),
        ),
        (2, 3, 4, 5, 6),
        (1, 2, 3, 4),
        1984,
        False,
    ),
}


def nas_bench_macro(path: str | Path) -> AccuracyTable:
    """Return the 6,561 networks of NAS-Bench-Macro (https://github.com/xiusu/NAS-Bench-Macro), trained on CIFAR-10.

    Raises:
        InputError: the file does not exist, or is no table of NAS-Bench-Macro.
    """
    space = read_table(Path(path))
    index, x = space.table, encode(space, space.table)
    return AccuracyTable("nas_bench_macro", x, arch_mask(space), space.statistics(index)[1], space.accuracy(index))


def fashion_mnist() -> AccuracyTable:
    """Return the package's table of trainings, with all statistics and the validation accuracy of one training of each pair."""
    space = read_table(Path("fashion_mnist"))
    labels = space.statistics(space.table)[1]
    return AccuracyTable("fashion_mnist", encode(space, space.table), arch_mask(space), labels, space.final[:, 0])


def invented(geometry: str, draw: int, *, rich: bool, n: int = POOL) -> AccuracyTable:
    """Return an invented table.

    Args:
        geometry: name of a geometry, which alone determines architectures and statistics.
        draw: seed of the accuracies.
        rich: with all statistics; otherwise with FLOPs and parameters alone.
        n: number of architectures.
    """
    shape = GEOMETRIES[geometry]
    # The length of the name is the seed of a geometry. Two geometries have two lengths, and the draws do not change it.
    chosen = _choose(shape, n, np.random.default_rng(len(geometry)))
    costs = _costs(shape, chosen)
    total = np.stack([costs["flops"].sum(1), costs["params"].sum(1)], axis=1)
    rest = np.column_stack([costs["activations"].sum(1), _depth(shape, chosen), costs["flops"], costs["params"]])
    labels = np.column_stack([total, rest]) if rich else total
    x = _encode(shape, chosen)
    y = _accuracy(shape, chosen, costs, np.random.default_rng([draw, len(geometry)]))
    name = f"{geometry}_{draw}" + ("_rich" if rich else "")
    return AccuracyTable(name, x, np.ones(x.shape[1], bool), labels, y)


def useless(table: AccuracyTable) -> AccuracyTable:
    """Return the table with the statistics of other architectures, which say nothing about the accuracies."""
    # The first half of the encoding decides which other statistics a row gets. So the proxy head can learn them, as it can
    # learn real ones: a random shuffle would already fail there.
    half = table.x.shape[1] // 2
    weights = np.random.default_rng(1).normal(size=(half, table.labels.shape[1]))
    hashed = np.sin(7.0 * table.x[:, :half] @ weights)
    labels = np.sort(table.labels, axis=0)[hashed.argsort(0).argsort(0), np.arange(table.labels.shape[1])]
    return replace(table, name=f"{table.name}_useless", labels=labels)


def _choose(shape: Geometry, n: int, rng: np.random.Generator) -> Choices:
    """Return random values of every choice [n], by the name of the choice and the number of its row."""
    chosen = {"resolution": rng.choice(shape.resolutions, n)}
    for i, (widths, _) in enumerate(shape.rows):
        chosen[f"c{i}"] = rng.choice(widths, n)
        chosen[f"e{i}"] = rng.choice(shape.expansions, n)
        chosen[f"k{i}"] = rng.choice((3, 5), n)
        chosen[f"n{i}"] = rng.choice(shape.depths, n)
        chosen[f"se{i}"] = rng.choice((0, 1), n)
    return chosen


def _depth(shape: Geometry, chosen: Choices) -> Floats:
    """Return the number of blocks of every architecture [n]."""
    return np.asarray(np.sum([chosen[f"n{i}"] for i in range(len(shape.rows))], axis=0), float)


def _costs(shape: Geometry, chosen: Choices) -> dict[str, Floats]:
    """Return FLOPs, params and activations of the stem with the head, and of every row, each [n, 1 + rows]."""
    side, cin = conv_side(chosen["resolution"], 3, 2, 1), np.full(len(chosen["resolution"]), shape.stem)
    stem, costs = conv_norm(3, cin, 3, side * side, bias=True), []
    for i, (_, stride) in enumerate(shape.rows):
        c, e, k, n, se = (chosen[f"{name}{i}"] for name in ("c", "e", "k", "n", "se"))
        # Costs are counted for whole columns: once as if all rows had squeeze-and-excitation, once as if none had.
        with_se = []
        for flag in (False, True):
            first, out = inverted_residual(cin, c, k, e, stride, side, se=flag)
            # Only the first block of a row changes channels and resolution.
            with_se.append(first + inverted_residual(c, c, k, e, 1, out, se=flag)[0].times(n - 1))
        costs.append(Cost(*(np.where(se == 1, b, a) for a, b in zip(*with_se, strict=True))))
        side, cin = out, c
    ends = stem + pool_head(cin, shape.head, 6, side) + classifier(shape.head, 1000)
    parts = [ends, *costs]
    return {
        "flops": np.stack([part.flops() for part in parts], 1).astype(float),
        "params": np.stack([part.params() for part in parts], 1).astype(float),
        "activations": np.stack([part.norm for part in parts], 1).astype(float),
    }


def _encode(shape: Geometry, chosen: Choices) -> Floats:
    """Return the choices as inputs of a predictor [n, d], encoded as in the package: one-hot or min-max."""
    parts: list[Floats] = []
    for name, column in chosen.items():
        values = np.unique(column)
        if len(values) == 1:
            continue  # what does not vary is no input
        if name[0] == "k" or (name[0] == "e" and shape.one_hot):
            parts.append(column[:, None] == values[None])
        else:
            parts.append(((column - values[0]) / (values[-1] - values[0]))[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def _accuracy(shape: Geometry, chosen: Choices, costs: dict[str, Floats], rng: np.random.Generator) -> Floats:
    """Return accuracies in percent with a std of 1 to 3.5 points and a noise of 0.1 to 0.3 points."""
    rows, uniform = len(shape.rows), rng.uniform
    flops, params = np.log(costs["flops"].sum(1)), np.log(costs["params"].sum(1))
    # Where the FLOPs and the parameters are matters, too: every stage gets a random weight.
    by_flops = np.log(costs["flops"][:, 1:]) @ rng.dirichlet(np.full(rows, 1.5))
    by_params = np.log(costs["params"][:, 1:]) @ rng.dirichlet(np.full(rows, 1.5))
    sizes = [flops, params, by_flops, by_params, np.log(_depth(shape, chosen))]
    weights = np.abs(rng.normal(size=5)) * (1.5, 1.0, 0.7, 0.7, 0.7)
    size = _standard(sum(weight * _standard(value) for weight, value in zip(weights, sizes, strict=True)))
    # The curve of accuracy by size becomes flat: a large network gains less from more FLOPs than a small one.
    main = _standard(-np.exp(-uniform(0.2, 0.7) * size))
    kernels = sum((chosen[f"k{i}"] == 5) * rng.normal(0.5, 0.6) * (0.5 + i / rows) for i in range(rows))
    # The first squeeze-and-excitation gains more than the next ones.
    excited = np.sqrt(0.5 + sum(chosen[f"se{i}"] * uniform() for i in range(rows)))
    choices = np.stack([_standard(column) for column in chosen.values() if np.ptp(column)], axis=1)
    linear = choices @ rng.normal(size=choices.shape[1])
    # Interactions: one pair of choices in ten has an effect that neither of them has alone.
    pairs = rng.normal(size=2 * (choices.shape[1],)) * (rng.random(2 * (choices.shape[1],)) < 0.1)
    crossed = ((choices @ pairs) * choices).sum(1)
    rest = [(0.15, 0.4, kernels), (0.15, 0.4, excited), (0.1, 0.35, linear), (0.05, 0.2, crossed)]
    other = sum(uniform(low, high) * _standard(value) for low, high, value in rest)
    y = main + uniform(0.3, 1.2) * other
    y = 74.0 + uniform(1.0, 3.5) * _standard(y)
    return np.asarray(y + uniform(0.1, 0.3) * rng.normal(size=len(y)))


def _standard(values: Any) -> Floats:
    """Return the values with mean 0 and std 1; constant values become 0."""
    values = np.asarray(values, float)
    return np.asarray((values - values.mean()) / max(values.std(), 1e-9))
