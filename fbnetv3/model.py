"""The network of an architecture. Trained weights are the business of `fbnetv3.hub`."""

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
from fbnetv3.transforms import Transforms


class FBNetV3(nn.Module):
    """Stem, stages of blocks, head and classifier, as in section 3.5 and Table 2 of the paper.

    `stages[i][j]` is block j of stage i. The input [N, in_chans, H, W] may have any size that leaves at least one pixel after
    the strides. The output is logits [N, num_classes]. The other methods have the names and the meaning that timm gives
    them.

    Attributes:
        num_features: number of channels of the map that `forward_features` returns.
        head_hidden_size: width of the classifier's input, and of the output if num_classes is 0.
        feature_info: the maps that `forward_intermediates` can return.
        derived_from: the registered weights (`model:source`) that this network was given or trained from.
        transforms: the preprocessing of its weights, from a Pillow image to an input; None without weights, and for another
            number of channels than theirs.
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
        # The order in which modules are created fixes the random numbers that they draw, and so the weights of a seed.
        self.arch = arch
        # These two are set by the code that loads weights.
        self.derived_from: tuple[str, ...] = ()
        self.transforms: Transforms | None = None
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
        """Map images [N, in_chans, H, W] to logits [N, num_classes], or without classifier to the classifier's input."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to the last map before pooling [N, num_features, H', W']."""
        out: Tensor = self.head.expand(self.stages(self.stem(x)))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the output of `forward_features` to logits, or with `pre_logits` to [N, head_hidden_size].

        If `global_pool` is "", both are the map [N, head_hidden_size, H', W'].
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
        """Return the output of `forward_features` and the maps of `feature_info`, or the maps alone.

        Args:
            indices: which maps, in this order; negative indices count from the end, n means the last n maps, None all.
            norm: has no effect, because there is no norm outside of the blocks.
            stop_early: compute nothing after the deepest requested map; needs `intermediates_only`.
            intermediates_only: return the maps alone.

        Raises:
            InputError: an index out of range, another format than NCHW, or `stop_early` without `intermediates_only`.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; allowed: NCHW")
        if stop_early and not intermediates_only:
            raise InputError("stop_early leaves out the last map, so it needs intermediates_only")
        depths = self._depths(take_indices(len(self.feature_info), indices))
        maps = [self.stem(x)]  # maps[d] is the map at depth d
        for stage in list(self.stages)[: max(depths) if stop_early else None]:
            maps.append(stage(maps[-1]))
        taken = [maps[depth] for depth in depths]
        return taken if intermediates_only else (self.head.expand(maps[-1]), taken)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the layers that the maps `indices` do not need, and return the indices, none of them negative.

        Args:
            prune_norm: has no effect, because there is no norm outside of the blocks.
            prune_head: remove the head too. It is removed in any case if the last stage is.
        """
        taken = take_indices(len(self.feature_info), indices)
        depth = max(self._depths(taken))
        if prune_head or depth < len(self.stages):
            # What is left behaves like a network without head and classifier, as timm expects.
            del self.stages[depth:]
            self.num_features = self.head_hidden_size = self.feature_info[max(taken)]["num_chs"]
            self.head = PoolHead(self.num_features, None).train(self.training)
            self.reset_classifier(0, "")
        return taken

    @python_only
    def get_classifier(self) -> nn.Module:
        """Return the last layer: a linear layer, or an identity if num_classes is 0."""
        return self.classifier

    @python_only
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one for `num_classes` classes, or by none for 0.

        Args:
            global_pool: the new pooling; None keeps it.

        Raises:
            InputError: a negative number, an unknown pooling, or classes without pooling. Nothing is changed then.
        """
        pool = self.global_pool if global_pool is None else global_pool
        _check_classifier(num_classes, pool)  # before anything changes
        self.num_classes, self.global_pool = num_classes, pool
        self.head.pool = pooling(pool).train(self.training)
        self.classifier = nn.Identity()
        if num_classes:
            like = self.stem.conv.weight  # the new layer must be where the network is, in the network's type
            self.classifier = nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
        self.classifier.train(self.training)

    @python_only
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks' activations in the backward pass instead of keeping them: less memory, same numbers."""
        self.grad_checkpointing = enable
        checkpoint_stages(self.stages, enable)

    @python_only
    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that weight decay should leave out: biases and the parameters of norms."""
        # Biases and the parameters of norms are vectors, and nothing else is.
        return {name for name, parameter in self.named_parameters() if parameter.dim() == 1}

    @python_only
    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return patterns that group parameters for layer-wise learning rates: by block, or by stage if `coarse`."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def _depths(self, indices: list[int]) -> list[int]:
        depths = self.feature_info.depths()
        return [depths[i] for i in indices]


def _check_classifier(num_classes: int, global_pool: str) -> None:
    if type(num_classes) is not int or num_classes < 0:  # `type` also refuses True
        raise InputError(f"num_classes is {num_classes!r}; allowed: whole numbers from 0 (no classifier)")
    if global_pool not in GLOBAL_POOLS:
        raise InputError(f"global_pool is {global_pool!r}; allowed: {', '.join(map(repr, GLOBAL_POOLS))}")
    if num_classes and not global_pool:
        raise InputError(
            f"global_pool is '', which means no pooling, but {num_classes} classes need it: give 'avg', 'max' or 'avgmax'"
        )


def initialise(network: nn.Module) -> None:
    """Initialise the weights as the released code does: He normal by output fan, and residual branches start at zero."""
    for name, module in network.named_modules():
        # The released code leaves this convolution, which sets the gates, at torch's initialisation.
        if isinstance(module, nn.Conv2d) and not name.endswith("se.expand"):
            # Also for depthwise convolutions: the released code counts all C output channels there, not one per group.
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # A block that starts as the identity lets a deep network train from the first step.
    for module in network.modules():
        if isinstance(module, InvertedResidual) and module.residual and isinstance(module.project.bn, nn.BatchNorm2d):
            nn.init.zeros_(module.project.bn.weight)


def build_stage(rows: Sequence[Block], cin: int, rates: Iterator[float] | None = None) -> Stage:
    """Return the blocks of `rows` on a map of `cin` channels. Each takes the next rate of stochastic depth; None is 0."""
    rates = itertools.repeat(0.0) if rates is None else rates
    stage = Stage()
    for row in rows:
        for i in range(row.n):
            # Every block takes a rate, also those that are not residual, because the rule counts all blocks.
            stride, rate = row.s if i == 0 else 1, next(rates)
            if row.block == "conv":
                stage.append(ConvNormAct(cin, row.c, row.k, stride, row.padding, bias=True, act=row.act))
            else:
                stage.append(InvertedResidual(cin, row, stride, rate))
            cin = row.c
    return stage


def _stages(arch: Arch, stochastic_depth: float) -> nn.Sequential:
    """Return the blocks of `arch`. The rate of stochastic depth grows linearly with the block's index, from 0."""
    count = sum(row.n for row in arch.rows)
    rates = (stochastic_depth * index / count for index in range(count))
    inputs = (arch.stem.c, *(rows[-1].c for rows in arch.stages))  # one more than stages: the last one's output
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
    """Return a network with new weights, drawn from torch's global generator.

    Args:
        arch: the name of a released network (one of `list_models()`, or fbnetv3_a0), or any architecture.
        num_classes: 0 for no classifier: the network returns what the classifier would see.
        dropout: rate before the classifier, in [0, 1).
        stochastic_depth: rate that the last block would have, in [0, 1). It applies per sample, to residual blocks only.
        global_pool: avg, max, avgmax (their mean), or, without a classifier, "" for an unpooled map.
        features_only: return a network whose output is a list of maps, by default one for each resolution.
        out_indices: which maps: indices (negative ones count from the end), or n for the last n. Nothing deeper is built.

    Raises:
        InputError: an unknown name, or a rate, a number or an index out of range.
    """
    if out_indices is not None and not features_only:
        raise InputError(f"out_indices is {out_indices!r}, which chooses feature maps, so it needs features_only")
    if not isinstance(arch, Arch):
        arch = find_arch(arch)
    # A feature network takes its modules from a full one, so that a seed gives both the same weights.
    model = FBNetV3(arch, num_classes, in_chans, dropout, stochastic_depth, global_pool)
    return FeatureNet(model.stem, model.stages, model.feature_info, out_indices) if features_only else model


def list_models() -> list[str]:
    """Return the names of the paper's networks, smallest first."""
    return list(ARCHS)
