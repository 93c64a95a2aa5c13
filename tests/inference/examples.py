"""A small network with one of each kind of block, which looks trained, and images for it."""

import torch
from torch import nn

from fbnetv3 import Arch, Block, build_model

# Plain convolutions, residuals, both kinds of squeeze-and-excitation, an odd padding, ReLU, a depthwise without norm.
ARCH = Arch(
    "tiny",
    32,
    Block("conv", 8, k=3, s=2),
    (
        (Block("conv", 8, k=3), Block("ir", 8, k=3, n=2, e=2)),
        (
            Block("ir", 16, k=5, e=2, s=2, se=True, pad=1),
            Block("ir", 16, k=3, e=2, se=True, act="relu", se_from="expanded"),
            Block("ir", 16, k=3, e=2, dw_norm_act=False),
        ),
    ),
    Block("pool", 24, e=2),
)
NO_HEAD = Arch("bare", 32, Block("conv", 8, k=3, s=2, act="relu"), ((Block("ir", 8, k=3, n=2, se=True),),), None)


def trained_like(arch=ARCH, seed=0, in_chans=3):
    """A network in train mode whose batch norms do something."""
    torch.manual_seed(seed)
    model = build_model(arch, 10, in_chans, dropout=0.5, stochastic_depth=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def images(n, side=32, seed=1):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def logits(model, x):
    with torch.no_grad():
        return model.eval()(x)
