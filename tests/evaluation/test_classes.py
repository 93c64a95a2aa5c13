"""Classes are matched by name; what does not match is refused, and what differs is said."""

import pytest

from fbnetv3 import InputError
from fbnetv3.evaluation.classes import imagenet_numbers, match_classes
from fbnetv3.networks.weight_file import IMAGENET


def match(network, data):
    return match_classes("w.pt", network, "pets", data)


def test_equal_classes_need_no_words():
    found = match(("ant", "bee"), ("ant", "bee"))
    assert (found.labels, found.note) == ((0, 1), "")


def test_another_order_is_matched_by_name():
    found = match(("cow", "ant", "bee"), ("ant", "bee", "cow"))
    assert (found.classes, found.labels) == (("cow", "ant", "bee"), (1, 2, 0))
    assert found.note == "the classes of pets are in another order than those of w.pt; they are matched by name"


def test_some_of_the_classes():
    found = match(("ant", "bee", "cow"), ("bee",))
    assert (found.labels, len(found.classes)) == ((1,), 3)
    assert "pets has 1 of the 3 classes of w.pt" in found.note


def test_unknown_classes_are_refused():
    with pytest.raises(InputError, match=r"w.pt has the classes .*1 of the 2 classes of pets .*: 'Bee'; rename"):
        match(("ant", "bee"), ("Bee", "ant"))


def test_numbered_classes_are_those_of_the_data_in_order():
    found = match(("0", "1"), ("ant", "bee"))
    assert (found.classes, found.labels) == (("ant", "bee"), (0, 1))
    assert "have no names; they are taken in the order of pets" in found.note
    with pytest.raises(InputError, match="are not among them"):
        match(("0", "1", "2"), ("ant", "bee"))


def test_classes_of_imagenet_by_synset_number_and_name():
    found = match(IMAGENET, ("n01440764", "goldfish", "999"))
    assert (found.labels, len(found.classes)) == ((0, 1, 999), 1000)
    with pytest.raises(InputError, match=r"ImageNet's 1000 classes, and 1 of the 1 classes of pets .*: 'goldfisch'"):
        match(IMAGENET, ("goldfisch",))
    synsets = sorted(name for name in imagenet_numbers() if name[0] == "n" and name[1:].isdigit())
    assert match(IMAGENET, tuple(synsets)).labels == tuple(range(1000))
    assert match(IMAGENET, tuple(synsets)).note == ""
