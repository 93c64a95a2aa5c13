"""What hooks must not change: keys, evaluation, copies, other people's hooks."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fbnetv3 import InputError
from fbnetv3.training.network.regularise import apply_regularisation, hooks_kept
from fbnetv3.training.network.stochastic_depth import stochastic_depth_rates
from tests.training.network.examples import Counted, Net, hooks, lin, small_resnet


def test_keys_and_eval_outputs_are_those_of_the_bare_model():
    bare = small_resnet().eval()
    model = apply_regularisation(copy.deepcopy(bare), 0.5, 0.5).model.eval()
    x = torch.rand(3, 3, 32, 32)
    assert list(model.state_dict()) == list(bare.state_dict())
    assert [n for n, _ in model.named_modules()] == [n for n, _ in bare.named_modules()]
    assert torch.equal(model(x), bare(x))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model(x)
    assert torch.equal(torch.get_rng_state(), state)  # evaluation draws nothing
    model.train()
    assert not torch.equal(model(x), bare.train()(x))


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: AveragedModel(m)],
    ids=["deepcopy", "pickle", "average"],
)
def test_a_copy_keeps_its_rates_when_the_original_changes(copied):
    model = apply_regularisation(Counted(), 0.5, 0.4).model.train()
    twin = copied(model).train()
    x = torch.zeros(64, 4, 1, 1)
    torch.manual_seed(3)
    out = twin(x)
    torch.manual_seed(3)
    assert torch.equal(model(x), out)
    assert (out == 0).any()
    apply_regularisation(model)  # must not reach the copy
    assert (model(x) == 1).all()
    assert (twin(x) == 0).any()
    assert (twin.eval()(x) == 1).all()


def test_another_call_replaces_the_rates():
    model = small_resnet()
    handle = model.fc.register_forward_pre_hook(lambda module, args: None)
    for _ in range(2):
        apply_regularisation(model, 0.1, 0.2)
        assert len(hooks(model)) == 4
    apply_regularisation(model, 0.3, 0.4)
    assert [h.rate for h in hooks(model)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    built = apply_regularisation(model)
    assert hooks(model) == []
    assert (built.dropout, built.stochastic_depth, built.complete) == ("off", "off", True)
    assert handle.id in model.fc._forward_pre_hooks  # other people's hooks stay


def test_hooks_survive_a_conversion_that_replaces_modules():
    model = apply_regularisation(small_resnet(), 0.1, 0.4).model
    with hooks_kept(model):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model.fc = nn.Linear(512, 5)
    assert isinstance(model.layer4[0].bn2, nn.SyncBatchNorm)
    assert stochastic_depth_rates(model) == pytest.approx(
        {"layer2.0.bn2": 0.1, "layer3.0.bn2": 0.2, "layer4.0.bn2": 0.3}
    )
    assert [h.rate for h in model.fc._forward_pre_hooks.values()] == [0.1]


def test_a_compiled_model_drops_in_training_alone():
    model = apply_regularisation(Counted(), 0.0, 0.4).model
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.zeros(200, 4, 1, 1)
    assert (compiled.train()(x) == 0).any()
    assert (compiled.eval()(x) == 1).all()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((1.0, 0.0), r"dropout is 1\.0; allowed: 0 <= dropout < 1"),
        ((0.0, -0.1), r"stochastic_depth is -0\.1; allowed"),
        ((0.0, math.nan), "stochastic_depth is nan; allowed"),
        (("0.2", 0.0), "dropout is '0.2'; allowed"),
        ((True, 0.0), "dropout is True; allowed"),
    ],
)
def test_a_rate_out_of_range_is_refused(rates, message):
    model = Counted()
    with pytest.raises(InputError, match=message):
        apply_regularisation(model, *rates)
    assert not hooks(model)


def test_strict_is_an_error_where_a_rate_cannot_be_applied():
    model = Net(lambda s, x: s.block(s.patch(x)), patch=lin(), block=Net(lambda s, x: x + s.f(x), f=lin()))
    assert not apply_regularisation(model, 0.2, 0.2).complete
    with pytest.raises(InputError, match="cannot be applied to this model completely:\nmodel: Net\ndropout: not appl"):
        apply_regularisation(model, 0.2, 0.2, strict=True)
    assert apply_regularisation(model, strict=True).complete
