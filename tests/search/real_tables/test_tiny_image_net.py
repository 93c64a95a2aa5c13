"""TinyImageNet's curves: three trainings of two candidates by hand, and files that are none."""

import numpy as np
import pytest

from fbnetv3 import InputError
from fbnetv3.search.real_tables.tiny_image_net import read_tiny_image_net

X = np.array([[2, 4, 3, 0.1, 70000], [1, 4, 3, 0.1, 35000], [2, 4, 3, 0.1, 70000]], float)
CURVES = np.array([[0.005, 0.1, 0.2], [0.0, 0.3, 0.25], [0.01, 0.2, 0.4]])


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_file_by_hand(tmp_path):
    space = read_tiny_image_net(write(tmp_path / "a.npz", x=X, curves=CURVES))
    assert (space.name, space.num_classes) == ("tiny_image_net", 200)
    assert [(c.name, c.arch) for c in space.coordinates] == [
        *(("blocks", True), ("filters", True), ("kernel", True)),
        *(("lr", False), ("step_size", False)),
    ]
    assert [space.values(row) for row in space.table] == [
        {"blocks": 1, "filters": 4, "kernel": 3, "lr": 0.1, "step_size": 35000},
        {"blocks": 2, "filters": 4, "kernel": 3, "lr": 0.1, "step_size": 70000},
    ]
    assert space.trainings.tolist() == [1, 2]
    # The accuracy of the untrained network is left out.
    assert space.acc1[1].round(9).tolist() == [[10, 20], [20, 40]]
    # 3*9*4 weights of the first layer, 6 or 12 layers with 9*4*4, and 200*4 of the classifier.
    assert space.labels["params"].tolist() == [108 + 864 + 800, 108 + 1728 + 800]
    assert space.labels["flops"].tolist() == [(108 + 864) * 1024 + 800, (108 + 1728) * 1024 + 800]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X},
        {"x": X, "curves": CURVES, "z": X},
        {"x": X[:2], "curves": CURVES},
        {"x": X[:, :4], "curves": CURVES},
        {"x": X, "curves": 100 * CURVES},
        {"x": X, "curves": CURVES[:, :1]},
        {"x": X[:0], "curves": CURVES[:0]},
        {"x": -X, "curves": CURVES},
        {"x": X * np.nan, "curves": CURVES},
        {"x": X.astype(str), "curves": CURVES},
        {"x": X.astype(object), "curves": CURVES},
    ],
)
def test_another_file_is_refused(tmp_path, arrays):
    with pytest.raises(InputError, match="is no file of TinyImageNet curves, or it is damaged"):
        read_tiny_image_net(write(tmp_path / "a.npz", **arrays))


def test_a_cut_file_is_refused(tmp_path):
    path = write(tmp_path / "a.npz", x=X, curves=CURVES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="is no file of TinyImageNet curves"):
        read_tiny_image_net(path)
    with pytest.raises(InputError, match="No such file"):
        read_tiny_image_net(tmp_path / "absent.npz")
