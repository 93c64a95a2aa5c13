"""Settings of the predictor: presets, and values that are refused."""

import dataclasses

import pytest

from fbnetv3 import InputError
from fbnetv3.schema import read
from fbnetv3.search.predictor.settings import PRESETS, PredictorSettings


def test_the_default_preset_is_the_default():
    assert PredictorSettings.preset("default") == PredictorSettings()


def test_the_preset_of_the_paper_is_its_predictor():
    paper = PredictorSettings.preset("paper")
    assert (paper.members, paper.frozen_epochs, paper.finetune_epochs, paper.head) == (1, 50, 50, "network")
    assert not paper.log_labels
    assert not paper.rich_labels
    assert not paper.standardise


def test_an_unknown_preset_is_answered_with_the_names():
    with pytest.raises(InputError, match="unknown predictor preset 'best'; available: default, paper"):
        PredictorSettings.preset("best")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_plain_data(name):
    assert read(PredictorSettings, dataclasses.asdict(PRESETS[name]), "here") == PRESETS[name]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"head": "forest"}, "here: head is 'forest'; .*'kernel' or 'network'"),
        ({"members": 0}, "here: members is 0; .*greater than or equal to 1"),
        ({"layers": 1.5}, "here: layers is 1.5"),
        ({"lr": 0.0}, "here: lr is 0.0; .*greater than 0"),
        ({"frozen_epochs": -1}, "here: frozen_epochs is -1"),
        ({"weight_decay": -0.1}, "here: weight_decay is -0.1"),
        ({"pretrain": "yes"}, "here: pretrain is 'yes'"),
        ({"heads": 2}, "here: unknown key 'heads'"),
    ],
    ids=["head", "members", "layers", "rate", "epochs", "decay", "switch", "key"],
)
def test_a_wrong_value_is_refused(bad, words):
    with pytest.raises(InputError, match=words):
        read(PredictorSettings, bad, "here")
