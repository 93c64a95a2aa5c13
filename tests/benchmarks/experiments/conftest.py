"""A small experiment: two cells, one taught by the other, on 128 images."""

import dataclasses
import json

import pytest
import yaml

from fbnetv3.training.data.memory import ImageData, Split
from fbnetv3.training.data.packaged import fashion_mnist

SMOKE = {
    "about": "a test",
    "data": "fashion_mnist",
    "split": "test",
    "seeds": [0, 1],
    "networks": {"net": {"model": "pair:micro_400k.yaml"}},
    "cells": {
        "taught": {
            "network": "net",
            "recipe": "fashion_mnist/micro",
            "changes": {"epochs": 1, "distillation": 0.5},
            "teacher": "plain",
        },
        "plain": {"network": "net", "recipe": "fashion_mnist/micro", "changes": {"epochs": 1}},
    },
    "differences": {"gain": {"about": "x", "plus": ["taught"], "minus": ["plain"], "paper": "positive"}},
}


@pytest.fixture
def smoke(tmp_path):
    """A function that writes the small experiment with changes, and returns its path."""

    def write(edit=lambda cpu: None, **top):
        cpu = json.loads(json.dumps(SMOKE))
        edit(cpu)
        data = {"schema": 1, "name": "smoke", "title": "Smoke", "cpu": cpu, "full": SMOKE} | top
        path = tmp_path / "smoke.yaml"
        path.write_text(
            yaml.safe_dump({key: value for key, value in data.items() if value is not None}, sort_keys=False)
        )
        return str(path)

    return write


@pytest.fixture(scope="session")
def small_images():
    """128 of the package's training images, and 50 of the others."""
    data = fashion_mnist()
    parts = {
        name: Split(part.images[:count], part.labels[:count])
        for name, count in (("train", 128), ("val", 50), ("test", 50))
        for part in [getattr(data, name)]
    }
    small = dataclasses.replace(data, name="small", **parts)
    assert isinstance(small, ImageData)
    return small
