"""HPOBench's MLPs: coordinates, costs and accuracies of two pairs, by hand."""

import pickle

from fbnetv3.search.real_tables.mlp import read_mlp
from tests.search.real_tables.made_up import MLP


def test_a_table_of_four_classes_by_hand():
    space = read_mlp(pickle.dumps(MLP), "vehicle")
    assert (space.name, space.num_classes) == ("mlp_vehicle", 4)
    assert [c.name for c in space.coordinates if c.arch] == ["depth", "width"]
    assert space.values(space.table[1]) == {"alpha": 1.0, "batch_size": 10, "depth": 2, "lr": 1.0, "width": 25}
    # 18*16 + 16*4 and 18*25 + 25*25 + 25*4 multiply-adds; the biases are 16 + 4 and 25 + 25 + 4.
    assert space.labels["flops"].tolist() == [352, 1175]
    assert space.labels["params"].tolist() == [372, 1229]
    assert space.acc1[:, :, 0].round(9).tolist() == [[25, 50, 75], [90, 80, 70]]
    assert space.accuracy(space.table).round(9).tolist() == [50, 80]


def test_two_classes_need_one_output():
    space = read_mlp(pickle.dumps(MLP), "blood_transfusion")
    assert space.labels["flops"].tolist() == [4 * 16 + 16, 4 * 25 + 25 * 25 + 25]
