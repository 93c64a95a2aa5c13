"""What a space contains: its sizes, and every value of a network that is outside it."""

import dataclasses
import json

import numpy as np
import pytest

from fbnetv3.arch import ARCH_A0, ARCHS, Arch, Block, same_padding
from fbnetv3.complexity import cost as arch_cost
from fbnetv3.search.space.audit import Outside, audit, outside
from fbnetv3.search.space.reader import ANY_DATA, list_spaces, load_space
from fbnetv3.search.space.sobol import sobol
from tests.places import ROOT
from tests.search.spaces import TINY, load

TABLE2, RELEASED = load_space("table2"), load_space("released")

# What Table 2, read literally, lacks of the released networks: different values in the first and in the further blocks of a
# row where Table 2 has one value for both, and widths.
OF_TABLE2 = {
    "b": {"row3.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/4"},
    "c": {"row1.k": "5/3", "row3.k": "5/3", "row4.k": "3/5", "row3.c": "88"},
    "d": {"row2.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/5", "row6.c": "240"},
    "e": {"row3.k": "5/3", "row4.k": "3/5", "row5.k": "3/5", "row5.e": "6/5", "row6.c": "240"},
}
# Number of blocks that every row of Table 2 has in a released network.
LENGTHS = {
    "fbnetv3_a": [2, 4, 5, 5, 6, 6, 1],
    "fbnetv3_b": [2, 4, 5, 5, 6, 6, 1],
    "fbnetv3_c": [2, 5, 5, 5, 6, 6, 1],
    "fbnetv3_d": [2, 6, 5, 5, 7, 6, 1],
    "fbnetv3_e": [3, 5, 5, 5, 8, 6, 1],
}


def blocks_of(arch):
    """The blocks one by one."""
    return [dataclasses.replace(row, n=1, s=row.s if i == 0 else 1) for row in arch.rows for i in range(row.n)]


def row_of(space, arch):
    """The index row of a released network."""
    blocks, start = blocks_of(arch), 0
    values = {"resolution": arch.resolution, "stem.c": arch.stem.c}
    for row, n in zip(space.layout.rows, LENGTHS[arch.name], strict=True):
        first, rest = blocks[start], blocks[start + n - 1]
        values |= {row.k[1]: rest.k, row.e[1]: rest.e, row.k[0]: first.k, row.e[0]: first.e, row.c: first.c, row.n: n}
        start += n
    return [c.values.index(values[c.name]) if c.arch else 0 for c in space.coordinates]


@pytest.fixture(scope="module")
def networks():
    """The released networks compared with Table 2 and with the default space, by name."""
    return {space.name: {network.network: network for network in audit(space).networks} for space in (TABLE2, RELEASED)}


@pytest.mark.parametrize("name", OF_TABLE2)
def test_what_table_2_lacks_of_the_released_networks(name):
    found = list(outside(TABLE2, ARCHS[f"fbnetv3_{name}"]))
    assert {entry.coordinate: entry.value for entry in found} == OF_TABLE2[name]
    assert {entry.coordinate: entry.reached_from for entry in found if entry.reached_from} == (
        {"row3.c": 84} if name == "c" else {}
    )


def test_a_is_b_at_another_resolution():
    assert list(outside(TABLE2, ARCHS["fbnetv3_a"])) == list(outside(TABLE2, ARCHS["fbnetv3_b"]))


@pytest.mark.parametrize("name", LENGTHS)
def test_the_default_space_has_the_released_networks_with_other_padding(name):
    arch = ARCHS[name]
    row = row_of(RELEASED, arch)
    built = RELEASED.arch(row, "x")
    assert built.resolution == arch.resolution
    assert blocks_of(built) == blocks_of(same_padding(arch))
    assert RELEASED.cost(np.array([row])).flops()[0] == arch_cost(same_padding(arch)).flops()
    assert all(entry.reached_from for entry in outside(RELEASED, arch))


def test_scaled_networks_are_outside(networks):
    found = networks["released"]
    assert [name for name, network in found.items() if not network.contained] == ["fbnetv3_f", "fbnetv3_g"]
    assert Outside("row5.c", "248", "(180, 224, 4)") in found["fbnetv3_f"].outside
    assert Outside("resolution", "320", "(224, 272, 8)") in found["fbnetv3_g"].outside
    assert {"row6.n": "2"}.items() <= {e.coordinate: e.value for e in found["fbnetv3_g"].outside}.items()


@pytest.mark.parametrize(
    ("name", "figures"), [("b", (461.6, 521.6)), ("c", (557.0, 635.6)), ("d", (644.4, 644.4)), ("e", (762.0, 860.9))]
)
def test_the_audit_says_what_the_released_padding_changes(networks, name, figures):
    network = networks["table2"][f"fbnetv3_{name}"]
    assert (round(network.flops / 1e6, 1), round(network.same_padding_flops / 1e6, 1)) == figures


def test_the_sizes_of_table_2_are_those_of_the_paper():
    found = audit(TABLE2, [])
    assert found.architectures / found.resolutions == pytest.approx(1.76e17, rel=0.005)
    assert found.architectures == pytest.approx(1.2e18, rel=0.03)
    assert 2 * found.architectures / found.resolutions == pytest.approx(3.52e17, rel=0.005)  # with MBPool's kernel
    assert found.recipes == pytest.approx(1.89e7, rel=0.005)


def test_the_collapse_is_what_the_rounding_of_widths_takes(tmp_path):
    assert audit(TABLE2, []).collapse == 260
    assert audit(RELEASED, []).collapse == 260
    assert audit(load(tmp_path, TINY), []).collapse == 2  # both widths are built as 16


def test_an_audit_without_networks_has_sizes_alone(tmp_path):
    found = audit(load(tmp_path, TINY), [])
    assert (found.space, found.architectures, found.resolutions, found.built) == ("tiny", 24, 1, 12)
    assert (found.recipes, found.networks) == (1, ())


def test_an_audit_as_plain_data_has_the_derived_values():
    data = audit(RELEASED, [ARCHS["fbnetv3_d"], ARCHS["fbnetv3_g"]]).to_dict()
    assert json.loads(json.dumps(data))["collapse"] == 260
    assert [(network["network"], network["contained"]) for network in data["networks"]] == [
        ("fbnetv3_d", True),
        ("fbnetv3_g", False),
    ]
    assert set(data["networks"][1]["outside"][0]) == {"coordinate", "value", "allowed", "reached_from"}


@pytest.mark.parametrize("name", list_spaces())
def test_every_network_of_a_space_is_inside_it(name):
    space = load_space(name, ANY_DATA)
    for row in sobol(space, 5, 0)[:16]:
        assert all(entry.reached_from is not None for entry in outside(space, space.arch(row, "x")))


@pytest.mark.parametrize(
    ("stage", "row", "changes", "expected"),
    [
        (1, 0, {"k": 7}, Outside("row1.k.first", "7", "[3, 5]")),
        (1, 1, {"e": 6}, Outside("row1.e.rest", "6", "(2, 5)")),
        (3, 2, {"e": 6}, Outside("e.first^1", "5/6", "one value of (4, 7)")),  # two rows share it
        (4, 1, {"n": 9}, Outside("row5.n", "10", "(5, 9)")),
        (1, 1, {"se": True}, Outside("row1.se", "False/True", "one value of False")),
        (0, 0, {"act": "relu"}, Outside("block", "ir, relu, squeeze from input", "ir, hswish, squeeze from input")),
        (
            0,
            0,
            {"dw_norm_act": False},
            Outside("block", "ir, hswish, squeeze from input, bare depthwise", "ir, hswish, squeeze from input"),
        ),
        (
            0,
            0,
            {"s": 2},
            Outside("stages", "stem 3 x 3 / 2, strides [2, 2, 2, 2, 2]", "stem 3 x 3 / 2, strides [1, 2, 2, 2, 2]"),
        ),
        (0, 0, {"pad": 0}, None),  # padding is no coordinate
    ],
    ids=["kernel", "expansion", "shared", "depth", "se", "activation", "depthwise", "stride", "padding"],
)
def test_one_changed_block_is_found(stage, row, changes, expected):
    arch = RELEASED.arch(row_of(RELEASED, ARCHS["fbnetv3_d"]), "x")
    rows = list(arch.stages[stage])
    rows[row] = dataclasses.replace(rows[row], **changes)
    stages = (*arch.stages[:stage], tuple(rows), *arch.stages[stage + 1 :])
    found = list(outside(RELEASED, dataclasses.replace(arch, stages=stages)))
    assert found == ([] if expected is None else [expected])


def test_a_network_without_a_head_is_outside():
    arch = RELEASED.arch(row_of(RELEASED, ARCHS["fbnetv3_d"]), "x")
    found = list(outside(RELEASED, dataclasses.replace(arch, head=None)))
    assert found == [Outside("head", "none", "e 6, c 1984")]


def test_another_head_is_outside(tmp_path):
    arch = dataclasses.replace(load(tmp_path, TINY).arch([0, 0, 0, 1], "x"), head=Block("pool", 64, e=2))
    assert list(outside(load(tmp_path, TINY), arch)) == [Outside("head.c", "64", "32")]


def test_a_stage_with_fewer_blocks_than_rows_is_outside(tmp_path):
    row = TINY["rows"][0] | {"c": 16, "e": 2, "n": 1}
    space = load(tmp_path, TINY | {"rows": [row, row | {"s": 1}], "recipe": {"lr": "(1, 2)"}})
    arch = space.arch([0], "x")
    short = dataclasses.replace(arch, stages=((arch.stages[0][0],),))
    assert list(outside(space, arch)) == []
    assert list(outside(space, short)) == [Outside("row0", "1 blocks in the stage", "2 rows")]


def test_blocks_are_divided_among_rows_by_their_widths_first(tmp_path):
    row = {"k": 3, "e": 1, "c": "(16, 24, 8)", "n": "(1, 2)", "s": 2, "se": False}
    space = load(tmp_path, TINY | {"rows": [row, row | {"k": 5, "s": 1}]})
    blocks = (Block("ir", 16, 3, s=2), Block("ir", 16, 5), Block("ir", 24, 5))
    arch = dataclasses.replace(space.arch([0] * 4, "x"), stages=(blocks,))
    # The first row has both blocks of width 16, although the kernel of the second block would fit the second row.
    assert list(outside(space, arch)) == [Outside("row0.k", "3/5", "one value of 3")]


def test_a_width_that_another_written_width_is_built_as_is_reached(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"c": "(12, 20, 8)"}]})
    arch = space.arch([0, 0, 0, 1], "x")
    assert list(outside(space, arch)) == [Outside("row0.c", "16", "(12, 20, 8)", reached_from=12)]
    (network,) = audit(space, [arch]).networks
    assert network.contained


def test_a_range_of_one_value_is_written_as_a_choice(tmp_path):
    space = load(tmp_path, TINY | {"rows": [TINY["rows"][0] | {"e": "(2, 2)", "c": 16, "n": 1}]})
    arch = space.arch([0], "x")
    wide = dataclasses.replace(arch, stages=((dataclasses.replace(arch.stages[0][0], e=5),),))
    assert list(outside(space, wide)) == [Outside("row0.e", "5", "[2]")]


def test_a_smaller_network_of_the_family_is_outside():
    found = {entry.coordinate for entry in outside(RELEASED, ARCH_A0)}
    assert {"stem.c", "row0.c", "head.e"} <= found


def test_a_network_of_other_stages_is_outside_by_its_shape_alone(tmp_path):
    arch = Arch("x", 8, Block("conv", 8, k=5, s=1), ((Block("ir", 16),),), None)
    assert list(outside(load(tmp_path, TINY), arch)) == [
        Outside("stages", "stem 5 x 5 / 1, strides [1]", "stem 3 x 3 / 2, strides [2]")
    ]


@pytest.mark.parametrize("name", list_spaces())
def test_the_sizes_in_the_documentation(name):
    found = audit(load_space(name, ANY_DATA), [])
    table = (
        (ROOT / "docs" / "search.md").read_text().partition("<!-- generated: space -->")[2].partition("<!-- end -->")[0]
    )
    (line,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
    sizes = (found.architectures, found.built, found.recipes)
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["1" if size == 1 else f"{size:.2e}" for size in sizes]
