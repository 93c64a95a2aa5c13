"""The networks compiled, exported, traced, scripted, copied and in other layouts, types and devices."""

import copy
import pickle

import pytest
import torch

from fbnetv3 import build_model
from fbnetv3.arch import ARCH_A0
from tests.test_arch import TINY
from tests.test_model import HEADLESS, images, lively, same

A0 = pytest.param(ARCH_A0, marks=pytest.mark.slow)  # a deep one; the small ones have each of its kinds of blocks
EACH = pytest.mark.parametrize("arch", [TINY, HEADLESS, A0], ids=lambda arch: arch.name)


@EACH
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript(arch):
    model, x = lively(arch, dropout=0.2, stochastic_depth=0.3), images()
    scripted = torch.jit.script(model)
    for mode in (True, False):
        results = []
        for net in (model.train(mode), scripted.train(mode)):
            torch.manual_seed(5)
            results.append(net(x))
        same(*results)
    assert scripted.no_weight_decay() == model.no_weight_decay()
    same(torch.jit.trace(model.eval(), x)(images(2, 64)), model(images(2, 64)))


@EACH
def test_fx(arch):
    x = images()
    for mode in (True, False):
        model = lively(arch, dropout=0.2, stochastic_depth=0.3).train(mode)
        graph = torch.fx.symbolic_trace(copy.deepcopy(model))
        results = []
        for net in (model, graph):
            torch.manual_seed(5)
            results.append(net(x))
        assert torch.equal(*results)


@EACH
def test_export_with_any_batch_and_size(arch):
    model = lively(arch).eval()
    batch, height, width = (
        torch.export.Dim("batch"),
        torch.export.Dim("height", min=33),
        torch.export.Dim("width", min=33),
    )
    exported = torch.export.export(model, (images(2, 64),), dynamic_shapes=({0: batch, 2: height, 3: width},)).module()
    for x in (images(3, 48), images(1, 96)[:, :, :80]):
        same(exported(x), model(x))


@pytest.mark.parametrize("arch", [TINY, A0], ids=lambda arch: arch.name)
def test_compile(arch):
    model, x = lively(arch).eval(), images()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        same(compiled(x), model(x))


@pytest.mark.slow
def test_compile_a_training_step():
    model = lively(TINY)
    plain = copy.deepcopy(model)
    for net in (plain, torch.compile(model, fullgraph=True)):
        net.train()(images()).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3, msg=name)
    for a, b in zip(plain.buffers(), model.buffers(), strict=True):
        same(a, b)


@EACH
def test_copies_and_memory_layouts(arch):
    model, x = lively(arch).eval(), images()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert twin.arch == arch
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    same(last(x.to(memory_format=torch.channels_last)), model(x))


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(arch, dtype):
    model = lively(arch).eval()
    full, half = model(images()), copy.deepcopy(model).to(dtype)(images().to(dtype))
    assert half.dtype == dtype
    assert (half.float() - full).norm() < 0.1 * full.norm()


def test_meta_device():
    with torch.device("meta"):
        model = build_model(ARCH_A0)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)
    model.reset_classifier(3)
    assert model.classifier.weight.is_meta
