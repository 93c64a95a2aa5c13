"""The network of the recipe-only search: it costs what its rows say, and a recipe applies to it."""

import pytest
import torch
from torch import nn

from fbnetv3.recipes.fbnetv2 import fbnetv2_l3
from fbnetv3.training.network.build import build


def test_it_costs_what_the_rows_do():
    model, flops = fbnetv2_l3().eval(), 0

    def count(module, inputs, output):
        nonlocal flops
        pooled = isinstance(module, nn.AdaptiveAvgPool2d)
        flops += inputs[0].numel() if pooled else module.weight.numel() * output[0, 0].numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    pools = [module for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    for module in (*layers, *pools):
        module.register_forward_hook(count)
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 288, 288))
    assert logits.shape == (1, 1000)
    flops += 1984  # the head's second pool, a no-op that the published convention counts
    params = sum(module.weight.numel() for module in layers)
    assert (round(flops / 1e6, 1), round(params / 1e6, 3)) == (750.7, 9.402)  # as fbnetv2_l3_rows.yaml says


def test_a_recipe_applies_to_it():
    applied = build("fbnetv3.recipes.fbnetv2:fbnetv2_l3", 7, 1, dropout=0.2, stochastic_depth=0.1)
    assert applied.dropout == "0.2, wrapper before classifier"
    assert applied.stochastic_depth.startswith("0.1, wrapper on 18 residual branches")
    logits = applied.model(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 7)
    assert 0 < logits.std().item() < 10
    logits.sum().backward()
    assert all(p.grad is not None for p in applied.model.parameters())


@pytest.mark.parametrize("act", ["relu", "hard_swish"])
def test_activations_are_the_rows(act):
    kinds = {"relu": nn.ReLU, "hard_swish": nn.Hardswish}
    blocks = list(fbnetv2_l3().blocks)
    chosen = blocks[1] if act == "relu" else blocks[-2]
    assert isinstance(chosen.expand.act, kinds[act])
    assert isinstance(chosen.depthwise.act, kinds[act])
