"""The networks against numbers that the released code gave: logits, every block, training statistics, FLOPs, params."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch

import fbnetv3
from fbnetv3.arch import ARCH_A0, ARCHS
from fbnetv3.complexity import cost
from fbnetv3.hub.registry import read_registry
from tests.places import ROOT

HERE = ROOT / "tests" / "reference"
FIXTURES = json.loads((HERE / "official_logits.json").read_text())["models"]


def reference_state(name):
    fixture = FIXTURES[name]
    keys = json.loads((HERE / f"mobile_cv_{name}.keys.json").read_text())
    state, digest = {}, hashlib.sha256()
    for i, (key, shape) in enumerate(keys):
        rng = np.random.default_rng([fixture["seed"], i])
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "num_batches_tracked":
            value = np.zeros(shape, np.int64)
        elif leaf == "running_var":
            value = 0.5 + rng.random(shape)
        elif leaf in ("running_mean", "bias"):
            value = 0.1 * rng.standard_normal(shape)
        elif len(shape) == 1:
            value = 1 + 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * (fixture["gains"][key] / math.sqrt(math.prod(shape[1:])))
        value = value if value.dtype == np.int64 else value.astype(np.float32)
        digest.update(key.encode() + value.tobytes())
        state[key] = torch.from_numpy(np.asarray(value))
    assert digest.hexdigest() == fixture["state_check"]["sha256"], "the fixture's state was generated wrongly"
    return state


def reference_input(case, seed):
    h, w = case["height"], case["width"]
    rng = np.random.default_rng([seed, 1000000, h, w])
    fine, coarse = rng.standard_normal((2, 3, h, w)), rng.standard_normal((2, 3, h // 8, w // 8))
    x = (fine + coarse.repeat(8, 2).repeat(8, 3) + rng.standard_normal((2, 3, 1, 1))).astype(np.float32)
    assert hashlib.sha256(x.tobytes()).hexdigest() == case["input_sha256"], "the fixture's input was generated wrongly"
    return torch.from_numpy(x).double()


def reference_model(name):
    ours = name.lower()
    model = fbnetv3.build_model(ours)
    model.load_state_dict(fbnetv3.hub.convert_mobile_cv(reference_state(name), ours))
    return model.double().eval()


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FIXTURES)
def test_logits_and_block_trace(name):
    fixture, model = FIXTURES[name], reference_model(name)
    blocks = {"xif0_0": model.stem, f"xif{len(model.stages) + 1}_0": model.head}
    blocks |= {f"xif{i + 1}_{j}": block for i, stage in enumerate(model.stages) for j, block in enumerate(stage)}
    norms = {}
    for key, module in blocks.items():
        module.register_forward_hook(
            lambda _m, _i, out, key=key: norms.__setitem__(key, (list(out.shape), out.norm().item()))
        )
    for i, case in enumerate(fixture["cases"]):
        with torch.no_grad():
            logits = model(reference_input(case, fixture["seed"]))
        if i == 0:
            assert [key for key, *_ in fixture["block_trace"]] == list(norms)
            for key, shape, norm in fixture["block_trace"]:
                assert norms[key][0] == shape, key
                close(norms[key][1], norm)
        close(logits[:, :16], case["logits_first_16"])
        close(logits.norm(), case["logits_l2"])


@pytest.mark.parametrize("name", FIXTURES)
def test_one_forward_in_training_mode(name):
    fixture, model = FIXTURES[name], reference_model(name).train()
    with torch.no_grad():
        logits = model(reference_input(fixture["cases"][0], fixture["seed"]))
    expected = fixture["train_forward"]
    close(logits[:, :16], expected["logits_first_16"])
    close(logits.norm(), expected["logits_l2"])
    state = model.state_dict()
    for leaf in ("running_mean", "running_var"):
        close(sum(v.sum().item() for k, v in state.items() if k.endswith(leaf)), expected[f"sum_{leaf}_after"])


# Measured with the released code's own networks (eval, batch 1): fvcore's total and the count of all parameters.
FVCORE = {
    "fbnetv3_a": (369747432, 8598480),
    "fbnetv3_b": (478081448, 8598480),
    "fbnetv3_c": (576727712, 9973816),
    "fbnetv3_d": (665656672, 10306296),
    "fbnetv3_e": (785869248, 10772896),
    "fbnetv3_f": (1214645832, 13896160),
    "fbnetv3_g": (2181673984, 16623920),
}


@pytest.mark.parametrize("name", fbnetv3.list_models())
def test_published_flops_and_params_exactly(name):
    published, count = read_registry().find(name, "fb"), cost(ARCHS[name])
    assert count.flops() == round(published.flops_m * 1e6)
    assert count.params() == round(published.params_m * 1e6)


@pytest.mark.parametrize("name", fbnetv3.list_models())
def test_built_model_counts_as_the_closed_form(name):
    from fvcore.nn import FlopCountAnalysis

    arch, model = ARCHS[name], fbnetv3.build_model(name).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 3, arch.resolution, arch.resolution))
    by_operator = counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    closed = cost(arch)
    assert sum(by_operator.values()) == closed.flops("fvcore")
    assert by_operator["conv"] + by_operator["linear"] == closed.conv
    assert by_operator["adaptive_avg_pool2d"] == closed.pool
    assert by_operator["batch_norm"] == 2 * closed.norm
    assert closed.flops() - closed.conv - closed.pool == 1984
    assert sum(p.numel() for p in model.parameters()) == closed.params("fvcore") == FVCORE[name][1]
    weights = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(weights) == closed.params()
    assert FVCORE[name][0] - closed.flops("fvcore") == 1984  # the no-op pool that is not built here


def test_a0_counts_as_measured():
    count = cost(ARCH_A0)
    assert (count.flops(), count.params(), count.params("fvcore")) == (218578288, 6275532, 6309976)
