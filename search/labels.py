"""Free labels: FLOPs and parameters of whole index matrices, in closed form, exact integers (section 3.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from fbnetv3.complexity import Cost, classifier, conv_norm, conv_side, inverted_residual, pool_head
from fbnetv3.schema import STRICT
from fbnetv3.search.space import IntMatrix, SearchSpace


def cost(space: SearchSpace, index: IntMatrix) -> Cost:
    """Cost of every index row [n, d]: fields are integer arrays [n], equal to `fbnetv3.complexity.cost` of each `Arch`."""
    columns = space.columns(index)

    def get(entry: str | int) -> Any:
        return columns[entry] if isinstance(entry, str) else entry

    k, c, s = space.stem
    cin = get(c)
    side = conv_side(get(space.resolution), k, s, k // 2)
    total = conv_norm(space.in_chans, cin, k, side * side, bias=True)
    for row in space.rows:
        width, n = get(row.c), get(row.n)
        first, side = inverted_residual(cin, width, get(row.k[0]), get(row.e[0]), row.s, side, se=row.se)
        rest, _ = inverted_residual(width, width, get(row.k[1]), get(row.e[1]), 1, side, se=row.se)
        total += first + rest.times(n - 1)
        cin = width
    total += pool_head(cin, space.head[1], space.head[0], side) + classifier(space.head[1], space.num_classes)
    return Cost(*(np.broadcast_to(np.asarray(part, np.int64), (len(index),)) for part in total))


@dataclass(frozen=True, config=STRICT)
class Constraint:
    """A resource constraint g(A) <= C of equation (1), with a lower end to keep a pool inside a window."""

    metric: Literal["flops", "params"]  # one multiply-add = 1 FLOP
    max: Annotated[float, Field(gt=0.0)]
    min: Annotated[float, Field(ge=0.0)] = 0.0
    convention: Literal["published", "fvcore"] = "published"

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"{self.metric} from {self.min:g} to {self.max:g} is no window; min must not exceed max")

    def value(self, cost: Cost) -> Any:
        """The constrained figure of one or many costs."""
        return cost.flops(self.convention) if self.metric == "flops" else cost.params(self.convention)

    def allows(self, cost: Cost) -> npt.NDArray[np.bool_]:
        """Which of many costs lie inside."""
        value = self.value(cost)
        return np.asarray((value >= self.min) & (value <= self.max))
