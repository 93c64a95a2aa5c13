"""Residual branches in forward passes that are written out, and what is no branch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fbnetv3.training.network.branches import find_branches, has_weight, rate_attribute
from tests.training.network.examples import DropPath, Net, lin, small_resnet, two

SUMS = {
    "identity": (lambda s, x: x + s.f(x), {"f": lin}, ["f"]),
    "in place, branch first": (lambda s, x: s.f(x).add_(x), {"f": lin}, ["f"]),
    "projection": (lambda s, x: s.p(x) + s.f(x), {"p": lin, "f": two}, ["f"]),
    "pre-norm": (lambda s, x: x + s.f(s.n(x)), {"n": lambda: nn.LayerNorm(4), "f": lin}, ["f"]),
    "two in sequence": (lambda s, x: s.g(y := x + s.f(x)) + y, {"f": lin, "g": lin}, ["f", "g"]),
    "parallel branches": (lambda s, x: x + s.f(x) + s.g(x), {"f": two, "g": lin}, ["f", "g"]),
    "scaled by a number": (lambda s, x: x + 0.1 * s.f(x), {"f": lin}, ["f"]),
    "activation and dropout after": (lambda s, x: F.dropout(F.relu(s.f(x)), 0.1) + x, {"f": lin}, ["f"]),
    "a relu used twice": (lambda s, x: s.r(s.g(s.r(s.f(x)))) + x, {"r": nn.ReLU, "f": lin, "g": lin}, ["g"]),
    "padded shortcut": (lambda s, x: F.pad(x[:, ::2], (1, 1)) + s.f(x), {"f": lin}, ["f"]),
    # Not residual, or nobody can know
    "equal terms": (lambda s, x: s.f(x) + s.g(x), {"f": lin, "g": lin}, []),
    "a norm as term": (lambda s, x: s.n(x) + s.f(x), {"n": lambda: nn.LayerNorm(4), "f": lin}, []),
    "branch used elsewhere": (lambda s, x: (x + (y := s.f(x))) * y, {"f": lin}, []),
    "gate": (lambda s, x: x * s.f(x), {"f": lin}, []),
    "picked from a list": (lambda s, x: (y := x.chunk(2, 1))[0] + s.f(y[1]), {"f": lin}, []),
    "control flow": (lambda s, x: x + s.f(x) if x.sum() > 0 else x, {"f": lin}, []),
}


@pytest.mark.parametrize("case", SUMS)
def test_branches_of_a_forward(case):
    run, parts, ends = SUMS[case]
    found = find_branches(Net(run, **{name: make() for name, make in parts.items()}))
    assert list(found.ends) == ends
    assert bool(found.untraced) == (case == "control flow")
    assert bool(found.left) == (
        case in ("equal terms", "a norm as term", "branch used elsewhere", "picked from a list")
    )


def test_an_optional_argument_is_at_its_default():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = lin()

        def forward(self, x, shortcut=None):
            shortcut = x if shortcut is None else shortcut
            return self.f(x) + shortcut

    assert list(find_branches(Block()).ends) == ["f"]


def test_a_position_embedding_is_no_shortcut():
    for run in (lambda s, x: s.f(x) + s.position, lambda s, x: s.f(x * s.position) + s.position):
        assert not find_branches(Net(run, f=lin(), position=nn.Parameter(torch.zeros(4)))).ends


def test_parallel_attention_and_mlp_are_two_branches():
    parts = {"attention": nn.MultiheadAttention(4, 2, batch_first=True), "mlp": two()}
    net = Net(lambda s, x: x + s.attention(x, x, x)[0] + s.mlp(x), **parts)
    assert list(find_branches(net).ends) == ["attention", "mlp"]


def test_the_branches_of_a_resnet_by_name_axis_and_content():
    model = small_resnet()
    found = find_branches(model)
    assert found.ends == {f"layer{i}.0.bn2": 0 for i in (1, 2, 3, 4)}
    assert id(model.layer2[0].conv2) in found.inside
    assert id(model.layer2[0].downsample[0]) not in found.inside
    assert (found.left, found.untraced) == ([], [])


def test_the_rate_of_a_stochastic_depth_is_known_by_class_and_attribute():
    class StochasticDepth(nn.Module):
        p = 0.1

    class Other(nn.Module):
        drop_prob = 0.1

    assert rate_attribute(DropPath()) == "drop_prob"
    assert rate_attribute(StochasticDepth()) == "p"
    assert rate_attribute(Other()) is None


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(3, 3, 1), True),
        (nn.MultiheadAttention(4, 2), True),
        (nn.LayerNorm(4), False),
        (nn.Sequential(nn.Linear(2, 2)), False),  # its child has weights, not the module itself
    ],
    ids=["conv", "attention", "norm", "container"],
)
def test_layers_with_weights(module, expected):
    assert has_weight(module) is expected
