"""Small networks whose branches and dropouts can be counted by hand."""

import math

import torch
from torch import nn

from fbnetv3.training.network.dropout import DropInput
from fbnetv3.training.network.stochastic_depth import DropBranch
from fbnetv3.training.recipe import Recipe


def rates(dropout=0.0, stochastic_depth=0.0):
    """A recipe of which only these rates matter."""
    return Recipe("sgd", 0.1, 1, 2, dropout=dropout, stochastic_depth=stochastic_depth)


def bias_only(i, n):
    """A convolution of n channels that gives 1 in channel i for every input."""
    conv = nn.Conv2d(n, n, 1)
    nn.init.zeros_(conv.weight)
    conv.bias.data = torch.eye(n)[i]
    return conv


class Residual(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return x + self.conv(x)


class Counted(nn.Module):
    """Logit i of an all-zero image is what branch i added."""

    def __init__(self, n=4):
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(bias_only(i, n)) for i in range(n)))
        self.fc = nn.Linear(n, n)
        self.fc.weight.data, self.fc.bias.data = torch.eye(n), torch.zeros(n)

    def forward(self, x):
        return self.fc(self.blocks(x).mean((2, 3)))


class Net(nn.Module):
    """Parts by name, and a forward pass that the test gives."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


class DropPath(nn.Module):
    """As people copy it from timm."""

    def __init__(self, drop_prob=None):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return x


def lin():
    return nn.Linear(4, 4)


def two():
    return nn.Sequential(lin(), nn.ReLU(), lin())


def small_resnet(classes=5):
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], classes)


def hooks(model):
    """The hooks that this package put into the model."""
    every = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return [h for h in every if isinstance(h, (DropBranch, DropInput))]


def within(count, n, p):
    """Whether a count is within five standard deviations of the binomial distribution."""
    return abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))
