"""Make `fashion_mnist.npz`: a balanced, seeded subset of Fashion-MNIST, the default data of the search and the tests.

Run by hand with Debian's package `dataset-fashion-mnist` installed:

    python fbnetv3/training/data/images/make_fashion_mnist.py

It prints the images per class and the sha256 of the file, which is the same on every run with one version of NumPy.
5,000 images to train on and 4,000 to validate candidates with come from the official training set; 4,000 test images,
which no search ever sees, from the official test set. There are nearly as many to judge by as to train on, because good
candidates differ by less than a point: with 1,000 images, chance alone moves an accuracy of 82% by 1.2 points.
"""

import gzip
import hashlib
from pathlib import Path

import numpy as np

SOURCE = Path("/usr/share/datasets/fashion-mnist")
TARGET = Path(__file__).with_name("fashion_mnist.npz")
SEED = 20210
PER_CLASS = {"train": 500, "val": 100, "test": 200}
ADDED = {"val": 300, "test": 200}  # in a later version, after those, which stay as they were


def read_idx(name: str, header: int) -> np.ndarray:
    """The bytes of an IDX file after its header."""
    return np.frombuffer(gzip.decompress((SOURCE / name).read_bytes()), np.uint8, offset=header)


def read(prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, 28, 28] and labels [n] of an official split."""
    images = read_idx(f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, read_idx(f"{prefix}-labels-idx1-ubyte.gz", 8)


def draw(labels: np.ndarray, count: int, rng: np.random.Generator, taken: np.ndarray) -> np.ndarray:
    """Indices of `count` images of every class that are not taken, in random order."""
    free = [np.setdiff1d(np.flatnonzero(labels == label), taken) for label in range(10)]
    chosen = [rng.choice(of_class, count, replace=False) for of_class in free]
    return rng.permutation(np.concatenate(chosen))


def main() -> None:
    """Write the subset."""
    rng = np.random.default_rng(SEED)
    images, labels = read("train")
    none = np.array([], int)
    both = draw(labels, PER_CLASS["train"] + PER_CLASS["val"], rng, none)
    rank = np.empty(len(both), int)
    for label in range(10):
        rank[labels[both] == label] = np.arange(PER_CLASS["train"] + PER_CLASS["val"])
    train, val = both[rank < PER_CLASS["train"]], both[rank >= PER_CLASS["train"]]
    test_images, test_labels = read("t10k")
    test = draw(test_labels, PER_CLASS["test"], rng, none)
    val = np.concatenate([val, draw(labels, ADDED["val"], rng, both)])
    test = np.concatenate([test, draw(test_labels, ADDED["test"], rng, test)])
    arrays = {}
    for name, (x, y, rows) in {
        "train": (images, labels, train),
        "val": (images, labels, val),
        "test": (test_images, test_labels, test),
    }.items():
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = x[rows], y[rows]
        print(name, np.bincount(y[rows]))
    np.savez_compressed(TARGET, **arrays)
    print(TARGET.stat().st_size, "bytes, sha256", hashlib.sha256(TARGET.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
