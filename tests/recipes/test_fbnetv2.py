"""The network of the recipe-only search: it costs what its rows say, and a recipe applies to it."""

import pytest
import torch
import yaml
from torch import nn

from fbnetv3.complexity import round_width
from fbnetv3.recipes.fbnetv2 import ROWS, fbnetv2_l3
from fbnetv3.training.network.factory import build
from fbnetv3.training.recipe import Recipe


def test_it_costs_what_the_rows_file_says():
    with torch.device("meta"):  # shapes without computing
        model, flops = fbnetv2_l3().eval(), 0

    def count(module, inputs, output):
        nonlocal flops
        pooled = isinstance(module, nn.AdaptiveAvgPool2d)
        flops += inputs[0].numel() if pooled else module.weight.numel() * output[0, 0].numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    pools = [module for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    for module in (*layers, *pools):
        module.register_forward_hook(count)
    logits = model(torch.zeros(1, 3, 288, 288, device="meta"))
    assert logits.shape == (1, 1000)
    flops += 1984  # the head's second pool, a no-op that the published convention counts
    params = sum(module.weight.numel() for module in layers)
    assert (round(flops / 1e6, 1), round(params / 1e6, 3)) == (750.7, 9.402)  # as fbnetv2_l3_rows.yaml says


def test_a_recipe_applies_to_it():
    recipe = Recipe("sgd", 0.1, 1, 2, dropout=0.2, stochastic_depth=0.1)
    applied = build("fbnetv3.recipes.fbnetv2:fbnetv2_l3", recipe, 7, 1)
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


def test_the_candidate_rows_of_fbnetv2_l3_cost_nearly_what_is_quoted():
    data = yaml.safe_load(ROWS.read_text())
    params, flops = 0, 0

    def conv(cin, cout, k, side):
        nonlocal params, flops
        params += cin * cout * k * k
        flops += cin * cout * k * k * side * side

    width, side = data["stem"]["c"], data["resolution"] // 2
    conv(3, width, 3, side)
    for row in data["rows"]:
        before, width = width, row["c"]
        if row["op"] == "skip":
            if before != width:
                conv(before, width, 1, side)
            continue
        expanded = round_width(before * row["e"])
        if expanded != before:
            conv(before, expanded, 1, side)
        side //= row["s"]
        conv(1, expanded, row["k"], side)
        if row["se"]:
            conv(expanded, 2 * round_width(expanded / 4), 1, 1)
            flops += expanded * side * side
        conv(expanded, width, 1, side)
    last, wide = data["head"]["e"] * width, data["head"]["c"]
    conv(width, last, 1, side)
    flops += last * side * side + wide
    conv(last, wide, 1, 1)
    conv(wide, 1000, 1, 1)
    assert (round(flops / 1e6, 1), round(params / 1e6, 3)) == (750.7, 9.402)  # as the file says
    assert flops / 1e6 == pytest.approx(data["quoted"]["flops_m"], rel=0.005)
    assert params / 1e6 == pytest.approx(data["quoted"]["params_m"], rel=0.001)
