"""FBNetV2-L3, the network of the recipe-only search of section 4.1, from the candidate rows in `fbnetv2_l3_rows.yaml`.

    fbnetv3 train --model fbnetv3.recipes.fbnetv2:fbnetv2_l3 --recipe imagenet/fbnetv2_l3_recipe_only_proxy \\
        --resolution 288 --data IMAGENET --out DIR

Unverified, as the rows are: neither weights nor logits were compared with the authors'. What the rows leave open is as in
FBNetV3's released code: the activation inside squeeze-and-excitation is the row's, its gate a hard sigmoid, norms follow every
convolution but the head's last; a `skip` that changes the width is convolution and norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbnetv3.arch import Block
from fbnetv3.complexity import round_width
from fbnetv3.layers import ConvNormAct, PoolHead, SqueezeExcitation
from fbnetv3.schema import load_yaml

ROWS = Path(__file__).with_name("fbnetv2_l3_rows.yaml")
_ACTS = {"relu": "relu", "hard_swish": "hswish"}


class FBNetV2(nn.Module):
    """Stem, blocks, pooling head, classifier from such rows; logits [N, num_classes] of images [N, in_chans, H, W]."""

    def __init__(self, data: Mapping[str, Any], num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        stem, head, width = data["stem"], data["head"], data["stem"]["c"]
        self.stem = ConvNormAct(in_chans, width, stem["k"], stem["s"], stem["k"] // 2, act=_ACTS[stem["act"]])
        blocks: list[nn.Module] = []
        for row in data["rows"]:
            if row["op"] == "ir":
                blocks.append(_InvertedResidual(width, row))
            elif row["c"] != width:
                blocks.append(ConvNormAct(width, row["c"]))
            width = row["c"]
        self.blocks = nn.Sequential(*blocks)
        self.head = PoolHead(width, Block("pool", head["c"], e=head["e"], act=_ACTS[head["act"]]))
        self.classifier = nn.Linear(head["c"], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.head(self.head.expand(self.blocks(self.stem(x))))
        return self.classifier(torch.flatten(x, 1))  # type: ignore[no-any-return]


class _InvertedResidual(nn.Module):
    """As `layers.InvertedResidual`, but the expansion is a fraction and the squeeze a quarter of the expanded width."""

    def __init__(self, cin: int, row: Mapping[str, Any]) -> None:
        super().__init__()
        mid, act = int(round_width(cin * row["e"])), _ACTS[row["act"]]
        self.residual = row["s"] == 1 and cin == row["c"]
        self.expand = ConvNormAct(cin, mid, act=act) if mid != cin else nn.Identity()
        self.depthwise = ConvNormAct(mid, mid, row["k"], row["s"], row["k"] // 2, mid, act=act)
        self.se = SqueezeExcitation(mid, round_width(mid, 4), act) if row["se"] else nn.Identity()
        self.project = ConvNormAct(mid, row["c"])

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.se(self.depthwise(self.expand(x))))
        return x + out if self.residual else out  # type: ignore[no-any-return]


def fbnetv2_l3(num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    """FBNetV2-L3 with fresh weights, for images of 288 x 288 pixels; see the module for what is not known."""
    return FBNetV2(load_yaml(ROWS, "table of rows"), num_classes, in_chans)
