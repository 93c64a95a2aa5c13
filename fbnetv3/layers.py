"""The blocks of the networks, as the released code defines them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fbnetv3.arch import Block
from fbnetv3.complexity import round_width

GLOBAL_POOLS = ("avg", "max", "avgmax", "")
Method = TypeVar("Method", bound=Callable[..., Any])


def python_only(method: Method) -> Method:
    """Mark a method that TorchScript should not compile. A scripted network has the method nevertheless."""
    marked: Method = torch.jit.ignore(method)
    return marked


def use_channels_last(network: nn.Module) -> nn.Module:
    """Store the network's weights with channels last, in place, which makes convolutions faster."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def activation(name: str) -> nn.Module:
    """Return a new activation module: `hswish` (hard-swish) or `relu`."""
    # In place saves memory: the input is the output of the layer before, which nobody else reads.
    return nn.Hardswish(inplace=True) if name == "hswish" else nn.ReLU(inplace=True)


def pooling(name: str) -> nn.Module:
    """Return a new module that pools [N, C, H, W] to [N, C, 1, 1]. With the name "" it leaves the map as it is."""
    pools = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d, "avgmax": AvgMaxPool}
    return pools[name](1) if name else nn.Identity()


class AvgMaxPool(nn.Module):
    """The mean of the adaptive average pool and the adaptive maximum pool."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.avg = nn.AdaptiveAvgPool2d(side)
        self.max = nn.AdaptiveMaxPool2d(side)

    def forward(self, x: Tensor) -> Tensor:
        """Pool [N, C, H, W] to [N, C, side, side]."""
        out: Tensor = 0.5 * (self.avg(x) + self.max(x))
        return out


class ConvNormAct(nn.Module):
    """Convolution, batch norm (eps 1e-5, momentum 0.1) and activation. `norm=False` and `act=None` leave these out."""

    def __init__(
        self,
        cin: int,
        cout: int,
        k: int = 1,
        s: int = 1,
        pad: int = 0,
        groups: int = 1,
        *,
        bias: bool = False,
        norm: bool = True,
        act: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, s, pad, groups=groups, bias=bias)
        self.bn = nn.BatchNorm2d(cout) if norm else nn.Identity()
        self.act = nn.Identity() if act is None else activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, cout, H', W']."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class SqueezeExcitation(nn.Module):
    """Scale every channel by a weight that depends on the averages of all channels.

    Global average pool, 1x1 convolution to `squeeze` channels, activation, 1x1 convolution back, hard-sigmoid.
    """

    def __init__(self, channels: int, squeeze: int, act: str) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeeze, 1)
        self.act = activation(act)
        self.expand = nn.Conv2d(squeeze, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of [N, C, H, W]."""
        out: Tensor = x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return out


class StochasticDepth(nn.Module):
    """Drop a residual branch per sample in training, and scale the kept ones up so that the mean stays the same."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Set each sample of [N, C, H, W] to zero with probability `rate`."""
        if not self.training or self.rate == 0.0:
            return x
        # One draw for each sample, which the shape spreads over channels and pixels. Not in half precision: bfloat16 has 256
        # numbers below 1, so a rate between two of them would not be met.
        dtype = torch.promote_types(x.dtype, torch.float32)
        keep = torch.rand((x.shape[0], 1, 1, 1), dtype=dtype, device=x.device) >= self.rate
        return x * keep / (1.0 - self.rate)

    def extra_repr(self) -> str:
        """Return the rate for `repr`."""
        return f"rate={self.rate}"


class InvertedResidual(nn.Module):
    """MBConv: 1x1 expansion, depthwise k x k convolution, squeeze-and-excitation, 1x1 projection.

    The input is added to the output if both have the same shape. There is no expansion if it would not change the width.
    """

    def __init__(self, cin: int, row: Block, stride: int, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        mid = round_width(cin * row.e)
        # An identity instead of a missing module: the names of the others, and so the state dict, do not depend on it.
        self.residual = stride == 1 and cin == row.c
        self.expand = ConvNormAct(cin, mid, act=row.act) if mid != cin else nn.Identity()
        self.depthwise = ConvNormAct(
            mid, mid, row.k, stride, row.padding, mid, norm=row.dw_norm_act, act=row.act if row.dw_norm_act else None
        )
        squeeze = round_width(cin if row.se_from == "input" else mid, 4)  # a quarter, rounded like every width
        self.se = SqueezeExcitation(mid, squeeze, row.act) if row.se else nn.Identity()
        self.project = ConvNormAct(mid, row.c)
        # Without a shortcut, dropping the branch would drop everything.
        self.drop = StochasticDepth(stochastic_depth if self.residual else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, c, H', W']."""
        out: Tensor = self.project(self.se(self.depthwise(self.expand(x))))
        if self.residual:
            out = x + self.drop(out)
        return out


class Stage(nn.Sequential):
    """Blocks in sequence. With `grad_checkpointing`, the backward pass recomputes each block's activations."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, cin, H, W] to [N, c, H', W']."""
        for block in self:
            # A conditional expression on `is_scripting`: TorchScript then skips the branch that it cannot compile.
            x = (
                checkpointed(block, x)
                if self.grad_checkpointing and not torch.jit.is_scripting()  # type: ignore[attr-defined]
                else block(x)
            )
        return x


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Return `block(x)`, but keep only `x` for the backward pass. Values, gradients and buffers stay the same."""
    # A compiled graph updates the buffers once, no matter what it recomputes, and the context cannot be compiled.
    if torch.compiler.is_compiling():
        out: Tensor = checkpoint(block, x, use_reentrant=False)
    else:
        out = checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _kept_buffers(block)))
    return out


@contextmanager
def _kept_buffers(block: nn.Module) -> Iterator[None]:
    """Restore the block's buffers at the end: a recomputation must not count a batch twice in the running statistics."""
    # Copies, because the recomputation changes the buffers in place.
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


class PoolHead(nn.Module):
    """MBPool, the efficient last stage: 1x1 expansion, global pooling, 1x1 convolution without norm or bias, activation.

    A call runs what follows the expansion, because the expanded map alone is useful too. The complete head is
    `head(head.expand(x))`. Without a row (None) the head only pools. The released head pools its 1x1 output once more; that
    has no effect and is not built here.
    """

    def __init__(self, cin: int, row: Block | None, pool: str = "avg") -> None:
        super().__init__()
        self.expand = nn.Identity() if row is None else ConvNormAct(cin, cin * row.e, act=row.act)
        self.pool = pooling(pool)
        # After pooling this convolution has one pixel to work on, which is why the stage is efficient.
        self.conv = nn.Identity() if row is None else nn.Conv2d(cin * row.e, row.c, 1, bias=False)
        self.act = nn.Identity() if row is None else activation(row.act)

    def forward(self, x: Tensor) -> Tensor:
        """Map the expanded map [N, cin * e, H, W] to [N, c, 1, 1], or to [N, c, H, W] without pooling."""
        out: Tensor = self.act(self.conv(self.pool(x)))
        return out
