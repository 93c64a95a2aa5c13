"""A NARS search on CIFAR-10 with several trials side by side on one card, against random search in equal time.

First come the trainings a minute with 1, 2, 4, 8 and 16 trials side by side. Both searches then run as many at once as give
most trainings, and make as many as fit the time. Their answers are trained on all images and measured on the test images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from fbnetv3.benchmarks.experiments import cifar10 as experiment
from fbnetv3.benchmarks.gpu.cases import GpuDevice, Seconds, run_cases, summary_tables
from fbnetv3.benchmarks.gpu.images import MADE_UP, Images, find_images, keep_images
from fbnetv3.benchmarks.gpu.search_study import EVERY, RATED, VAL_EVERY, Study
from fbnetv3.benchmarks.gpu.trainings import TrainingEvaluator, open_device
from fbnetv3.benchmarks.harness import Benchmark, Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.device import find_device, find_precision, placed
from fbnetv3.search.execution.processes import ProcessPool
from fbnetv3.search.execution.settings import ExecutorSettings
from fbnetv3.search.nars.config import load_preset
from fbnetv3.search.nars.context import Context
from fbnetv3.search.space.constraints import Constraint

SIDE = 32  # of the images of the space, in pixels
COUNTS = (1, 2, 4, 8, 16)  # trials side by side
RECIPE = "cifar10/minutes"
POOL = 2000  # pretraining the predictor on the 20,000 of Algorithm 1 would take more time than all trainings
CONSTRAINT = Constraint("flops", max=6e7, min=3e7)  # smaller networks than the preset's, which give more trainings
PREDICTOR = 10.0  # seconds of NARS in which nothing trains: it fits the predictor and evolves candidates
MOST_EPOCHS = 60  # of the training of an answer
MOST_TRAININGS = 500  # of NARS; the pool has enough candidates for them
METHOD = (
    "Space cifar with {low:g} to {high:g} million FLOPs, recipe {recipe} of {epochs} epochs on one training image in "
    "{every}, measured on one validation image in {val_every}; the images are held and augmented on the device. `N side by "
    "side`: N trainings of {rated} epochs at the same time in N processes that were warm, one run. Their candidates have "
    "about the median FLOPs and are new to the processes, as in a search. `nars`: the search with the number of trials at "
    "once that gives it most trainings, without its report; `random`: random search, which starts trainings for as many "
    "seconds as that took. A training of a search has `epochs_of_a_trial` epochs, but all of the recipe in round 1 of NARS "
    "and for its finalists. `retraining`: both answers trained on all training images for `epochs` epochs, and their top-1 "
    "on the test images, in percent, for one seed.{jpeg}"
)


def measure(
    seconds: Seconds = 170,
    device: GpuDevice = "auto",
    data: Images = None,
    counts: Sequence[int] = COUNTS,
    limit: int | None = None,
    recipe: str = RECIPE,
    pool: int = POOL,
    predictor: float = PREDICTOR,
    most: int = MOST_EPOCHS,
    trainings: int = MOST_TRAININGS,
) -> Iterator[Measured]:
    """Measure the rates, search twice, and train both answers. Yield everything so far after each of these.

    Args:
        counts: numbers of trials side by side.
        limit: largest number of images of a class in every split.
        recipe: of all trainings.
        pool: candidates that the predictor is pretrained on.
        predictor: seconds of NARS in which nothing trains.
        most: largest number of epochs of the training of an answer.
        trainings: largest number of trainings of NARS.
    """
    begin = time.monotonic()
    device = str(placed(find_device(device)))  # one card, also where there are more
    with tempfile.TemporaryDirectory(prefix="fbnetv3-search-") as name:
        folder = Path(name)
        file = folder / "images.pt"
        evaluator = TrainingEvaluator({SIDE: file}, device, find_precision("auto", device))
        with processes_of(evaluator, max(counts), seconds) as processes:
            # The processes start while this one unpacks the images. Decoding waits for them, because it forks.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(open_device, processes, max(counts))
                spec = find_images(data, folder)
            found = keep_images(spec, SIDE, limit, file)
            config = load_preset("cifar10").replace(
                data=spec,
                recipe=recipe,
                constraint=dataclasses.asdict(CONSTRAINT),
                pool=pool,
                repeats=0,
                early_stopping=0.98,
            )
            context = Context.of(config)
            about = {"data": found, "recipe": recipe, "precision": evaluator.precision}
            words = method_words(context, recipe, found["jpeg"])
            study = Study(context, processes, folder, begin + seconds, predictor, most, trainings)
            study.warm(max(counts))
            cases: dict[str, Callable[[], Values]] = {
                f"{n} side by side": functools.partial(study.rate, n) for n in counts
            }
            cases |= {"nars": study.nars, "random": study.random, "retraining": study.retrain}
            for so_far in run_cases(cases, begin + seconds - time.monotonic(), device):
                yield Measured(so_far.values | about, words, so_far.facts)


def processes_of(
    evaluator: TrainingEvaluator, count: int, seconds: float
) -> contextlib.AbstractContextManager[ProcessPool]:
    """Return so many processes that share the device, as `fbnetv3 search run --trials-per-gpu` starts them."""
    workers = count if evaluator.device == "cpu" else None
    settings = ExecutorSettings(workers=workers, trial_timeout=seconds, trials_per_gpu=count)
    # With a time limit an executor of this machine is always a pool, also with one worker.
    return cast(contextlib.AbstractContextManager[ProcessPool], settings.start(evaluator))


def method_words(context: Context, recipe: str, jpeg: bool) -> dict[str, object]:
    """Return what fills the braces of `METHOD`."""
    limits = {"low": CONSTRAINT.min / 1e6, "high": CONSTRAINT.max / 1e6}
    return limits | {
        "recipe": recipe,
        "epochs": context.base.epochs,
        "every": EVERY,
        "val_every": VAL_EVERY,
        "rated": min(RATED, context.base.epochs),
        "jpeg": experiment.JPEG if jpeg else "",
    }


RATE_COLUMNS: dict[str, Format] = {
    "trials side by side": "{trials}",
    "epochs of each": "{epochs}",
    "seconds": "{seconds:.1f}",
    "trainings a minute": "{trainings_a_minute:.1f}",
}
SEARCH_COLUMNS: dict[str, Format] = {
    "method": "{name}",
    "seconds": "{seconds:.0f}",
    "trainings": "{trainings}",
    "epochs of each, at least": "{epochs_of_a_trial}",
    "trainings a minute": "{trainings_a_minute:.1f}",
    "best validation top-1 (%)": "{val_acc1:.2f}",
    "M FLOPs of the answer": lambda row: f"{row['flops'] / 1e6:.1f}",
    "its test top-1 (%), trained again": "{test}",
}
METHODS = {"nars": "NARS", "random": "random search"}


def tables(result: Result) -> dict[str, Table]:
    """Return the rates, and both searches."""
    cases = result.values["cases"]
    rates = [row for name, row in cases.items() if name.endswith(" side by side")]
    again = cases.get("retraining", {})
    rows = [{"name": METHODS[name], "test": _test(again, name), **cases[name]} for name in METHODS if name in cases]
    found = {"trainings a minute": Table.of(RATE_COLUMNS, rates)}
    if rows:
        found["searches"] = Table.of(SEARCH_COLUMNS, rows)
    return found | summary_tables(result)


def _test(again: Mapping[str, Any], name: str) -> str:
    return f"{again[name]:.2f}, {again['epochs']} epochs" if name in again else "not reached"


BENCHMARK = Benchmark(
    "gpu_search",
    METHOD,
    ("torch", "torchvision", "timm", "numpy", "scipy"),
    measure,
    tables=tables,
    quick={
        "data": MADE_UP,
        "counts": (1, 2),
        "limit": 4,
        "recipe": "cifar10/smoke",
        "pool": 200,
        "predictor": 2.0,
        "most": 2,
        "trainings": 9,
    },
)
