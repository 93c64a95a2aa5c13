"""A data set is named from any working folder, and recognised wherever it is."""

import shutil

import pytest

from fbnetv3 import InputError
from fbnetv3.training.data.load import load_data
from fbnetv3.training.data.spec import absolute_spec, check_spec, content_id, home_path, same_images
from tests.search.images import write_noise


@pytest.fixture
def near(tmp_path, monkeypatch):
    """A working folder `here` with an empty folder `d`, and a folder `there` beside it with `d` and `e`."""
    for name in ("here/d", "there/d", "there/e"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("d", "{}/here/d"),
        ("../there/e", "{}/there/e"),
        ("memory:d", "memory:{}/here/d"),
        ("list:d:../there/d", "list:{}/here/d:{}/there/d"),
        ("torchvision:cifar10:d", "torchvision:cifar10:{}/here/d"),
        ("memory:torchvision:cifar10:d", "memory:torchvision:cifar10:{}/here/d"),
        ("wds/d", "wds/{}/here/d"),
        ("hfds/d#label", "hfds/{}/here/d#label"),
        ("{}/there/d", "{}/there/d"),
        # What is not there, or is no path.
        ("fashion_mnist", "fashion_mnist"),
        ("nothing", "nothing"),
        ("hfds/owner/name", "hfds/owner/name"),
        ("torchvision:cifar10", "torchvision:cifar10"),
        ("list:d", "list:{}/here/d"),
        ("tfds/d", "tfds/d"),
        ("", ""),
        ("memory:", "memory:"),
    ],
)
def test_paths_become_absolute(near, spec, expected):
    assert absolute_spec(spec.replace("{}", str(near))) == expected.replace("{}", str(near))


def test_a_folder_comes_before_the_working_folder(near):
    assert absolute_spec("d", near / "there") == str(near / "there" / "d")
    (near / "here" / "f").mkdir()
    assert absolute_spec("f", near / "there") == str(near / "here" / "f")


def test_home_is_a_folder(near, monkeypatch):
    monkeypatch.setenv("HOME", str(near))
    assert absolute_spec("~/there/e") == str(near / "there" / "e")


def test_a_package_set_is_not_a_folder_of_that_name(near):
    (near / "here" / "fashion_mnist").mkdir()
    assert absolute_spec("fashion_mnist") == "fashion_mnist"


@pytest.mark.parametrize("kind", ["", "memory:"])
def test_images_are_recognised_wherever_they_are(tmp_path, kind):
    write_noise(tmp_path / "one", 2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (load_data(f"{kind}{tmp_path / name}", resolution=16) for name in ("one", "two"))
    assert one.name != two.name
    assert content_id(one.name) == content_id(two.name)
    assert same_images(one.name, two.name)
    assert not same_images(one.name, load_data(f"{kind}{tmp_path / 'two'}", resolution=24).name)
    next((tmp_path / "two" / "train" / "class1").iterdir()).unlink()
    assert content_id(load_data(f"{kind}{tmp_path / 'two'}", resolution=16).name) != content_id(one.name)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "b"), (None, "a"), ("a (id x)", "a"), ("a (id x)", "a (id y)"), (1, "1")]
)
def test_other_names_are_other_images(one, other):
    assert same_images(one, one)
    assert not same_images(one, other)


def test_images_of_the_package_are_their_name():
    assert content_id(load_data("fashion_mnist").name) == "fashion_mnist"


@pytest.mark.parametrize("spec", ["", "a\0b", "x" * 256, "memory:" + "y" * 300, "x/" * 3000, "\ud800"])
def test_a_text_that_can_name_nothing(spec):
    with pytest.raises(InputError, match="names no images; give a data set, or the path of a folder"):
        check_spec(spec)


def test_the_folder_of_an_unknown_user_is_a_name_like_any():
    assert str(home_path("~nobody_is_called_so/x")) == "~nobody_is_called_so/x"
    assert home_path("~/x").is_absolute()
