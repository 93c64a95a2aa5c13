"""The command in this process, and the files that it is given."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from fbnetv3 import build_model
from fbnetv3.cli import main, show
from fbnetv3.networks.weight_file import WeightFile, write_weight_file
from fbnetv3.pair_file import Pair, save_pair
from fbnetv3.training.data.packaged import load_images
from fbnetv3.training.recipe import Recipe
from tests.cli.training_files import NOISY, OWN, RECIPE
from tests.training.data.examples import make_folder
from tests.training.examples import ARCH


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables are not folded, as in a pipe.

    Both: readline gives the processes of pytest-xdist a COLUMNS of 80, which the console of tables keeps from its import.
    """
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(show.out, "width", 200)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fbnetv3", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        captured = capsys.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return call


@pytest.fixture
def pair(tmp_path):
    """A pair file of a small network and a short recipe."""
    path = tmp_path / "pair.yaml"
    recipe = Recipe("sgd", 0.05, 1, 500)
    constraint, measured = (
        {"metric": "flops", "convention": "published", "max": 1e6},
        {"split": "test", "epochs": 1, "acc1": 0.0},
    )
    save_pair(
        Pair(ARCH, recipe, "micro", 0, constraint, {"mean": 0.0, "std": 0.0}, measured, {"data": "fashion_mnist"}), path
    )
    return path


@pytest.fixture
def weights(tmp_path):
    """A weight file of the same network, untrained."""
    data = load_images("fashion_mnist")
    file = WeightFile.of(build_model(ARCH, 10, 1), data.classes, data.transforms)
    write_weight_file(tmp_path / "weights.pt", file)
    return tmp_path / "weights.pt"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(load_images("fashion_mnist").test.images[0, 0].numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("set") / "animals")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory: two recipes and an own module, which nothing but the current directory can find."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place and Path(place) != tmp_path])
    (tmp_path / "nets_here.py").write_text(OWN)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "noisy.yaml").write_text(NOISY)
    yield tmp_path
    for name in ("nets_here", "chunk"):
        sys.modules.pop(name, None)
