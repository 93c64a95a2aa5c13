"""The CIFAR-10 benchmark on tiny images, its texts and plot, and the committed file."""

import numpy as np
import pytest
from PIL import Image

from fbnetv3.arch import ARCHS
from fbnetv3.benchmarks.experiments import cifar10 as benchmark
from fbnetv3.benchmarks.experiments import cifar10_networks as networks
from fbnetv3.benchmarks.experiments.cifar10 import BENCHMARK
from fbnetv3.benchmarks.result import Result, load_result
from fbnetv3.benchmarks.statistics import over_seeds
from fbnetv3.complexity import cost
from fbnetv3.errors import InputError
from fbnetv3.training.trainer import Trainer


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten training and three test images of 8 x 8 pixels in each of two classes, one dark, one light."""
    root, rng = tmp_path_factory.mktemp("cifar10") / "images", np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 3)):
        for label, low in (("dark", 0), ("light", 128)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(low, low + 128, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def settings(images, tmp_path, monkeypatch):
    """The settings of a run in seconds: one network, one timed step."""
    monkeypatch.setattr(benchmark, "FIGURE", ("fbnetv3_a0",))
    monkeypatch.setattr(benchmark, "TIMED_STEPS", 1)
    monkeypatch.setattr(benchmark, "FULL_RECIPE", "cifar10/smoke")  # whose batches are small
    return {
        "data": f"memory:{images}",
        "models": ("fbnetv3_a0",),
        "recipe": "cifar10/smoke",
        "seeds": (0, 1),
        "limit": 9,
        "runs": tmp_path / "runs",
    }


def made_up():
    rows = {
        "fbnetv3_a": {"resolution": 32, "flops": 20_000_000, "params": 6_000_000},
        "fbnetv3_b": {"resolution": 35, "flops": 30_000_000, "params": 6_000_000},
        "timm:tf_efficientnet_b0": {"resolution": 32, "flops": 29_000_000, "params": 4_000_000},
    }
    rows = {name: row | over_seeds({"0": 90.0, "1": 92.0}) for name, row in rows.items()}
    speeds = {"fbnetv3_a": {"resolution": 32, "flops": 20_000_000, "images_per_s": 250.0, "hours": 10.0}}
    values = {
        "networks": rows,
        "full_run": {"epochs": 200, "images": 45_000, "hours": 10.0, "networks": speeds},
        "data": {"train": 45_000, "val": 5_000, "test": 10_000, "jpeg": False},
        "training": {"recipe": "cifar10/fbnetv3_proxy", "epochs": 200, "threads": 1},
    }
    return Result("2026-01-01", "command", "method", {"python": "3.11"}, values)


@pytest.mark.slow
def test_a_run_and_a_second_one_that_trains_nothing(settings, tmp_path, monkeypatch, capsys):
    result = BENCHMARK.run(write_to=tmp_path / "found.json", **settings)
    assert load_result("found", tmp_path) == result
    assert result.command == (
        "fbnetv3 benchmark cifar10 --data memory:FOLDER --models fbnetv3_a0 --recipe cifar10/smoke --seeds 0 1 --limit 9 "
        "--runs FOLDER"
    )
    values = result.values
    assert values["data"] == {"train": 18, "val": 2, "test": 6, "jpeg": False}
    assert values["training"] == {"recipe": "cifar10/smoke", "epochs": 2, "threads": 1}
    row = values["networks"]["fbnetv3_a0"]
    assert set(row) == {"resolution", "flops", "params", "seeds", "n", "mean", "deviation"}
    assert (row["n"], set(row["seeds"])) == (2, {"0", "1"})
    assert row["flops"] == cost(networks.cifar_arch("fbnetv3_a0"), 2).conv
    assert "on 18 training images for 2 epochs" in result.method
    full = values["full_run"]
    timed = full["networks"]["fbnetv3_a0"]
    assert timed["hours"] == pytest.approx(2 * 45_000 / timed["images_per_s"] / 3600, abs=0.1)
    assert f"fbnetv3_a0, seed 1: {row['seeds']['1']:.2f}% on test" in capsys.readouterr().err

    def refuse(*arguments):
        raise AssertionError("trains again")

    monkeypatch.setattr(Trainer, "train_epoch", refuse)
    again = BENCHMARK.run(write_to=tmp_path / "found.json", **settings)
    assert again.values["networks"] == values["networks"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 1}, "needs fewer than the 1 epochs"),
        ({"models": ()}, "give at least one model and one seed"),
        ({"recipe": "imagenet/fbnetv3_a_proxy"}, "distils, which section 4.3 does not do; give another recipe"),
        ({"models": ("fbnetv3_z",)}, "unknown model 'fbnetv3_z'"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(settings, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        BENCHMARK.run(write_to=tmp_path / "found.json", **settings | changes)
    assert not (tmp_path / "runs").exists()


def test_jpeg_files_are_noticed(tmp_path):
    (tmp_path / "train" / "dark").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "dark" / "x.png")
    assert not benchmark.is_jpeg(f"memory:{tmp_path}")
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "dark" / "x.jpg")
    assert benchmark.is_jpeg(f"memory:{tmp_path}")
    assert benchmark.is_jpeg(str(tmp_path))
    assert not benchmark.is_jpeg(f"torchvision:cifar10:{tmp_path}")


def test_the_method_says_when_the_numbers_mean_less():
    values = made_up().values
    assert benchmark.method_words(values) == {"subset": "", "jpeg": ""}
    values["data"] |= {"train": 600, "jpeg": True}
    words = benchmark.method_words(values)
    assert "on 600 training images for 200 epochs" in words["subset"]
    assert words["jpeg"] == benchmark.JPEG


def test_a_result_has_tables_and_equal_results_have_equal_plots():
    result = made_up()
    trained, full = benchmark.tables(result).values()
    assert trained.rows[0] == ("`fbnetv3_a`", "32", "20.0", "6.00", "91.00", "1.41", "2")
    assert full.rows == (("`fbnetv3_a`", "32", "250", "10"),)
    drawn = benchmark.plot(result)
    assert drawn[:4] == b"\x89PNG"
    assert drawn == benchmark.plot(result)


def test_families():
    names = ("fbnetv3_a", "timm:tf_efficientnet_b0", "torchvision:resnet18", "timm:ghostnet_100")
    assert [benchmark.family(n) for n in names] == ["FBNetV3", "EfficientNet", "ResNet", "timm:ghostnet_100"]


def test_the_committed_file_is_of_this_benchmark(monkeypatch):
    # `find_network` counts a baseline to see whether it runs. Here it is counted below.
    monkeypatch.setattr(networks, "_checked", lambda network: network)
    result = load_result("cifar10")
    values = result.values
    assert result.command.startswith("fbnetv3 benchmark cifar10 --data memory:FOLDER --models fbnetv3_a0 ")
    assert result.method == benchmark.METHOD.format(**benchmark.method_words(values))
    assert values["data"]["jpeg"] is True
    assert {benchmark.family(name) for name in values["networks"]} == {"FBNetV3", "EfficientNet", "ResNet"}
    for name, row in values["networks"].items():
        network = networks.find_network(name)
        assert (row["flops"], row["params"]) == networks.count_flops(network, 10)
        assert row["resolution"] == network.resolution
        assert {key: row[key] for key in ("n", "mean", "deviation")} == pytest.approx(
            {key: over_seeds(row["seeds"])[key] for key in ("n", "mean", "deviation")}, abs=2e-3
        )
        assert row["n"] >= 2
        assert all(0.0 < accuracy < 100.0 for accuracy in row["seeds"].values())
    full = values["full_run"]
    assert tuple(full["networks"]) == benchmark.FIGURE
    for name in ARCHS:
        arch = networks.cifar_arch(name)
        assert full["networks"][name]["flops"] == cost(arch, 10).conv
    for row in full["networks"].values():
        expected = full["epochs"] * full["images"] / row["images_per_s"] / 3600
        assert row["hours"] == pytest.approx(expected, rel=0.01, abs=0.1)
    assert full["hours"] == pytest.approx(sum(row["hours"] for row in full["networks"].values()), abs=0.1)
