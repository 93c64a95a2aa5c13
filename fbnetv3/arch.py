"""An architecture: rows of blocks, grouped in stages. The released networks are written here as such rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fbnetv3.errors import InputError, available, check_keys, quote

SCHEMA = 1
LARGEST = 100_000  # of every size, so that a file of a few lines does not ask for a network without end
MOST_BLOCKS = 10_000
LONGEST_NAME = 1_000
BLOCKS = ("conv", "ir", "pool")
ACTIVATIONS = ("hswish", "relu")
SE_SOURCES = ("input", "expanded")


@dataclass(frozen=True)
class Block:
    """One row of Table 2: `n` blocks in sequence. Only the first block has the stride `s`.

    Attributes:
        block: `conv` is a convolution with bias, norm and activation. `ir` is an inverted residual (MBConv). `pool` is the
            efficient last stage (MBPool): 1x1 expansion, global pooling, 1x1 convolution to `c` channels. It has no
            depthwise convolution, so its `k` is 1.
        c: output channels as built. Only a search space rounds widths.
        k: side of the kernel, odd.
        e: expansion; the expanded width is `round_width(input * e)`.
        se: squeeze-and-excitation.
        act: activation, `hswish` or `relu`.
        pad: padding of the k x k convolution; None is k // 2.
        se_from: the squeeze is a quarter of the `input` width or of the `expanded` width, rounded.
        dw_norm_act: norm and activation after the depthwise convolution.
    """

    block: str
    c: int
    k: int = 1
    e: int = 1
    n: int = 1
    s: int = 1
    se: bool = False
    act: str = "hswish"
    pad: int | None = None
    se_from: str = "input"
    dw_norm_act: bool = True

    def __post_init__(self) -> None:
        for name, low in (("c", 1), ("k", 1), ("e", 1), ("n", 1), ("s", 1), ("pad", 0)):
            value = getattr(self, name)
            if value is None and name == "pad":
                continue
            # `type(...) is int` also refuses True, which YAML and JSON have and isinstance counts as an int.
            if type(value) is not int or not low <= value <= LARGEST:
                raise InputError(
                    f"block row: {name} is {quote(value)}; allowed: whole numbers from {low} to {LARGEST:,}"
                )
        for name in ("se", "dw_norm_act"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"block row: {name} is {quote(getattr(self, name))}; allowed: true, false")
        for name, allowed in (("block", BLOCKS), ("act", ACTIVATIONS), ("se_from", SE_SOURCES)):
            if getattr(self, name) not in allowed:
                raise InputError(f"block row: {name} is {quote(getattr(self, name))}; allowed: {', '.join(allowed)}")
        # With an even kernel, a padding of k // 2 would change the size of the map.
        if self.k % 2 == 0:
            raise InputError(f"block row: k is {self.k}; allowed: odd kernels")

    @property
    def padding(self) -> int:
        """The padding of the k x k convolution."""
        return self.k // 2 if self.pad is None else self.pad


@dataclass(frozen=True)
class Arch:
    """A `conv` stem, stages of `conv` and `ir` rows, and a `pool` head, for square images of `resolution` pixels.

    A stage is the rows at one resolution: a row with stride 2 starts a stage. Without a head (None), the channels of the last
    row are pooled and classified.
    """

    name: str
    resolution: int
    stem: Block
    stages: tuple[tuple[Block, ...], ...]
    head: Block | None

    def __post_init__(self) -> None:
        if type(self.name) is not str or not 1 <= len(self.name) <= LONGEST_NAME:
            raise InputError(f"arch: name is {quote(self.name)}; allowed: a text of 1 to {LONGEST_NAME} characters")
        if type(self.resolution) is not int or not 1 <= self.resolution <= LARGEST:
            given = quote(self.resolution)
            raise InputError(f"arch {self.name}: resolution is {given}; allowed: whole numbers from 1 to {LARGEST:,}")
        if self.stem.block != "conv":
            raise InputError(f"arch {self.name}: the stem is a {self.stem.block!r} row; allowed: conv")
        if self.head is not None and self.head.block != "pool":
            raise InputError(f"arch {self.name}: the head is a {self.head.block!r} row; allowed: pool, or none")
        if not self.stages or not all(self.stages):
            raise InputError(f"arch {self.name}: needs at least one stage, and a row in every stage")
        for row in self.rows:
            if row.block == "pool":
                raise InputError(f"arch {self.name}: a pool row in a stage; allowed there: conv, ir")
        if (blocks := sum(row.n for row in self.rows)) > MOST_BLOCKS:
            raise InputError(f"arch {self.name}: {blocks:,} blocks; allowed: at most {MOST_BLOCKS:,}")

    @property
    def rows(self) -> tuple[Block, ...]:
        """All rows between the stem and the head, in order."""
        return tuple(row for stage in self.stages for row in stage)

    @property
    def features(self) -> int:
        """The width of the vector that the classifier sees."""
        return self.head.c if self.head is not None else self.rows[-1].c

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for YAML or JSON. Fields of rows that have their default value are left out."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "resolution": self.resolution,
            "stem": _row_dict(self.stem),
            "stages": [[_row_dict(row) for row in stage] for stage in self.stages],
            "head": None if self.head is None else _row_dict(self.head),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "arch") -> Arch:
        """Read what `to_dict` returned.

        Raises:
            InputError: an unknown or missing key, a wrong type or value, or a schema that this version does not read.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected a mapping, got {type(data).__name__}")
        schema = data.get("schema", SCHEMA)  # may be missing: people write architectures by hand
        if type(schema) is not int or schema != SCHEMA:
            raise InputError(f"{where}: schema is {quote(schema)}; this version reads {SCHEMA}: update fbnetv3")
        fields = check_keys({key: value for key, value in data.items() if key != "schema"}, cls, where)
        if not isinstance(fields["stages"], list | tuple) or not all(
            isinstance(s, list | tuple) for s in fields["stages"]
        ):
            raise InputError(f"{where}: stages must be a list of lists of rows")
        stages = tuple(
            tuple(_row(row, f"{where}: stages[{i}][{j}]") for j, row in enumerate(stage))
            for i, stage in enumerate(fields["stages"])
        )
        head = None if fields["head"] is None else _row(fields["head"], f"{where}: head")
        stem = _row(fields["stem"], f"{where}: stem")
        try:
            return cls(fields["name"], fields["resolution"], stem, stages, head)
        except InputError as error:  # the architecture does not know where it is written
            raise InputError(f"{where}: {str(error).removeprefix('arch ')}") from None


def _row_dict(row: Block) -> dict[str, Any]:
    # Without the defaults a row fits on a line, and files stay readable when a field is added.
    required = ("block", "c")
    return {
        f.name: getattr(row, f.name)
        for f in dataclasses.fields(row)
        if f.name in required or getattr(row, f.name) != f.default
    }


def _row(data: Any, where: str) -> Block:
    fields = check_keys(data, Block, where)
    try:
        return Block(**fields)
    except InputError as error:  # the block does not know where it is written
        raise InputError(f"{where}: {error}") from None


def _rows(text: str, **common: Any) -> tuple[Block, ...]:
    """Return a stage from rows 'k e c s n' with the flags `se` and `pN` (padding N of the depthwise convolution)."""

    def row(text: str) -> Block:
        k, e, c, s, n, *flags = text.split()
        pads = [int(flag[1:]) for flag in flags if flag[0] == "p"]
        pad = pads[0] if pads else None
        return Block("ir", int(c), int(k), int(e), int(n), int(s), "se" in flags, pad=pad, **common)

    return tuple(row(part) for part in text.split(","))


def _released(name: str, resolution: int, stem: int, *stages: str, expansion: int = 6) -> Arch:
    # All released networks end in 1984 features.
    rows = tuple(map(_rows, stages))
    return Arch(name, resolution, Block("conv", stem, k=3, s=2), rows, Block("pool", 1984, e=expansion))


def _table5(name: str, resolution: int, stem: int, *stages: str) -> Arch:
    rows = tuple(_rows(stage, act="relu", se_from="expanded", dw_norm_act=False) for stage in stages)
    return Arch(f"table5_{name}", resolution, Block("conv", stem, k=3, s=2, act="relu"), rows, None)


# The released networks (facebookresearch/mobile-vision): a line is a stage, and a row is `k e c s n [se] [pPAD]`. The paddings
# are those of the released code: 1 for a 5x5 kernel and 0 for a 3x3 kernel in places. The published FLOPs and weights
# require them.
# fmt: off
_A_STAGES = (
    "3 1 16 1 2",
    "5 4 24 2 1, 5 2 24 1 3",
    "5 5 40 2 1 se, 5 3 40 1 4 se",
    "5 5 72 2 1 p1, 3 3 72 1 4, 3 5 120 1 1 se, 5 3 120 1 5 se",
    "3 6 184 2 1 se p0, 5 4 184 1 5 se, 5 6 224 1 1 se",
)
ARCHS: dict[str, Arch] = {arch.name: arch for arch in (
    _released("fbnetv3_a", 224, 16, *_A_STAGES),
    _released("fbnetv3_b", 248, 16, *_A_STAGES),
    _released(
        "fbnetv3_c", 248, 16,
        "3 1 16 1 2",
        "5 5 24 2 1, 3 3 24 1 4",
        "5 5 48 2 1 se, 5 2 48 1 4 se",
        "5 4 88 2 1 p1, 3 3 88 1 4, 3 4 120 1 1 se, 5 3 120 1 5 se",
        "5 5 216 2 1 se p1, 5 5 216 1 5 se, 5 6 216 1 1 se",
    ),
    _released(
        "fbnetv3_d", 248, 24,
        "3 1 16 1 2",
        "3 5 24 2 1, 3 2 24 1 5",
        "5 4 40 2 1 se, 3 3 40 1 4 se",
        "3 5 72 2 1, 3 3 72 1 4, 3 5 128 1 1 se, 5 3 128 1 6 se",
        "3 6 208 2 1 se, 5 5 208 1 5 se, 5 6 240 1 1 se",
    ),
    _released(
        "fbnetv3_e", 264, 24,
        "3 1 16 1 3",
        "5 4 24 2 1, 5 2 24 1 4",
        "5 4 48 2 1 se, 5 3 48 1 4 se",
        "5 5 80 2 1 p1, 3 3 80 1 4, 3 5 128 1 1 se, 5 3 128 1 7 se",
        "3 6 216 2 1 se, 5 5 216 1 5 se, 5 6 240 1 1 se",
    ),
    _released(
        "fbnetv3_f", 272, 24,
        "3 1 24 1 3",
        "5 4 32 2 1, 5 2 32 1 4",
        "5 4 56 2 1 se, 5 3 56 1 4 se",
        "5 5 88 2 1, 3 3 88 1 4, 3 5 144 1 1 se, 5 3 144 1 8 se",
        "3 6 248 2 1 se p0, 5 5 248 1 6 se, 5 6 272 1 1 se",
    ),
    _released(
        "fbnetv3_g", 320, 32,
        "3 1 24 1 3",
        "5 4 40 2 1, 5 2 40 1 4",
        "5 4 56 2 1 se, 5 3 56 1 4 se",
        "5 5 104 2 1, 3 3 104 1 4, 3 5 160 1 1 se, 5 3 160 1 8 se",
        "3 6 264 2 1 se, 5 5 264 1 6 se, 5 6 288 1 2 se",
    ),
)}

# Released as code only, without weights or published numbers. It is therefore not listed among the models of the paper.
ARCH_A0 = _released(
    "fbnetv3_a0", 224, 12,
    "3 1 12 1 1",
    "3 4 24 2 1, 3 2 24 1 2",
    "3 4 40 2 1 se, 3 2 40 1 2 se",
    "5 4 72 2 1, 3 3 72 1 2, 3 4 104 1 1 se, 5 3 104 1 3 se",
    "3 4 176 2 1 se, 3 4 176 1 3 se, 3 5 208 1 1 se",
    expansion=5,
)

# The networks of Table 5 (detection). They differ from those of the same names above: ReLU, a squeeze of a quarter of the
# expanded width, and no norm or activation after the depthwise convolution. The first four stages are the backbone (stride
# 16), the last stage is the box head. The rows are public in facebookresearch/d2go. The resolution is for training a
# classifier; it is not published for these networks, and 224 is usual on ImageNet.
TABLE5: dict[str, Arch] = {arch.name: arch for arch in (
    _table5(
        "efficientnet_b0", 224, 32,
        "3 1 16 1 1 se",
        "3 6 24 2 2 se",
        "5 6 40 2 2 se",
        "3 6 80 2 3 se, 5 6 112 1 3 se",
        "5 6 192 2 4 se, 3 6 320 1 1 se",
    ),
    _table5(
        "fbnetv3_a", 224, 16,
        "3 1 16 1 2",
        "5 4 24 2 1, 5 3 24 1 3",
        "5 4 32 2 1 se, 3 3 32 1 3 se",
        "5 4 64 2 1, 3 3 64 1 3, 5 4 112 1 1 se, 5 3 112 1 5 se",
        "5 4 184 2 1 se, 3 4 184 1 4 se, 5 6 200 1 1 se",
    ),
    _table5(
        "efficientnet_b1", 224, 32,
        "3 1 16 1 2 se",
        "3 6 24 2 3 se",
        "5 6 40 2 3 se",
        "3 6 80 2 4 se, 5 6 112 1 4 se",
        "5 6 192 2 5 se, 3 6 320 1 2 se",
    ),
    _table5(
        "fbnetv3_e", 224, 24,
        "3 1 16 1 3",
        "5 4 24 2 1, 5 2 24 1 4",
        "5 4 48 2 1 se, 5 3 48 1 4 se",
        "5 5 80 2 1, 3 3 80 1 4, 3 5 128 1 1 se, 5 3 128 1 7 se",
        "3 6 216 2 1 se, 5 5 216 1 5 se, 5 6 240 1 1 se",
    ),
)}
# fmt: on


def same_padding(arch: Arch) -> Arch:
    """Return `arch` with padding k // 2 everywhere, as timm builds it.

    The result computes another function, so it has another name. An architecture that has this padding already (fbnetv3_d,
    fbnetv3_g) is returned unchanged.
    """
    stages = tuple(tuple(dataclasses.replace(row, pad=None) for row in stage) for stage in arch.stages)
    if all(row.padding == row.k // 2 for row in arch.rows):
        return arch
    return dataclasses.replace(arch, name=f"{arch.name}_same_padding", stages=stages)


def find_arch(name: str) -> Arch:
    """Return an architecture by name: a released one, its `same_padding` variant, or one of Table 5. Case is ignored.

    Raises:
        InputError: there is no such network. The message suggests the nearest names.
    """
    known = {arch.name: arch for arch in (*ARCHS.values(), ARCH_A0)}
    # The variant of a network that has the padding already is the network itself, so that no name is listed twice.
    known |= {variant.name: variant for variant in map(same_padding, known.values())} | TABLE5
    arch = known.get(name.lower()) if isinstance(name, str) else None
    if arch is None:
        raise InputError(f"unknown model {quote(name)}; {available(name, known, command='fbnetv3 models')}")
    return arch
