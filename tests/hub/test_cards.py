"""Model cards: the pages name every weight file, and a card says what its registry row says."""

import dataclasses
import subprocess
import sys

import pytest

from fbnetv3.arch import find_arch
from fbnetv3.hub.cards import package_cards, zoo_cards
from fbnetv3.hub.registry import Metric, RegisteredWeights, Registry, read_registry
from fbnetv3.transforms import Transforms
from tests.hub.conftest import TINY
from tests.places import ROOT

COLOUR = Transforms(269, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic")


def row(**changes):
    values = {
        "model": "tiny",
        "source": "custom",
        "arch": TINY,
        "url": "file:///zoo/tiny.safetensors",
        "transforms": Transforms(30, 28, (0.4,), (0.2,)),
        "classes": ("cat", "dog"),
        "licence": "MIT",
        "noncommercial": False,
        "metrics": (Metric("acc1", 12.5, "measured here"), Metric("acc5", 50.0, "a paper")),
        "flops_m": 1.23456,
        "params_m": 0.0123456,
        "recipe": "fashion_mnist/micro",
        "about": "A small network.",
        "verified": "nothing",
    }
    return RegisteredWeights(**values | changes)


def page(*rows):
    return zoo_cards(Registry(rows))


def test_a_card_by_hand():
    assert page(row()).split("\n\n", 2)[2] == (
        "## tiny\n\n### tiny, weights `custom`\n\nA small network.\n\n"
        "- licence: MIT\n"
        "- metrics: acc1 12.5 (measured here); acc5 50.0 (a paper)\n"
        "- input: grey, shorter side resized to 30 (bilinear), centre crop 28, mean 0.4, std 0.2\n"
        "- classes: cat, dog\n"
        "- cost: 1.235M FLOPs, 0.01235M params\n"
        "- recipe: fashion_mnist/micro\n"
        "- verified: nothing\n"
        "- sha256: not published; recorded at the first download and checked from then on\n"
        '- load: `torch.hub.load("path/to/this/folder", "tiny", source="local", weights="custom")`\n'
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"noncommercial": True, "licence": "CC BY-NC 4.0"}, "- licence: CC BY-NC 4.0, **not for commercial use**"),
        ({"derived_from": ("a:fb", "b:custom")}, "- trained from: a:fb, b:custom"),
        ({"metrics": ()}, "- metrics: none given"),
        ({"classes": "imagenet1k"}, "- classes: imagenet1k"),
        ({"sha256": "12ab"}, "- sha256: 12ab"),
        ({"arch": find_arch("fbnetv3_b_same_padding")}, "### tiny, weights `custom` (builds `fbnetv3_b_same_padding`)"),
        (
            {"transforms": COLOUR},
            "- input: RGB, shorter side resized to 269 (bicubic), centre crop 256, mean 0.485, 0.456, 0.406, "
            "std 0.229, 0.224, 0.225",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "line",
)
def test_what_a_row_may_say(changes, line):
    assert line in page(row(**changes)).splitlines()


def test_a_model_has_one_section_for_all_its_weights():
    lines = page(
        row(), row(source="second"), row(model="other", arch=dataclasses.replace(TINY, name="other"))
    ).splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## tiny", "## other"]
    assert [line for line in lines if line.startswith("### ")] == [
        "### tiny, weights `custom`",
        "### tiny, weights `second`",
        "### other, weights `custom`",
    ]


def test_the_packages_page_has_a_card_for_every_row():
    text = package_cards()
    for weights in read_registry().rows:
        assert f"### {weights.model}, weights `{weights.source}`" in text
        assert f'"{weights.model}", source="local", weights="{weights.source}")' in text


def test_the_command_writes_the_page(tmp_path):
    (tmp_path / "hub").mkdir()
    command = [sys.executable, "-m", "fbnetv3.hub.cards"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "hub" / "README.md").read_text() == package_cards()
    assert (ROOT / "hub" / "README.md").read_text() == package_cards(), "run: python -m fbnetv3.hub.cards"
