"""A training step as a GPU would see it: nothing waits for the device, nothing is elsewhere, and it is a function of tensors.

On torch's meta device there are no values: whatever asks for one raises an error, and so does a tensor that is elsewhere.
"""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fbnetv3.training.engine import Engine
from fbnetv3.training.network.factory import build
from fbnetv3.training.step_losses import StepLosses
from fbnetv3.training.trainer import Trainer
from tests.training.examples import DATA, RECIPE, first, new_model

FEW = dataclasses.replace(DATA, train=first(DATA.train, 100))  # two steps
PLAIN = RECIPE.replace(mixup=0.0, dropout=0.0, stochastic_depth=0.0, ema=False, label_smoothing=0.0)
FEATURES = {
    "sgd": (PLAIN.replace(optimizer="sgd"), {}),
    "nesterov": (PLAIN.replace(optimizer="sgd", nesterov=True, decay_norm_bias=False), {}),
    "rmsprop": (PLAIN, {}),
    "rmsprop_tf": (PLAIN.replace(optimizer="rmsprop_tf"), {}),
    "mixup": (PLAIN.replace(mixup=0.3), {}),
    "dropout and stochastic depth": (PLAIN.replace(dropout=0.2, stochastic_depth=0.3), {}),
    "moving average": (PLAIN.replace(ema=True), {}),
    "label smoothing": (PLAIN.replace(label_smoothing=0.1), {}),
    "distillation": (PLAIN.replace(distillation=0.5, distillation_temperature=2.0), {}),
    "clipping": (PLAIN.replace(clip_norm=1.0), {}),
    "parts": (PLAIN, {"accumulate": 2}),
    "all": (RECIPE.replace(distillation=0.5, clip_norm=1.0), {"accumulate": 2}),
}
EACH = pytest.mark.parametrize("feature", FEATURES)


class HostReads(TorchDispatchMode):
    """Counts how often the host asks for the value of a tensor, which makes it wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")
        return func(*args, **(kwargs or {}))


def start(feature, device="cpu", precision="fp32", model=new_model):
    recipe, engine = FEATURES[feature]
    return Trainer.start(
        model(recipe), recipe, FEW, seed=7, engine=Engine(device, precision, **engine), teacher=new_model(seed=9)
    )


def batch(count=50, device="cpu"):
    return torch.rand(count, 1, 28, 28, device=device), torch.arange(count, device=device) % 10


@EACH
def test_an_epoch_asks_for_no_value(feature, monkeypatch):
    trainer = start(feature, "meta")
    assert {tensor.device.type for tensor in trainer.state.model.state_dict().values()} == {"meta"}
    steps = []
    monkeypatch.setattr(StepLosses, "fetch", lambda losses: 0.0)  # where values are asked for, rarely
    trainer.train_epoch(0, None, lambda _epoch, _step, losses: steps.append(losses.waiting[-1][0]))
    assert [(loss.device.type, len(loss)) for loss in steps] == [("meta", trainer.engine.accumulate)] * 2


@pytest.mark.parametrize("name", ["resnet18_wide", "timm:mobilenetv3_small_050", "torchvision:shufflenet_v2_x0_5"])
def test_networks_with_hooks_and_of_others_ask_for_no_value(name):
    recipe = RECIPE.replace(distillation=0.0, batch_size=8)
    trainer = Trainer.start(build(name, recipe, 10, 3).model, recipe, rgb(), engine=Engine("meta"))
    rng = np.random.default_rng(0)
    for _ in range(2):  # the second step finds the state of the optimizer and of the average
        trainer.step(torch.rand(8, 3, 28, 28, device="meta"), torch.zeros(8, dtype=torch.long, device="meta"), rng)


def rgb():
    colours = {name: getattr(DATA, name) for name in ("train", "val", "test")}
    return dataclasses.replace(
        DATA,
        **{
            n: dataclasses.replace(s, images=s.images[:16].repeat(1, 3, 1, 1), labels=s.labels[:16])
            for n, s in colours.items()
        },
    )


def test_the_meta_device_finds_what_waits():
    trainer = start("sgd", "meta")
    trainer.state.model.register_forward_hook(lambda _module, _args, logits: logits.sum().item())
    with pytest.raises(RuntimeError, match="meta"):
        trainer.step(*batch(device="meta"), np.random.default_rng(0))


@EACH
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_step_reads_nothing_back(feature, precision):
    trainer, rng = start(feature, precision=precision), np.random.default_rng(0)
    trainer.network.train()
    with HostReads() as reads:
        for _ in range(2):
            trainer.step(*batch(), rng)
    assert reads.count == 0


def test_the_scaler_of_fp16_reads_once_a_step():
    # torch's optimizers leave out a step only if the host knows of an infinite gradient, except the fused ones: there is no
    # fused RMSprop, and fused SGD rounds otherwise.
    trainer, rng = start("all", precision="fp16"), np.random.default_rng(0)
    with HostReads() as reads:
        for _ in range(2):
            trainer.step(*batch(), rng)
    assert reads.count == 2


def test_reads_are_counted():
    with HostReads() as reads:
        total = torch.ones(3).sum()
        assert total.item() == 3.0
        assert total > 1
    assert reads.count == 2


def test_a_step_does_not_depend_on_how_the_mixup_weight_is_given():
    results = []
    for weight in (0.25, torch.tensor(0.25)):
        trainer = start("all")
        trainer.network.train()
        torch.manual_seed(3)
        losses = trainer.backward(*batch(), weight)
        trainer.update()
        results.append([losses, *trainer.state.model.state_dict().values()])
    for number, tensor in zip(*results, strict=True):
        torch.testing.assert_close(tensor, number, rtol=1e-5, atol=1e-6)


def test_the_device_part_of_a_step_is_a_function_of_tensors():
    # What a CUDA graph records must do the same again: no number of the host may change from call to call.
    trainer, (x, labels) = start("all"), batch()
    trainer.network.train()
    torch.manual_seed(3)
    buffers = copy.deepcopy(dict(trainer.state.model.named_buffers()))
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        for name, buffer in trainer.state.model.named_buffers():
            buffer.copy_(buffers[name])
        losses = trainer.backward(x, labels, torch.tensor(0.25))
        results.append([losses, *(parameter.grad.clone() for parameter in trainer.state.model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_inputs_get_the_layout_of_the_weights():
    seen = []
    trainer = start("sgd", "meta")
    trainer.network.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    trainer.step(torch.rand(50, 3, 28, 28, device="meta")[:, :1], batch(device="meta")[1], np.random.default_rng(0))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_a_teacher_is_not_moved_by_the_training():
    trainer = start("distillation")
    assert isinstance(trainer.teacher, nn.Module)
    before = copy.deepcopy(trainer.teacher.state_dict())
    trainer.step(*batch(), np.random.default_rng(0))
    assert all(torch.equal(before[key], value) for key, value in trainer.teacher.state_dict().items())
