"""A pair is written and read again, and every mistake in the file is named."""

import dataclasses

import pytest
import yaml

from fbnetv3 import InputError
from fbnetv3.pair_file import Pair, load_pair, pair_data, pair_shape, save_pair
from fbnetv3.training.recipe import Recipe
from tests.test_arch import TINY

PAIR = Pair(
    arch=TINY,
    recipe=Recipe("sgd", 0.1, 3, 32, mixup=0.2),
    space="micro",
    seed=3,
    constraint={"metric": "flops", "convention": "published", "max": 300000},
    predicted={"mean": 81.5, "std": 0.4},
    measured={"split": "val", "epochs": 3, "acc1": 82.0},
    provenance={"data": "fashion_mnist"},
)


@pytest.fixture
def path(tmp_path):
    save_pair(PAIR, tmp_path / "pair.yaml")
    return tmp_path / "pair.yaml"


def test_a_pair_comes_back(path):
    assert load_pair(path) == PAIR
    assert list(yaml.safe_load(path.read_text()))[:3] == ["schema", "arch", "recipe"]


@pytest.mark.parametrize("field", ["predicted", "measured"])
def test_a_pair_may_be_untrained_or_unpredicted(path, field):
    pair = dataclasses.replace(PAIR, **{field: {}})
    save_pair(pair, path)
    assert load_pair(path) == pair


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2; this version reads 1"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"space": None}, r"seed is 3, space is None; give a whole number and a name"),
        ({"seed": "3"}, "seed is '3', space is 'micro'"),
        ({"constraint": {"metric": "flops", "convention": "fvcore"}}, "constraint: max is None; give a float"),
        ({"constraint": 3}, "constraint: metric is None; give a str"),
        ({"predicted": {"mean": True, "std": 0.4}}, "predicted: mean is True; give a float"),
        ({"measured": {"split": "val", "epochs": 3.0, "acc1": 1}}, "measured: epochs is 3.0; give a int"),
        ({"provenance": {}}, "provenance: data is None"),
        ({"provenance": {"data": None}}, "provenance: data is None"),
        ({"recipe": {"optimizer": "sgd"}}, "pair.yaml: recipe: missing key 'lr'"),
        ({"arch": {"name": "x"}}, "pair.yaml: arch: missing key 'resolution'"),
    ],
)
def test_mistakes_are_named_with_the_file(path, change, message):
    data = yaml.safe_load(path.read_text()) | change
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=message) as caught:
        load_pair(path)
    assert str(caught.value).startswith(str(path))


def test_a_pair_knows_its_images_and_their_shape():
    assert pair_data(PAIR).name == "fashion_mnist"
    assert pair_shape(PAIR) == (10, 1)
    fixed = dataclasses.replace(PAIR, provenance={"data": "/nowhere", "num_classes": 1000, "in_chans": 3})
    assert pair_shape(fixed) == (1000, 3)
    with pytest.raises(InputError, match="unknown data set '/nowhere'"):
        pair_data(fixed)


def test_a_pair_of_a_custom_evaluator_names_no_data(tmp_path):
    pair = dataclasses.replace(PAIR, provenance={"data": None, "evaluator": "my_search:evaluate"})
    save_pair(pair, tmp_path / "pair.yaml")
    assert load_pair(tmp_path / "pair.yaml") == pair
    with pytest.raises(InputError, match="with the evaluator my_search:evaluate and names no data: give data"):
        pair_data(pair)
