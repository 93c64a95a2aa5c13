"""Where the classifier is, and which dropouts come before it."""

import pytest
import torch
from torch import nn

from fbnetv3.training.network.branches import find_branches
from fbnetv3.training.network.dropout import DropInput, find_classifier, is_timm
from fbnetv3.training.network.regularise import apply_regularisation
from tests.training.network.examples import Counted, Net, hooks, lin, small_resnet, within


def mlp_head(*extra):
    return Net(
        lambda s, x: s.head(s.body(x).flatten(1)),
        body=nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.3)),
        head=nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2), *extra),
    )


def test_the_input_of_the_classifier_is_dropped():
    n = 20000
    built = apply_regularisation(Counted(), dropout=0.25)
    assert built.dropout == "0.25, wrapper before fc"
    out = built.model.train()(torch.zeros(n, 4, 1, 1))
    assert sorted(out.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert within(int((out == 0).sum()), 4 * n, 0.25)


def test_the_hook_leaves_further_arguments_and_evaluation_alone():
    module, x = nn.Identity().train(), torch.ones(1000)
    dropped, other = DropInput(0.5)(module, (x, "other"))
    assert other == "other"
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert torch.equal(DropInput(0.5)(module.eval(), (x,))[0], x)


def test_dropouts_of_the_head_get_the_rate():
    model = mlp_head()
    built = apply_regularisation(model, 0.2)
    assert built.dropout == "0.2, set on the model's own head.0, head.3"
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.2, 0.2]
    assert "dropout head.0 had the rate 0.5, now 0.2" in built.notes
    assert "dropouts elsewhere in the model stay as they are: body.1" in built.notes
    assert not hooks(model)
    apply_regularisation(model, 0.0)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.0, 0.0]


def test_dropouts_before_and_inside_transformer_blocks_are_not_the_heads():
    block = Net(lambda s, x: x + s.f(x), f=nn.Sequential(lin(), nn.Dropout(0.1), lin(), nn.Dropout(0.1)))
    model = Net(
        lambda s, x: s.fc(s.block(s.drop(s.patch(x)))), patch=lin(), drop=nn.Dropout(0.1), block=block, fc=lin()
    )
    assert apply_regularisation(model, 0.2).dropout == "0.2, wrapper before fc"
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("model", "classifier"),
    [
        (small_resnet, "fc"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)), "1"),  # without a linear layer
        (lambda: nn.Sequential(nn.Linear(3, 8), nn.Conv2d(8, 2, 3)), None),  # a layer of the body follows
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), None),
    ],
    ids=["linear", "1x1", "followed", "none"],
)
def test_the_classifier_is_found(model, classifier):
    model = model()
    assert find_classifier(model, find_branches(model))[0] == classifier


def test_a_layer_of_the_body_is_no_classifier():
    model = Net(lambda s, x: s.block(s.patch(x)), patch=lin(), block=Net(lambda s, x: x + s.f(x), f=lin()))
    built = apply_regularisation(model, 0.2, 0.2)
    assert built.dropout == "not applied: no linear classifier found"
    assert built.stochastic_depth == "not applied: only one residual branch found"


def test_timms_functional_dropout_is_set_in_an_existing_model():
    import timm

    model = timm.create_model("resnet10t", num_classes=3)
    assert is_timm(model)
    assert not is_timm(small_resnet())
    assert apply_regularisation(model, 0.3).dropout == "0.3, set on the model's own drop_rate"
    assert model.drop_rate == 0.3
    assert not hooks(model)
