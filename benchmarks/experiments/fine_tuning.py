"""What fine-tuning gains: a small network trained on Fashion-MNIST, then on few of scikit-learn's handwritten digits.

The same network is trained on the same digits from scratch, for as many epochs. Every seed has its own digits, new weights and
order of images; all of them start from one network that was trained on Fashion-MNIST. It takes a few minutes on one core. The
target: the 95% interval of the gain is above zero.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional as F

from fbnetv3.benchmarks.command import Seeds
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.statistics import over_seeds, paired_difference
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.pair_file import load_pair
from fbnetv3.recipes import load_recipe
from fbnetv3.training.accuracy import measure as evaluate
from fbnetv3.training.data.load import choose
from fbnetv3.training.data.memory import ImageData, Split
from fbnetv3.training.data.packaged import fashion_mnist
from fbnetv3.training.engine import cpu_threads, seeded
from fbnetv3.training.loop import fit
from fbnetv3.training.recipe import Recipe

PAIR = Path(__file__).with_name("micro_400k.yaml")
RECIPE, VALIDATION = "finetune/small", 100
PRETRAINING_SEED = 0
RATES = (0.01, 0.03, 0.1)  # around the recipe's
CELLS: dict[str, tuple[bool, dict[str, Any]]] = {
    f"{start}, rate {rate}": (start == "fine-tuned", {"lr": rate})
    for start in ("scratch", "fine-tuned")
    for rate in RATES
} | {
    "fine-tuned, rate 0.03, layer_decay 0.8": (True, {"lr": 0.03, "layer_decay": 0.8}),
    "fine-tuned, rate 0.03, frozen_stages 1": (True, {"lr": 0.03, "frozen_stages": 1}),
}
METHOD = (
    "The network of micro_400k.yaml, first trained with the recipe of that pair on the 5,000 training images of Fashion-MNIST "
    "in the package, once (`pretraining`: top-1 on its test images). Then every cell trains it with "
    f"{RECIPE} and the changes that its name says, without augmentation, because mirrored digits are other digits, on `images` "
    "digits of each of the ten classes, 8 x 8 pixels enlarged to 28 x 28; `scratch` starts from new weights. Cells of a seed "
    f"have the same digits, the same new classifier, and as many epochs. `val`: mean top-1 over seeds on {VALIDATION} other "
    "digits; `seeds`: top-1 in percent on all that are left, after the last epoch. `gain`: fine-tuned less scratch, each at "
    "the rate with the highest `val`, paired by seed, with the 95% interval of Student's t over seeds. It covers the seeds of "
    "these trainings, not other sets, networks or first trainings."
)
COLUMNS: dict[str, Format] = {
    "digits a class": "{images}",
    "training": "{cell}",
    "validation top-1 (%)": "{val:.1f}",
    "test top-1 (%)": "{mean:.1f}",
    "std": "{deviation:.1f}",
    "n": "{n}",
}


def measure(
    seeds: Seeds = (0, 1, 2, 3, 4),
    images: Annotated[tuple[int, ...], typer.Option(metavar="N ...", help="Digits of every class.")] = (10,),
    epochs: Annotated[int | None, typer.Option(min=2, help="Epochs on digits; by default the recipe's.")] = None,
) -> Measured:
    """Train every cell with every seed."""
    recipe = load_recipe(RECIPE).replace(augmentation="none")
    recipe = recipe if epochs is None else recipe.replace(epochs=epochs)
    with cpu_threads(1):
        trained, acc1 = pretrain()
        cells = {str(n): train_cells(n, recipe, trained, seeds) for n in images}
    return Measured(
        {
            "pretraining": round(acc1, 3),
            "epochs": recipe.epochs,
            "images": cells,
            "gain": {n: gain(found) for n, found in cells.items()} if len(seeds) > 1 else {},
        }
    )


def pretrain() -> tuple[nn.Module, float]:
    """Return the network after its training on Fashion-MNIST, and its top-1 on the test images in percent."""
    pair, data = load_pair(PAIR), fashion_mnist()
    rates = pair.recipe.dropout, pair.recipe.stochastic_depth
    model = seeded(lambda: build_model(pair.arch, len(data.classes), 1, *rates), PRETRAINING_SEED)
    fit(model, pair.recipe, data, seed=PRETRAINING_SEED)
    return model, evaluate(model, data, "test").acc1


def train_cells(images: int, recipe: Recipe, trained: nn.Module, seeds: Sequence[int]) -> Values:
    """Return the accuracies of all cells with so many digits of every class; some start from the trained network."""
    found: dict[str, dict[int, float]] = {cell: {} for cell in CELLS}
    validated: dict[str, list[float]] = {cell: [] for cell in CELLS}
    arch = load_pair(PAIR).arch
    for seed in seeds:
        data = digits(images, seed)
        for cell, (pretrained, changes) in CELLS.items():
            model = seeded(lambda: build_model(arch, 10, 1), seed)
            if pretrained:
                # The new classifier stays, as in a training on other classes.
                kept = {k: v for k, v in trained.state_dict().items() if not k.startswith("classifier.")}
                model.load_state_dict(kept, strict=False)
            validated[cell].append(fit(model, recipe.replace(**changes), data, seed=seed).acc1[-1])
            found[cell][seed] = evaluate(model, data, "test").acc1
    means = {cell: round(statistics.fmean(acc1), 3) for cell, acc1 in validated.items()}
    return {cell: {"val": means[cell], **over_seeds(accuracies)} for cell, accuracies in found.items()}


def digits(images: int, seed: int) -> ImageData:
    """Return scikit-learn's digits at Fashion-MNIST's size and scale: so many of each class to train on, the others to test.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("the digits are scikit-learn's; install it: pip install scikit-learn") from None
    found = load_digits()
    small = torch.from_numpy(found.images).float()[:, None] / 16  # 17 levels, from 0 to 16
    large = F.interpolate(small, size=(28, 28), mode="bilinear").mul(255).round().to(torch.uint8)
    labels = torch.from_numpy(found.target.astype(np.int64))
    train = torch.from_numpy(choose(labels.numpy(), lambda _: images, seed))
    others = torch.from_numpy(np.random.default_rng(seed).permutation(np.flatnonzero(~train.numpy())))
    splits = (train.nonzero()[:, 0], others[:VALIDATION], others[VALIDATION:])
    scale = fashion_mnist()  # the preprocessing belongs to the weights
    parts = (Split(large[rows], labels[rows]) for rows in splits)
    return ImageData(f"digits ({images} a class, seed {seed})", tuple("0123456789"), scale.mean, scale.std, *parts)


def gain(cells: Mapping[str, Any]) -> Values:
    """Return by how many points fine-tuning is better than training from scratch, each at its best rate by validation."""
    best = {
        start: max((f"{start}, rate {rate}" for rate in RATES), key=lambda cell: float(cells[cell]["val"]))
        for start in ("fine-tuned", "scratch")
    }
    series = [list(cells[cell]["seeds"].values()) for cell in best.values()]
    return {"of": best["fine-tuned"], "over": best["scratch"], **paired_difference(*series).rounded(2)}


def targets(values: Values) -> dict[str, Target]:
    """Return the target of every number of images: the lower end of the gain's interval is above zero."""
    return {f"gain_low_{n}": Target(row["low"], "above", 0) for n, row in values["gain"].items()}


def tables(result: Result) -> dict[str, Table]:
    """Return the accuracies, and the gains."""
    rows = (
        {"images": n, "cell": cell, **row}
        for n, cells in result.values["images"].items()
        for cell, row in cells.items()
    )
    columns: dict[str, Format] = {
        "digits a class": "{images}",
        "training": "{of}",
        "is better by (points)": "{mean:.1f} [{low:.1f}, {high:.1f}]",
        "than": "{over}",
    }
    gains = ({"images": n, **row} for n, row in result.values["gain"].items())
    return {"accuracy on digits": Table.of(COLUMNS, rows), "gain of fine-tuning": Table.of(columns, gains)}


BENCHMARK = Benchmark(
    "fine_tuning",
    METHOD,
    ("torch", "numpy", "scipy", "scikit-learn"),
    measure,
    targets,
    tables=tables,
    quick={"seeds": (0, 1), "images": (2,), "epochs": 2},
)
