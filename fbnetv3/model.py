"""A network from an architecture; knows no weights (those are `fbnetv3.hub`'s)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from fbnetv3.arch import ARCHS, Arch, find_arch
from fbnetv3.errors import InputError
from fbnetv3.layers import ConvNormAct, InvertedResidual, PoolHead


class FBNetV3(nn.Module):
    """Stem, stages of blocks, head, classifier: section 3.5 and Table 2 of the paper.

    `stages[i][j]` is block j of stage i. Input [N, in_chans, H, W] of any size that survives the strides, output logits
    [N, num_classes].
    """

    def __init__(
        self,
        arch: Arch,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        for name, rate in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
            if not 0.0 <= rate < 1.0:
                raise InputError(f"{name} is {rate}; allowed: 0 <= {name} < 1")
        for name, count in (("num_classes", num_classes), ("in_chans", in_chans)):
            if type(count) is not int or count < 1:
                raise InputError(f"{name} is {count!r}; allowed: whole numbers from 1")
        self.arch = arch
        self.num_classes = num_classes
        stem = arch.stem
        self.stem = ConvNormAct(in_chans, stem.c, stem.k, stem.s, stem.padding, bias=True, act=stem.act)
        cin, index, count = stem.c, 0, sum(row.n for row in arch.rows)
        self.stages = nn.Sequential()
        for rows in arch.stages:
            stage = nn.Sequential()
            for row in rows:
                for i in range(row.n):
                    stride = row.s if i == 0 else 1
                    if row.block == "conv":
                        stage.append(ConvNormAct(cin, row.c, row.k, stride, row.padding, bias=True, act=row.act))
                    else:
                        # The rate grows linearly with the block's index, from 0.
                        stage.append(InvertedResidual(cin, row, stride, stochastic_depth * index / count))
                    cin, index = row.c, index + 1
            self.stages.append(stage)
        self.head = nn.AdaptiveAvgPool2d(1) if arch.head is None else PoolHead(cin, arch.head)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(arch.features, num_classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, in_chans, H, W] to logits [N, num_classes]."""
        features = self.head(self.stages(self.stem(x))).flatten(1)
        return self.classifier(self.dropout(features))  # type: ignore[no-any-return]

    def _initialise(self) -> None:
        """The released initialisation: He normal by output fan; a residual branch starts at zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("se.expand"):
                # Depthwise too: fan_out = C * k * k there, as the released code has it.
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, InvertedResidual) and module.residual:
                nn.init.zeros_(module.project.bn.weight)  # type: ignore[arg-type]


def build_model(
    arch: str | Arch, num_classes: int = 1000, in_chans: int = 3, dropout: float = 0.0, stochastic_depth: float = 0.0
) -> FBNetV3:
    """Build a network with fresh weights from torch's global generator.

    Args:
        arch: a released name (`list_models()`), or any architecture.
        dropout: rate before the classifier, in [0, 1).
        stochastic_depth: rate that the last block would have, in [0, 1); per sample, residual blocks only.

    Raises:
        InputError: unknown name, rate or count out of range.
    """
    if not isinstance(arch, Arch):
        arch = find_arch(arch)
    return FBNetV3(arch, num_classes, in_chans, dropout, stochastic_depth)


def list_models() -> list[str]:
    """Names of the networks of the paper, smallest first."""
    return list(ARCHS)
