"""The rows of a space's networks, and the architecture that they become."""

import pytest

from fbnetv3.arch import Arch, Block
from fbnetv3.search.space.layout import Layout, Row


def rows(*strides):
    return tuple(Row((3, 5), (1, 4), 16, "n", s, i == 0) for i, s in enumerate(strides))


def layout(*strides):
    return Layout("side", (3, "width", 2), rows(*strides), (6, 1984))


def entries(**values):
    """The function that gives the value of every entry."""
    return lambda entry: values[entry] if isinstance(entry, str) else entry


@pytest.mark.parametrize(
    ("strides", "stages"),
    [((1,), [[0]]), ((2, 1, 2), [[0, 1], [2]]), ((1, 1, 2, 2, 1), [[0, 1], [2], [3, 4]])],
    ids=["one row", "a stride opens", "the first row opens too"],
)
def test_a_stride_opens_a_stage(strides, stages):
    assert [[i for i, _ in stage] for stage in layout(*strides).stages()] == stages


def test_a_stage_holds_the_rows_themselves():
    space = layout(1, 2)
    assert [row for stage in space.stages() for _, row in stage] == list(space.rows)


def test_the_architecture_of_given_values():
    arch = layout(1, 2).arch(entries(side=32, width=8, n=3), "x")
    assert arch == Arch(
        "x",
        32,
        Block("conv", 8, k=3, s=2),
        (
            (Block("ir", 16, 3, 1, 1, 1, True), Block("ir", 16, 5, 4, 2, 1, True)),
            (Block("ir", 16, 3, 1, 1, 2, False), Block("ir", 16, 5, 4, 2, 1, False)),
        ),
        Block("pool", 1984, e=6),
    )


def test_a_row_of_one_block_has_no_further_blocks():
    arch = layout(1).arch(entries(side=32, width=8, n=1), "x")
    assert arch.stages == ((Block("ir", 16, 3, 1, 1, 1, True),),)


def test_two_rows_of_a_stage_are_in_one_tuple():
    arch = layout(2, 1).arch(entries(side=32, width=8, n=1), "x")
    assert [block.s for block in arch.stages[0]] == [2, 1]
    assert len(arch.stages) == 1
