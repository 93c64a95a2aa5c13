"""FCNet: coordinates, costs and scores of two pairs, by hand."""

import copy
import pickle

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables.fcnet import read_fcnet
from fbnetv3.search.space.encoding import arch_mask, encode
from tests.search.real_tables.made_up import FCNET


def test_a_table_by_hand():
    space = read_fcnet(pickle.dumps(FCNET), "protein_structure")
    assert space.name == "fcnet_protein_structure"
    assert [c.name for c in space.coordinates if c.arch] == ["activation_1", "activation_2", "units_1", "units_2"]
    assert space.values(space.table[1]) == {
        **{"activation_1": "relu", "activation_2": "relu", "batch_size": 8, "dropout_1": 0.0, "dropout_2": 0.0},
        **{"lr": 1e-3, "schedule": "cosine", "units_1": 16, "units_2": 32},
    }
    # 9*16 + 16*16 + 16 and 9*16 + 16*32 + 32 multiply-adds; the biases are 16 + 16 + 1 and 16 + 32 + 1.
    assert space.labels["flops"].tolist() == [416, 688]
    assert space.labels["params"].tolist() == [449, 737]
    # An error of 3 is worse than the score can say.
    assert space.acc1[:, :, 0].tolist() == [[50, 75], [0, pytest.approx(10)]]
    assert space.trainings.tolist() == [2, 2]
    assert space.held_out


def test_the_other_sets_are_scored_by_the_logarithm_of_the_error():
    table = copy.deepcopy(FCNET)
    table["000000000"] = {"val_loss": [0.01, float("nan")], "model_size": [545.0, 545.0]}
    table["000001001"] = {"val_loss": [1.0, 1e-12], "model_size": [833.0, 833.0]}
    space = read_fcnet(pickle.dumps(table), "naval_propulsion")
    assert np.array_equal(space.acc1[:, :, 0].round(9), [[30, np.nan], [10, 100]], equal_nan=True)


def test_rates_and_units_are_encoded_by_their_logarithms():
    space = read_fcnet(pickle.dumps(FCNET), "protein_structure")
    row = encode(space, space.table[1:])[0]
    assert arch_mask(space).sum() == 6
    assert row[-1] == pytest.approx(1 / 5)  # 32 of 16 .. 512
    assert row[7] == pytest.approx(np.log(2) / np.log(200))  # 1e-3 of 5e-4 .. 1e-1


def test_a_size_that_the_closed_form_does_not_give_is_refused():
    with pytest.raises(InputError, match="a network has 449 parameters, not 545"):
        read_fcnet(pickle.dumps(FCNET), "naval_propulsion")
