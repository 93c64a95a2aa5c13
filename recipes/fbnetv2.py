"""FBNetV2-L3, the network of the recipe-only search of section 4.1, built from the rows in `fbnetv2_l3_rows.yaml`.

    fbnetv3 train --model fbnetv3.recipes.fbnetv2:fbnetv2_l3 --recipe imagenet/fbnetv2_l3_recipe_only_proxy \\
        --resolution 288 --data IMAGENET --out DIR

The network is unverified, like its rows: neither weights nor logits were compared with the authors'. The rows leave some
things open, which are as in FBNetV3's released code: squeeze-and-excitation has the row's activation inside and a hard sigmoid
as its gate, and a norm follows every convolution except the head's last one. A `skip` row that changes the width is a
convolution and a norm.
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
    """A network of stem, blocks, pooling head and classifier, built from the content of a rows file."""

    def __init__(self, data: Mapping[str, Any], num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        stem, head, width = data["stem"], data["head"], data["stem"]["c"]
        self.stem = ConvNormAct(in_chans, width, stem["k"], stem["s"], stem["k"] // 2, act=_ACTS[stem["act"]])
        blocks: list[nn.Module] = []
        for row in data["rows"]:
            if row["op"] == "ir":
                blocks.append(_InvertedResidual(width, row))
            elif row["c"] != width:  # a `skip` row; one that keeps the width is the identity and needs no block
                blocks.append(ConvNormAct(width, row["c"]))
            width = row["c"]
        self.blocks = nn.Sequential(*blocks)
        # FBNetV3's head fits: it expands, pools, and then widens the pooled vector.
        self.head = PoolHead(width, Block("pool", head["c"], e=head["e"], act=_ACTS[head["act"]]))
        self.classifier = nn.Linear(head["c"], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the initialisation of FBNetV3's released code
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of images [N, in_chans, H, W]."""
        x = self.head(self.head.expand(self.blocks(self.stem(x))))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


class _InvertedResidual(nn.Module):
    """The block of `layers.InvertedResidual` with a fractional expansion and a squeeze to a quarter of the expanded width."""

    def __init__(self, cin: int, row: Mapping[str, Any]) -> None:
        super().__init__()
        mid, act = int(round_width(cin * row["e"])), _ACTS[row["act"]]
        self.residual = row["s"] == 1 and cin == row["c"]
        # An expansion of 1 has no convolution, as in the released code.
        self.expand = ConvNormAct(cin, mid, act=act) if mid != cin else nn.Identity()
        self.depthwise = ConvNormAct(mid, mid, row["k"], row["s"], row["k"] // 2, mid, act=act)
        self.se = SqueezeExcitation(mid, round_width(mid, 4), act) if row["se"] else nn.Identity()
        self.project = ConvNormAct(mid, row["c"])

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output [N, c, H / s, W / s] of a feature map [N, cin, H, W]."""
        out: Tensor = self.project(self.se(self.depthwise(self.expand(x))))
        return x + out if self.residual else out


def fbnetv2_l3(num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    """Build FBNetV2-L3 with fresh weights, for images of 288 x 288 pixels; the module says what is not known about it."""
    return FBNetV2(load_yaml(ROWS, "table of rows"), num_classes, in_chans)
