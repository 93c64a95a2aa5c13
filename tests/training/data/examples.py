"""Images of every format that can be made here, in three classes, and passes over them."""

import io

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from fbnetv3.training.process_rank import ProcessRank

ALONE = ProcessRank()
CLASSES = ("ant", "bee", "cow")


def image(label, number, size=(40, 32), mode="RGB"):
    """An image that shows its class as its red (or grey) level, and its number as a gradient."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] = 60 * label + 20
    pixels[..., 1] = np.linspace(0, 8 * number + 40, size[0]).astype(np.uint8)
    pixels[..., 2] = np.linspace(0, 200, size[1]).astype(np.uint8)[:, None]
    colour = Image.fromarray(pixels)
    return Image.fromarray(pixels[..., 0]) if mode == "L" else colour.convert(mode)


def png(label, number):
    """The content of such an image's file."""
    buffer = io.BytesIO()
    image(label, number).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root, splits=(("train", 10), ("val", 4), ("test", 3)), ending="png", **options):
    """A folder with SPLIT/CLASS/NUMBER.ENDING, so many images of every class."""
    for split, count in splits:
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image(label, number, **options).save(folder / f"{number:04d}.{ending}")
    return root


def epoch(data, kind="none", size=6, process=ALONE, start=0, seed=0):
    """All batches of a pass."""
    return list(data.epoch(kind, size, np.random.default_rng(seed), process, start))


def same(a, b):
    """Whether two lists of batches are equal to the last bit."""
    return len(a) == len(b) and all(
        torch.equal(x, y) and torch.equal(k, n) for (x, k), (y, n) in zip(a, b, strict=True)
    )


def noise(n, c=3, side=32, seed=0):
    """Blurred coloured noise: smooth like photos, no two images alike."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.integers(0, 256, (n, c, 5, 5), dtype=np.uint8))
    return TF.resize(small, [side, side])
