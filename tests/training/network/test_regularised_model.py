"""The words about what was done to a model."""

import pytest
from torch import nn

from fbnetv3 import InputError
from fbnetv3.training.network.regularised_model import NOT_APPLIED, RegularisedModel, few


def built(dropout="off", depth="0.2, wrapper on 3 residual branches", *notes):
    return RegularisedModel(nn.Identity(), "timm:net", dropout, depth, notes)


def test_the_summary_is_a_line_for_each_fact():
    assert built("off", "0.2", "one", "two").summary().splitlines() == [
        "model: timm:net",
        "dropout: off",
        "stochastic depth: 0.2",
        "note: one",
        "note: two",
    ]


@pytest.mark.parametrize("place", ["dropout", "depth"])
def test_it_is_complete_if_both_rates_were_applied(place):
    assert built().complete
    missing = built(**{place: f"{NOT_APPLIED}: no place"})
    assert not missing.complete
    assert missing.checked(strict=False) is missing
    with pytest.raises(InputError, match=r"completely:\nmodel: timm:net\n"):
        missing.checked(strict=True)
    assert built().checked(strict=True).complete


def test_a_long_list_is_cut():
    assert few(["a", ""]) == "a, the model itself"
    assert few(list("abcdef"), most=2) == "a, b and 4 more"
