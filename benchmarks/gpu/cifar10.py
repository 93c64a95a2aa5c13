"""Figure 7 on one GPU: accuracy on CIFAR-10 against FLOPs, by the protocol of section 4.3.

Networks, images and recipe are the same as in the benchmark `cifar10`. Every network gets the same short trainings with
different learning rates, which are compared on the validation images, and then one training with its best rate, which is
measured on the test images. The number of epochs is the largest that fits the time, and the same for all networks.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fbnetv3.benchmarks.experiments import cifar10 as experiment
from fbnetv3.benchmarks.experiments.cifar10_networks import Network, count_flops, find_network
from fbnetv3.benchmarks.gpu.cases import GpuDevice, Seconds, card_facts, summary_tables
from fbnetv3.benchmarks.gpu.cifar10_lanes import Lane, Plan, make_plan, measure_pace, open_lanes
from fbnetv3.benchmarks.gpu.images import CLASSES, MADE_UP, Images, find_images, keep_images
from fbnetv3.benchmarks.gpu.trainings import TrainingEvaluator, open_device, side_by_side
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Format, Table
from fbnetv3.device import find_device, find_precision
from fbnetv3.errors import InputError
from fbnetv3.recipes import load_recipe
from fbnetv3.training.recipe import Recipe

# The most valuable first.
NETWORKS = (
    "fbnetv3_a",
    "timm:tf_efficientnet_b0",
    "fbnetv3_e",
    "timm:tf_efficientnet_b1",
    "torchvision:resnet18",
)
RECIPE = "cifar10/small"  # chosen before this benchmark, and tuned for none of the networks
BATCH = 512
RATES = (0.05, 0.15, 0.45)
WARMUP = 1 / 8  # share of the epochs
SMOOTHING = 0.1  # of labels: usual in short trainings on CIFAR-10, and helps networks of all kinds (He et al., 2019)
MOST = 200  # epochs of all trainings of a network
EVERY = 4  # the pace is measured on every so many-th training image
LIMIT = 90.0  # percent that every network should exceed
METHOD = (
    "Networks changed for CIFAR-10 by section 4.3, as in the benchmark cifar10; recipe {recipe} at batch {batch}, with a "
    "warm-up of an eighth of the epochs, label smoothing {smoothing:g}, and without distillation. `plan`: each network "
    "trains `sweep` epochs with each of the `rates`; the rate with the highest accuracy on the validation images trains "
    "`epochs` epochs, and `acc1` is top-1 on the test images after the last of them, in percent, for one seed. All networks "
    "get equally many epochs. `pace`: seconds of an epoch of all networks, one after the other and side by side, each in its "
    "own process; the faster way was taken. The images are held and augmented on the device.{jpeg}"
)
COLUMNS: dict[str, Format] = experiment.NETWORK_COLUMNS | {
    "learning rate": "{lr:g}",
    "epochs": "{epochs}",
}


def measure(
    seconds: Seconds = 170,
    device: GpuDevice = "auto",
    data: Images = None,
    networks: Sequence[str] = NETWORKS,
    batch: int = BATCH,
    limit: int | None = None,
    most: int = MOST,
) -> Iterator[Measured]:
    """Train all networks, and yield everything so far whenever one is ready.

    Args:
        networks: names that `find_network` knows, the most valuable first.
        batch: images of a step.
        limit: largest number of images of a class in every split.
        most: largest number of epochs of all trainings of a network together.
    """
    begin = time.monotonic()
    device = find_device(device)
    facts, recipe = card_facts(device), recipe_of_all(batch)
    with tempfile.TemporaryDirectory(prefix="fbnetv3-cifar10-") as name:
        folder = Path(name)
        found = {name: find_network(name) for name in networks}
        files = {network.resolution: folder / f"{network.resolution}.pt" for network in found.values()}
        evaluator = TrainingEvaluator(files, device, find_precision("auto", device))
        with open_lanes(networks, evaluator, begin + seconds) as lanes:
            # The processes start while this one unpacks and counts. Decoding waits for them, because it forks.
            with ThreadPoolExecutor() as threads:
                for lane in lanes:
                    threads.submit(open_device, lane.pool, 1)
                spec = find_images(data, folder)
                costs = {name: costs_of(network) for name, network in found.items()}
            kept = [keep_images(spec, side, limit, file) for side, file in files.items()]
            about = kept[0]  # the same at every side
            values = {"data": about, "costs": costs, "recipe": RECIPE, "batch": batch, "rates": list(RATES)}
            words = {
                "recipe": RECIPE,
                "batch": batch,
                "smoothing": SMOOTHING,
                "jpeg": experiment.JPEG if about["jpeg"] else "",
            }
            for so_far in train_all(lanes, recipe, values | {"precision": evaluator.precision}, most):
                used = {"seconds": round(time.monotonic() - begin, 1)}
                yield Measured(so_far | used, words, facts)


def costs_of(network: Network) -> Values:
    """Return what the result file says of a network before it is trained."""
    flops, params = count_flops(network, CLASSES)
    return {"resolution": network.resolution, "flops": flops, "params": params}


def train_all(lanes: Sequence[Lane], recipe: Recipe, values: Values, most: int) -> Iterator[Values]:
    """Train all networks; yield everything known so far when their speed is measured, and whenever a network is ready."""
    names = [lane.network for lane in lanes]
    short = with_rate(recipe, RATES[0], 3)
    # Starts the processes, and lets libraries choose their algorithms: what is timed later has neither.
    warm = side_by_side(lanes, functools.partial(Lane.train, recipe=short, epochs=1, every=EVERY), len(lanes))
    failed = {lane.network: outcome.error for lane, outcome in warm if outcome.status == "failed"}
    lanes = [lane for lane in lanes if lane.network not in failed]
    if not lanes:
        raise InputError(f"no network can be trained: {next(iter(failed.values()))}")
    paces = [measure_pace(lanes, short, at_once, EVERY) for at_once in (1, len(lanes))]
    pace = min(paces, key=lambda one: one.epoch)
    values = values | {"pace": [dataclasses.asdict(one) for one in paces]}
    cases: Values = {}

    def so_far() -> Values:
        waiting = [name for name in names if name not in cases and name not in failed]
        return values | {"cases": dict(cases), "failed": dict(failed), "not_reached": waiting}

    yield so_far()  # there may be too little time for a plan
    plan = make_plan(lanes[0].end - time.monotonic(), pace, len(RATES), most)
    values |= {"plan": {"at_once": pace.at_once, **dataclasses.asdict(plan)}}
    for lane, outcome in side_by_side(lanes, functools.partial(contest, recipe=recipe, plan=plan), pace.at_once):
        if isinstance(outcome, dict):
            cases[lane.network] = values["costs"][lane.network] | outcome
        elif time.monotonic() < lane.end:  # otherwise it was stopped, and is among those not reached
            failed[lane.network] = outcome
        yield so_far()


def contest(lane: Lane, recipe: Recipe, plan: Plan) -> Values | str:
    """Make all trainings of a network. Return its row of the result file, or why there is none."""
    start = time.monotonic()
    sweep: dict[str, float] = {}
    for rate in RATES:
        outcome = lane.train(with_rate(recipe, rate, plan.sweep), plan.sweep)
        if outcome.status == "failed":
            return outcome.error
        sweep[f"{rate:g}"] = outcome.acc1[-1] if outcome.acc1 else 0.0  # a training that diverged
    best = max(RATES, key=lambda rate: sweep[f"{rate:g}"])  # of equal ones the smallest
    final = lane.train(with_rate(recipe, best, plan.epochs), plan.epochs, "test")
    if final.status != "ok":
        return final.error or f"the training with learning rate {best:g} diverged"
    return {
        "sweep": sweep,
        "lr": best,
        "epochs": plan.epochs,
        "acc1": final.acc1[-1],
        "seconds": round(time.monotonic() - start, 1),
    }


def recipe_of_all(batch: int) -> Recipe:
    """Return the recipe of all networks, without the learning rate and the length of a training."""
    return load_recipe(RECIPE).replace(batch_size=batch, label_smoothing=SMOOTHING)


def with_rate(recipe: Recipe, rate: float, epochs: int) -> Recipe:
    """Return the recipe with a learning rate, and its whole schedule in so many epochs."""
    return recipe.replace(lr=rate, epochs=epochs, warmup_epochs=WARMUP * epochs)


def targets(values: Values) -> dict[str, Target]:
    """Return the accuracy that every trained network is held to."""
    return {name: Target(row["acc1"], "above", LIMIT) for name, row in values["cases"].items()}


def tables(result: Result) -> dict[str, Table]:
    """Return the trained networks, their sweeps, and the time of an epoch."""
    values = result.values
    rows = [{"name": name, **row} for name, row in values["cases"].items()]
    rates = [f"{rate:g}" for rate in values["rates"]]
    found = {}
    # A page shows tables without their titles, so that the headings say what the numbers are.
    if rows:
        lossy = ", on images that were stored as JPEG" if values["data"]["jpeg"] else ""
        accuracy: dict[str, Format] = {f"test top-1 (%){lossy}": "{acc1:.2f}"}
        found["trained networks"] = Table.of(COLUMNS | accuracy, rows)
        title = f"validation top-1 (%) after {values['plan']['sweep']} epochs"
        sweep: dict[str, Format] = {title: "`{name}`"}
        found[title] = Table.of(sweep | {f"rate {rate}": functools.partial(_swept, rate) for rate in rates}, rows)
    return found | {"seconds of an epoch": _pace_table(values)} | summary_tables(result)


def _swept(rate: str, row: Mapping[str, Any]) -> str:
    return f"{row['sweep'][rate]:.2f}"


def _pace_table(values: Values) -> Table:
    """Return the seconds of an epoch of each network, alone and side by side with the others, and of all together."""
    alone, beside = values["pace"]
    rows = [
        (f"`{name}`", f"{alone['networks'][name]:.2f}", f"{beside['networks'][name]:.2f}") for name in alone["networks"]
    ]
    return Table(
        ("seconds of an epoch", "alone", f"{beside['at_once']} side by side"),
        (*rows, ("all", f"{alone['epoch']:.2f}", f"{beside['epoch']:.2f}")),
    )


def plot(result: Result) -> bytes:
    """Return a PNG of accuracy against FLOPs."""
    values = result.values
    rows = {name: row | {"mean": row["acc1"], "deviation": 0.0} for name, row in values["cases"].items()}
    drawn = {"networks": rows, "data": values["data"], "training": {"epochs": values["plan"]["epochs"]}}
    return experiment.plot(dataclasses.replace(result, values=drawn))


BENCHMARK = Benchmark(
    "gpu_cifar10",
    METHOD,
    ("torch", "torchvision", "timm", "fvcore", "pillow", "numpy"),
    measure,
    targets=targets,
    tables=tables,
    plot=plot,
    quick={
        "networks": ("fbnetv3_a0", "timm:tf_mobilenetv3_small_minimal_100"),
        "data": MADE_UP,
        "batch": 16,
        "limit": 10,
        "most": 4,
    },
)
