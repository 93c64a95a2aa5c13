"""The networks of a space: the grammar of Table 2, in which every entry is a fixed value or the name of a coordinate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fbnetv3.arch import Arch, Block
from fbnetv3.search.space.space import Entry


@dataclass(frozen=True)
class Row:
    """One row of Table 2: a first block, and further blocks of the same width.

    `k` and `e` hold two entries each: one for the first block and one for the further blocks.
    """

    k: tuple[Entry, Entry]
    e: tuple[Entry, Entry]
    c: Entry
    n: Entry  # blocks, the first one included
    s: int  # stride of the first block
    se: bool


@dataclass(frozen=True)
class Layout:
    """Stem, rows and head of all networks of a space."""

    resolution: Entry
    stem: tuple[int, Entry, int]  # k, c, s
    rows: tuple[Row, ...]
    head: tuple[int, int]  # e, c

    def stages(self) -> list[list[tuple[int, Row]]]:
        """Return the rows with their numbers, grouped by stage. A row with a stride above 1 opens a new stage."""
        stages: list[list[tuple[int, Row]]] = []
        for i, row in enumerate(self.rows):
            if row.s > 1 or not stages:
                stages.append([])
            stages[-1].append((i, row))
        return stages

    def arch(self, get: Callable[[Entry], int], name: str) -> Arch:
        """Return the architecture in which `get` gives the value of every entry."""
        stages = []
        for rows in self.stages():
            blocks: list[Block] = []
            for _, row in rows:
                n, c = get(row.n), get(row.c)
                blocks.append(Block("ir", c, get(row.k[0]), get(row.e[0]), 1, row.s, row.se))
                if n > 1:
                    blocks.append(Block("ir", c, get(row.k[1]), get(row.e[1]), n - 1, 1, row.se))
            stages.append(tuple(blocks))
        kernel, width, stride = self.stem
        stem, head = Block("conv", get(width), k=kernel, s=stride), Block("pool", self.head[1], e=self.head[0])
        return Arch(name, get(self.resolution), stem, tuple(stages), head)
