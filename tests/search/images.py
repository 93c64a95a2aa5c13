"""Searches with real trainings that take seconds, on few images in files."""

import numpy as np
import yaml
from PIL import Image

from fbnetv3.search.space.reader import SPACES
from fbnetv3.training.data.packaged import fashion_mnist
from tests.search.scripted import BASE_RECIPE, config

COUNTS = {"train": 10, "val": 5, "test": 5}  # of each class: 4 steps make an epoch


def write_fashion(folder):
    """Write the first images of every class of Fashion-MNIST to files; return the data's name."""
    data = fashion_mnist()
    for split, count in COUNTS.items():
        images, labels = data.split(split).images[:, 0].numpy(), data.split(split).labels.numpy()
        for label in range(len(data.classes)):
            (folder / split / f"class{label}").mkdir(parents=True)
            for i in np.flatnonzero(labels == label)[:count].tolist():
                Image.fromarray(images[i]).save(folder / split / f"class{label}" / f"{i}.png")
    return f"memory:{folder}"


def fashion_config(folder, **changes):
    """The scripted tests' configuration for trainings on these images; its files are in `folder`."""
    cfg = config(folder, **{"data": write_fashion(folder / "data")} | changes)
    recipe = BASE_RECIPE | {"batch_size": 25, "ema_decay": 0.8}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return cfg


def write_noise(folder, classes, side=20):
    """A data set of colour images: 12 of each class to train on, 4 to validate and 4 to test. Classes differ in brightness."""
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for label in range(classes):
            (folder / split / f"class{label}").mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([label, i]).integers(0, 40 + 20 * label, (side, side, 3), np.uint8)
                Image.fromarray(noise).save(folder / split / f"class{label}" / f"{i}.png")
    return str(folder)


def colour_space(folder):
    """Write the space `micro` for colour images of two resolutions; return the settings of a search in it."""
    space = yaml.safe_load((SPACES / "micro.yaml").read_text())
    (folder / "colour.yaml").write_text(yaml.safe_dump(space | {"in_chans": 3, "resolution": "(16, 24, 8)"}))
    return {"space": str(folder / "colour.yaml"), "constraint": {"metric": "flops", "max": 1e9}}
