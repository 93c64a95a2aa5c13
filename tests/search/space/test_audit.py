import dataclasses
import json

import numpy as np
import pytest

from fbnetv3.arch import ARCH_A0, ARCHS, same_padding
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.search.space.audit import Outside, audit, outside
from fbnetv3.search.space.costs import cost
from fbnetv3.search.space.sobol import sobol
from fbnetv3.search.space.space import list_spaces, load_space
from tests.cli.conftest import run  # noqa: F401  # the fixture
from tests.places import ROOT

TABLE2, RELEASED = load_space("table2"), load_space("released")

# What Table 2, read literally, does not hold of the released networks: first and other blocks of a row where it has one
# value for both, and widths.
OF_TABLE2 = {
    "b": {"row3.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/4"},
    "c": {"row1.k": "5/3", "row3.k": "5/3", "row4.k": "3/5", "row3.c": "88"},
    "d": {"row2.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/5", "row6.c": "240"},
    "e": {"row3.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/5", "row6.c": "240"},
}


def blocks_of(arch):
    return [dataclasses.replace(row, n=1, s=row.s if i == 0 else 1) for row in arch.rows for i in range(row.n)]


def row_of(space, arch):
    """The index row of a released network, from the numbers of blocks that Table 2's rows have in it."""
    blocks, start = blocks_of(arch), 0
    values = {"resolution": arch.resolution, "stem.c": arch.stem.c}
    lengths = {
        "fbnetv3_a": [2, 4, 5, 5, 6, 6, 1],
        "fbnetv3_b": [2, 4, 5, 5, 6, 6, 1],
        "fbnetv3_c": [2, 5, 5, 5, 6, 6, 1],
        "fbnetv3_d": [2, 6, 5, 5, 7, 6, 1],
        "fbnetv3_e": [3, 5, 5, 5, 8, 6, 1],
    }[arch.name]
    for row, n in zip(space.rows, lengths, strict=True):
        first, rest = blocks[start], blocks[start + n - 1]
        values |= {row.k[1]: rest.k, row.e[1]: rest.e, row.k[0]: first.k, row.e[0]: first.e, row.c: first.c, row.n: n}
        start += n
    return [c.values.index(values[c.name]) if c.arch else 0 for c in space.coordinates]


@pytest.mark.parametrize("name", OF_TABLE2)
def test_what_table_2_does_not_hold(name):
    found = list(outside(TABLE2, ARCHS[f"fbnetv3_{name}"]))
    assert {entry.coordinate: entry.value for entry in found} == OF_TABLE2[name]
    assert {entry.coordinate: entry.reached_from for entry in found if entry.reached_from} == (
        {"row3.c": 84} if name == "c" else {}
    )


def test_a_is_b_at_another_resolution():
    assert list(outside(TABLE2, ARCHS["fbnetv3_a"])) == list(outside(TABLE2, ARCHS["fbnetv3_b"]))


@pytest.mark.parametrize("name", ["fbnetv3_a", "fbnetv3_b", "fbnetv3_c", "fbnetv3_d", "fbnetv3_e"])
def test_the_default_space_holds_the_released_networks_padding_apart(name):
    arch = ARCHS[name]
    row = row_of(RELEASED, arch)
    built = RELEASED.arch(row, "x")
    assert built.resolution == arch.resolution
    assert blocks_of(built) == blocks_of(same_padding(arch))
    assert cost(RELEASED, np.array([row])).flops()[0] == arch_cost(same_padding(arch)).flops()
    assert all(entry.reached_from for entry in outside(RELEASED, arch))


def test_scaled_networks_lie_outside():
    found = {network.network: network for network in audit(RELEASED).networks}
    assert [name for name, network in found.items() if not network.contained] == ["fbnetv3_f", "fbnetv3_g"]
    assert Outside("row5.c", "248", "(180, 224, 4)") in found["fbnetv3_f"].outside
    assert Outside("resolution", "320", "(224, 272, 8)") in found["fbnetv3_g"].outside
    assert {"row6.n": "2"}.items() <= {e.coordinate: e.value for e in found["fbnetv3_g"].outside}.items()


def test_the_audit_says_what_the_released_padding_changes():
    found = {network.network: network for network in audit(TABLE2).networks}
    published = {"b": (461.6, 521.6), "c": (557.0, 635.6), "d": (644.4, 644.4), "e": (762.0, 860.9)}
    for name, figures in published.items():
        network = found[f"fbnetv3_{name}"]
        assert (round(network.flops / 1e6, 1), round(network.same_padding_flops / 1e6, 1)) == figures


def test_sizes():
    found = audit(TABLE2)
    assert found.architectures / found.resolutions == pytest.approx(1.76e17, rel=0.005)
    assert found.architectures == pytest.approx(1.2e18, rel=0.03)
    assert 2 * found.architectures / found.resolutions == pytest.approx(3.52e17, rel=0.005)  # MBPool's kernel counted
    assert found.recipes == pytest.approx(1.89e7, rel=0.005)
    assert found.collapse == 260
    assert audit(RELEASED).collapse == 260


@pytest.mark.parametrize("name", list_spaces())
def test_every_member_of_a_space_is_inside_it(name):
    space = load_space(name)
    for row in sobol(space, 5, 0):
        assert all(entry.reached_from is not None for entry in outside(space, space.arch(row, "x")))


def test_one_changed_block_is_found():
    arch = RELEASED.arch(row_of(RELEASED, ARCHS["fbnetv3_d"]), "x")

    def changed(stage, row, **changes):
        rows = list(arch.stages[stage])
        rows[row] = dataclasses.replace(rows[row], **changes)
        stages = (*arch.stages[:stage], tuple(rows), *arch.stages[stage + 1 :])
        return list(outside(RELEASED, dataclasses.replace(arch, stages=stages)))

    assert changed(1, 0, k=7) == [Outside("row1.k.first", "7", "[3, 5]")]
    assert changed(1, 1, e=6) == [Outside("row1.e.rest", "6", "(2, 5)")]
    assert changed(3, 2, e=6) == [Outside("e.first^1", "5/6", "one value of (4, 7)")]  # shared by two rows
    assert changed(4, 1, n=9) == [Outside("row5.n", "10", "(5, 9)")]
    assert changed(1, 1, se=True) == [Outside("row1.se", "False/True", "one value of False")]
    assert changed(0, 0, act="relu")[0].coordinate == "block"
    assert changed(0, 0, s=2)[0].coordinate == "stages"
    assert changed(0, 0, pad=0) == []  # no coordinate
    assert [entry.value for entry in outside(RELEASED, dataclasses.replace(arch, head=None))] == ["none"]


def test_another_network_family_member():
    found = {entry.coordinate for entry in outside(RELEASED, ARCH_A0)}
    assert {"stem.c", "row0.c", "head.e"} <= found


def test_the_command(run):  # noqa: F811
    code, text, _ = run("search", "audit", "table2")
    assert code == 0
    assert "1.76e+17 without the choice of resolution (7)" in text
    assert "260 times fewer" in text
    line = next(line for line in text.splitlines() if "fbnetv3_d" in line and "row6.c" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["fbnetv3_d", "row6.c", "240", "(180, 224, 4)", "-"]
    line = next(line for line in text.splitlines() if "fbnetv3_c" in line and "row3.c" in line)
    assert "84 is built as this" in line
    code, text, _ = run("search", "audit", "released", "--json")
    data = json.loads(text)
    assert code == 0
    assert [network["contained"] for network in data["networks"]] == [True] * 5 + [False] * 2
    assert data["recipes"] == 9_452_520


def test_the_command_refuses_an_unknown_space(run):  # noqa: F811
    code, _, err = run("search", "audit", "nano")
    assert code == 2
    assert err.startswith(
        "fbnetv3: unknown search space 'nano'; available: cifar, micro, recipe_only, released, table2"
    )
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", list_spaces())
def test_the_sizes_in_the_documentation(name):
    found = audit(load_space(name))
    lines = (ROOT / "docs" / "search.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"| `{name}` |"))
    sizes = (found.architectures, found.built, found.recipes)
    assert [cell.strip() for cell in line.split("|")[3:6]] == ["1" if size == 1 else f"{size:.2e}" for size in sizes]
