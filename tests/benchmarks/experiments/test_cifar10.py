"""Networks and plots of the CIFAR-10 benchmark by hand, a run on tiny pictures, and the committed file."""

import numpy as np
import pytest
from PIL import Image
from torch import nn

from fbnetv3.arch import ARCHS, find_arch
from fbnetv3.benchmarks.experiments import cifar10 as benchmark
from fbnetv3.benchmarks.experiments import cifar10_networks as networks
from fbnetv3.benchmarks.result import Result, load_result, write_result
from fbnetv3.benchmarks.seeds import spread
from fbnetv3.complexity import cost, parts
from fbnetv3.errors import InputError
from fbnetv3.training import loop


@pytest.fixture
def pictures(tmp_path):
    """Ten train and three test pictures of 8 x 8 pixels in each of two classes, one dark, one light."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 3)):
        for label, low in (("dark", 0), ("light", 128)):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(low, low + 128, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(benchmark, "FIGURE", ("fbnetv3_a0",))
    monkeypatch.setattr(benchmark, "TIMED_STEPS", 1)


def arguments(pictures, *more):
    where = ["--data", f"memory:{pictures}", "--out", str(pictures.parent / "found.json")]
    where += ["--runs", str(pictures.parent / "runs"), "--models", "fbnetv3_a0"]
    return [*where, "--recipe", "cifar10/smoke", *more]


def made_up():
    rows = {
        "fbnetv3_a": {"resolution": 32, "flops": 20_000_000, "params": 6_000_000},
        "fbnetv3_b": {"resolution": 35, "flops": 30_000_000, "params": 6_000_000},
        "timm:tf_efficientnet_b0": {"resolution": 32, "flops": 29_000_000, "params": 4_000_000},
    }
    rows = {name: row | spread({"0": 90.0, "1": 92.0}) for name, row in rows.items()}
    speeds = {"fbnetv3_a": {"resolution": 32, "flops": 20_000_000, "images_per_s": 250.0, "hours": 10.0}}
    values = {
        "networks": rows,
        "full_run": {"epochs": 200, "images": 45_000, "hours": 10.0, "networks": speeds},
        "data": {"train": 45_000, "val": 5_000, "test": 10_000, "jpeg": False},
        "training": {"recipe": "cifar10/fbnetv3_proxy", "epochs": 200, "threads": 1},
    }
    return Result("2026-01-01", "command", benchmark.method(values), {"python": "3.11"}, values)


def test_resolutions_by_hand():
    assert networks.scaled_resolution(176) == 32  # never below the base
    # 32 x 248 / 224 = 35.43, 264: 37.71, 272: 38.86, 320: 45.71
    found = {name[-1]: networks.cifar_arch(name).resolution for name in ARCHS}
    assert found == {"a": 32, "b": 35, "c": 35, "d": 35, "e": 38, "f": 39, "g": 46}


@pytest.mark.parametrize("name", [*ARCHS, "fbnetv3_a0"])
def test_only_the_first_strided_block_after_the_stem_loses_its_stride(name):
    released, found = find_arch(name), networks.cifar_arch(name)
    assert found.name == f"{name}_cifar"
    assert [row.s for row in found.rows if row.s > 1] == [2, 2, 2]
    assert (found.stem.s, found.stages[1][0].s, released.stages[1][0].s) == (2, 1, 2)
    assert found.stages[1][1:] == released.stages[1][1:]
    assert (found.stages[0], *found.stages[2:]) == (released.stages[0], *released.stages[2:])


def test_maps_by_hand():
    # 5x5 with padding 1 and stride 2: (8 + 2 - 5) // 2 + 1 = 3; 3x3 with padding 0: (3 - 3) // 2 + 1 = 1
    assert [part.side for part in parts(networks.cifar_arch("fbnetv3_a"))][:6] == [16, 16, 16, 8, 3, 1]
    assert [part.side for part in parts(networks.cifar_arch("fbnetv3_a_same_padding"))][:6] == [16, 16, 16, 8, 4, 2]


def test_a_baseline_loses_its_second_stride_and_no_other():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3, 2))
    networks.without_second_stride(model)
    assert [layer.stride for layer in model] == [(2, 2), (1, 1), 1, (2, 2)]
    with pytest.raises(InputError, match="1 layers of stride two"):
        networks.without_second_stride(nn.Sequential(nn.Conv2d(3, 4, 3, 2)))


@pytest.mark.parametrize(
    ("name", "side"),
    [("torchvision:resnet18", 32), ("torchvision:efficientnet_b1", 34), ("timm:tf_efficientnet_b1", 34)],
)
def test_baselines_are_scaled_by_their_own_inputs(name, side):
    network = networks.find_network(name)
    assert (network.name, network.resolution) == (name, side)


def test_resnet18_by_hand():
    # Stem 7x7: 16 x 16. Stages of 64..512 channels on 16, 8, 4, 2: each later one has half of its first convolution's
    # inputs and a 1x1 shortcut, which together are (0.5 + 3 + 0.5 / 9) x 9 x c x c x side x side.
    conv = 3 * 64 * 49 * 16**2 + 4 * 9 * 64 * 64 * 16**2
    conv += sum(
        9 * c * c * side * side * 7 // 2 + c * c // 2 * side * side for c, side in ((128, 8), (256, 4), (512, 2))
    )
    flops, params = networks.count_flops(networks.find_network("torchvision:resnet18"), 10)
    assert flops == conv + 512 * 10
    assert params == 11_689_512 - 513_000 + 5_130  # torchvision's count for 1000 classes, with a classifier of 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fbnetv3_z", "unknown model 'fbnetv3_z'"),
        ("torchvision:no_such", "unknown model 'no_such'"),
        ("torchvision:regnet_y_400mf", "does not run at 32 pixels"),
        ("torchvision:vit_b_16", "0 layers of stride two"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(name, words):
    with pytest.raises(InputError, match=words):
        networks.find_network(name)


def test_a_run_and_a_second_one_that_trains_nothing(pictures, short, monkeypatch):
    result = benchmark.main(arguments(pictures, "--seeds", "0", "1", "--limit", "9", "--plot", str(pictures / "p.png")))
    assert (pictures / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert load_result("found", pictures.parent) == result
    assert "--data memory:FOLDER --models fbnetv3_a0 --recipe cifar10/smoke --seeds 0 1 --limit 9" in result.command
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
    assert timed["hours"] == pytest.approx(200 * 45_000 / timed["images_per_s"] / 3600, abs=0.1)

    def refuse(*arguments):
        raise AssertionError("trains again")

    monkeypatch.setattr(loop._Run, "train_epoch", refuse)
    again = benchmark.main(arguments(pictures, "--seeds", "0", "1", "--limit", "9"))
    assert again.values["networks"] == values["networks"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--epochs", "1"], "needs fewer than the 1 epochs"),
        (["--threads", "0"], "at least one model, one seed and one thread"),
        (["--recipe", "imagenet/fbnetv3_a_proxy"], "distils"),
    ],
)
def test_bad_settings_are_one_line(pictures, capsys, more, words):
    with pytest.raises(SystemExit) as exit:
        benchmark.main(arguments(pictures, *more))
    assert exit.value.code == 2
    assert words in capsys.readouterr().err


def test_jpeg_files_are_noticed(pictures):
    assert not benchmark.is_jpeg(f"memory:{pictures}")
    Image.new("RGB", (8, 8)).save(pictures / "train" / "dark" / "x.jpg")
    assert benchmark.is_jpeg(f"memory:{pictures}")
    assert benchmark.is_jpeg(str(pictures))
    assert not benchmark.is_jpeg(f"torchvision:cifar10:{pictures}")


def test_a_result_is_shown_and_drawn_without_data(tmp_path, capsys):
    result = made_up()
    assert result.method == benchmark.METHOD  # neither a subset nor JPEG
    write_result("made_up", result, tmp_path)
    for name in ("a.png", "b.png"):
        benchmark.main(["--out", str(tmp_path / "made_up.json"), "--plot", str(tmp_path / name)])
    drawn = (tmp_path / "a.png").read_bytes()
    assert drawn[:4] == b"\x89PNG"
    assert drawn == (tmp_path / "b.png").read_bytes()
    shown = capsys.readouterr().out
    assert "91.00" in shown
    assert "1.41" in shown


def test_families():
    names = ("fbnetv3_a", "timm:tf_efficientnet_b0", "torchvision:resnet18", "timm:ghostnet_100")
    assert [benchmark.family(n) for n in names] == ["FBNetV3", "EfficientNet", "ResNet", "timm:ghostnet_100"]


def test_the_committed_file_is_of_this_benchmark():
    result = load_result("cifar10")
    values = result.values
    assert result.command.startswith("fbnetv3 benchmark cifar10 --data memory:FOLDER --models fbnetv3_a0 ")
    assert result.method == benchmark.method(values)
    assert values["data"]["jpeg"] is True
    assert benchmark.JPEG in result.method
    assert f"on {values['data']['train']} training images" in result.method
    assert {benchmark.family(name) for name in values["networks"]} == {"FBNetV3", "EfficientNet", "ResNet"}
    for name, row in values["networks"].items():
        network = networks.find_network(name)
        assert (row["flops"], row["params"]) == networks.count_flops(network, 10)
        assert row["resolution"] == network.resolution
        assert {key: row[key] for key in ("n", "mean", "deviation")} == pytest.approx(
            {key: spread(row["seeds"])[key] for key in ("n", "mean", "deviation")}, abs=2e-3
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
