"""The former place of weight files gives what `fbnetv3.networks` gives."""

import fbnetv3.networks
import fbnetv3.weight_file


def test_the_former_place_gives_the_same_functions():
    assert set(fbnetv3.weight_file.__all__) == {"WeightFile", "read_weight_file", "write_weight_file"}
    for name in fbnetv3.weight_file.__all__:
        assert getattr(fbnetv3.weight_file, name) is getattr(fbnetv3.networks, name)
