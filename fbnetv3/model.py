"""A network from an architecture; knows no weights (those are `fbnetv3.hub`'s)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, overload

from torch import Tensor, nn

from fbnetv3.arch import ARCHS, Arch, Block, find_arch
from fbnetv3.errors import InputError
from fbnetv3.features import FeatureNet, checkpoint_stages, feature_info, take_indices
from fbnetv3.layers import GLOBAL_POOLS, ConvNormAct, InvertedResidual, PoolHead, Stage, pooling, python_only


class FBNetV3(nn.Module):
    """Stem, stages of blocks, head, classifier: section 3.5 and Table 2 of the paper.

    `stages[i][j]` is block j of stage i. Input [N, in_chans, H, W] of any size that survives the strides, output logits
    [N, num_classes]. The methods beside `forward` have the names and the meaning that timm gives them.

    Attributes:
        num_features: channels of the map that `forward_features` returns.
        head_hidden_size: width of what the classifier sees, and of the output when num_classes is 0.
        feature_info: the maps that `forward_intermediates` can return.
    """

    def __init__(
        self,
        arch: Arch,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
            if not 0.0 <= rate < 1.0:
                raise InputError(f"{name} is {rate}; allowed: 0 <= {name} < 1")
        if type(in_chans) is not int or in_chans < 1:
            raise InputError(f"in_chans is {in_chans!r}; allowed: whole numbers from 1")
        _check_classifier(num_classes, global_pool)
        self.arch = arch
        self.derived_from: tuple[str, ...] = ()  # `model:source` of the weights it was given; set by who loads them
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.grad_checkpointing = False
        self.feature_info = feature_info(arch)
        last = arch.rows[-1].c
        self.num_features = last if arch.head is None else last * arch.head.e
        self.head_hidden_size = arch.features
        stem = arch.stem
        self.stem = ConvNormAct(in_chans, stem.c, stem.k, stem.s, stem.padding, bias=True, act=stem.act)
        self.stages = _stages(arch, stochastic_depth)
        self.head = PoolHead(last, arch.head, global_pool)
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(arch.features, num_classes) if num_classes else nn.Identity()
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_chans, H, W] to logits [N, num_classes]; without classifier to what `forward_head` would give it."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images to the last map before pooling [N, num_features, H', W']."""
        return self.head.expand(self.stages(self.stem(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gave to logits, or with `pre_logits` to [N, head_hidden_size].

        Where `global_pool` is "" both are the map [N, head_hidden_size, H', W'].
        """
        x = self.head(x)
        if self.global_pool != "":
            x = x.flatten(1)
        x = self.dropout(x)
        return x if pre_logits else self.classifier(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of `feature_info`, after what `forward_features` gives unless `intermediates_only`.

        Args:
            indices: which maps, in this order; negative ones count from the last, n means the last n, None all.
            norm: without effect, there is no norm apart from the blocks'.
            stop_early: compute nothing past the deepest map asked for; needs `intermediates_only`.

        Raises:
            InputError: an index out of range, another format than NCHW, or `stop_early` alone.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; allowed: NCHW")
        if stop_early and not intermediates_only:
            raise InputError("stop_early leaves out the last map: it needs intermediates_only")
        depths = self._depths(take_indices(len(self.feature_info), indices))
        maps = [self.stem(x)]
        for stage in list(self.stages)[: max(depths) if stop_early else None]:
            maps.append(stage(maps[-1]))
        taken = [maps[depth] for depth in depths]
        return taken if intermediates_only else (self.head.expand(maps[-1]), taken)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that maps `indices` do not need, the head with them; return the indices, none negative.

        Args:
            prune_norm: without effect, as `norm` of `forward_intermediates`.
            prune_head: drop the head too where the last stage stays; it goes in any case where that goes.
        """
        taken = take_indices(len(self.feature_info), indices)
        depth = max(self._depths(taken))
        if prune_head or depth < len(self.stages):
            del self.stages[depth:]
            self.num_features = self.head_hidden_size = self.feature_info[max(taken)]["num_chs"]
            self.head = PoolHead(self.num_features, None).train(self.training)
            self.reset_classifier(0, "")
        return taken

    @python_only
    def get_classifier(self) -> nn.Module:
        """The last layer: a linear one, or an identity when num_classes is 0."""
        return self.classifier

    @python_only
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier for `num_classes` classes (0 for none) in place; None keeps the pooling.

        Raises:
            InputError: a negative count, an unknown pooling, or classes without pooling; nothing is changed then.
        """
        pool = self.global_pool if global_pool is None else global_pool
        _check_classifier(num_classes, pool)
        self.num_classes, self.global_pool = num_classes, pool
        self.head.pool = pooling(pool).train(self.training)
        self.classifier = nn.Identity()
        if num_classes:
            like = self.stem.conv.weight
            self.classifier = nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
        self.classifier.train(self.training)

    @python_only
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks' activations anew in the backward pass instead of keeping them: less memory, same numbers."""
        self.grad_checkpointing = enable
        checkpoint_stages(self.stages, enable)

    @python_only
    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay had better spare: biases and those of norms."""
        return {name for name, parameter in self.named_parameters() if parameter.dim() == 1}

    @python_only
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns that group parameters by depth, for layer-wise learning rates: by block, or by stage if `coarse`."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def _depths(self, indices: list[int]) -> list[int]:
        depths = self.feature_info.depths()
        return [depths[i] for i in indices]


def _check_classifier(num_classes: int, global_pool: str) -> None:
    if type(num_classes) is not int or num_classes < 0:
        raise InputError(f"num_classes is {num_classes!r}; allowed: whole numbers from 0 (no classifier)")
    if global_pool not in GLOBAL_POOLS:
        raise InputError(f"global_pool is {global_pool!r}; allowed: {', '.join(map(repr, GLOBAL_POOLS))}")
    if num_classes and not global_pool:
        raise InputError(f"global_pool is '', no pooling, which {num_classes} classes need: 'avg', 'max' or 'avgmax'")


def initialise(network: nn.Module) -> None:
    """The released initialisation: He normal by output fan; a residual branch starts at zero."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("se.expand"):
            # Depthwise too: fan_out = C * k * k there, as the released code has it.
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, InvertedResidual) and module.residual:
            nn.init.zeros_(module.project.bn.weight)  # type: ignore[arg-type]


def build_stage(rows: Sequence[Block], cin: int, rates: Iterator[float] | None = None) -> Stage:
    """The blocks of `rows` on a map of `cin` channels, each with the next rate of stochastic depth; None is 0 for all."""
    rates = itertools.repeat(0.0) if rates is None else rates
    stage = Stage()
    for row in rows:
        for i in range(row.n):
            stride, rate = row.s if i == 0 else 1, next(rates)
            if row.block == "conv":
                stage.append(ConvNormAct(cin, row.c, row.k, stride, row.padding, bias=True, act=row.act))
            else:
                stage.append(InvertedResidual(cin, row, stride, rate))
            cin = row.c
    return stage


def _stages(arch: Arch, stochastic_depth: float) -> nn.Sequential:
    """The blocks of `arch`; the rate of stochastic depth grows linearly with the block's index, from 0."""
    count = sum(row.n for row in arch.rows)
    rates = (stochastic_depth * index / count for index in range(count))
    inputs = (arch.stem.c, *(rows[-1].c for rows in arch.stages))
    return nn.Sequential(*(build_stage(rows, cin, rates) for rows, cin in zip(arch.stages, inputs, strict=False)))


@overload
def build_model(
    arch: str | Arch,
    num_classes: int = ...,
    in_chans: int = ...,
    dropout: float = ...,
    stochastic_depth: float = ...,
    global_pool: str = ...,
    *,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
) -> FBNetV3: ...


@overload
def build_model(
    arch: str | Arch,
    num_classes: int = ...,
    in_chans: int = ...,
    dropout: float = ...,
    stochastic_depth: float = ...,
    global_pool: str = ...,
    *,
    features_only: Literal[True],
    out_indices: int | Sequence[int] | None = ...,
) -> FeatureNet: ...


def build_model(
    arch: str | Arch,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    global_pool: str = "avg",
    *,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
) -> FBNetV3 | FeatureNet:
    """Build a network with fresh weights from torch's global generator.

    Args:
        arch: a released name (`list_models()`, or fbnetv3_a0), or any architecture.
        num_classes: 0 for none: the network returns what the classifier would see.
        dropout: rate before the classifier, in [0, 1).
        stochastic_depth: rate that the last block would have, in [0, 1); per sample, residual blocks only.
        global_pool: avg, max, avgmax (their mean), or, without classifier, "" for an unpooled map.
        features_only: return a list of maps instead, by default one for each resolution.
        out_indices: which maps: indices (negative from the last), or n for the last n; nothing deeper is built.

    Raises:
        InputError: unknown name; rate, count or index out of range.
    """
    if out_indices is not None and not features_only:
        raise InputError(f"out_indices is {out_indices!r}, which chooses feature maps: it needs features_only")
    if not isinstance(arch, Arch):
        arch = find_arch(arch)
    model = FBNetV3(arch, num_classes, in_chans, dropout, stochastic_depth, global_pool)
    return FeatureNet(model.stem, model.stages, model.feature_info, out_indices) if features_only else model


def list_models() -> list[str]:
    """Names of the networks of the paper, smallest first."""
    return list(ARCHS)
