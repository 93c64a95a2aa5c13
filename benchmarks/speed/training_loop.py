"""Speed of the training loop `fit` against a loop of timm's parts, and its overhead over the same step written by hand.

All loops train the same network on the same batches in turns, and the benchmark proves that they compute the same. It takes
about ten minutes. The targets, for three sizes of networks: `fit` is at least as fast as timm's loop, and less than 3% slower
than the step by hand.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import typer

from fbnetv3.benchmarks.command import one_of
from fbnetv3.benchmarks.harness import Benchmark, Measured, Target, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.speed.loops import CASES, LOOPS, SEED, STEPS, Case, Loop, difference, equal
from fbnetv3.benchmarks.statistics import speed_ratio
from fbnetv3.benchmarks.tables import Format, Table, ratio
from fbnetv3.search.space.measure_latency import cpu_model
from fbnetv3.training.accuracy import measure as evaluate
from fbnetv3.training.data.memory import ImageData
from fbnetv3.training.engine import cpu_threads
from fbnetv3.training.loop import fit

WARMUP = 2  # rounds before the clock counts
# Largest allowed difference between timm's loop and the one by hand after the first epoch: of weights as a share of their
# largest change, and of the mean loss as a share of the loss.
SAME = {"timm_difference": 0.02, "loss_difference": 1e-5}
METHOD = (
    "Four loops train the same network from the same weights on the same batches, in one process on one thread, and take "
    f"turns: a round is an epoch of {STEPS} steps of each, in an order drawn again in every round, and the first {WARMUP} "
    "rounds do not count. `ours` is `fit` itself; the clock starts when it asks its data for an epoch and stops when it "
    "reports the last step (`progress`, in which the others take their turns), so that building, evaluation and what "
    "`fit` does once an epoch after its last step are not in it, while the epoch's random numbers and everything done per "
    "step are. Before every turn each network is evaluated as `fit` does, off the clock. `by_hand` is the same step with "
    "nothing around it: the same tensor operations spelt out (augmentation, mixup, loss, the same optimizer, moving "
    "average of weights and running statistics) and rates computed beforehand. `timm` is timm's Mixup, "
    "SoftTargetCrossEntropy, create_optimizer_v2, create_scheduler_v2 and ModelEmaV3 on this package's augmented batches "
    "(timm has no loader of tensors in memory); it neither logs nor looks at its loss. `bare` is forward, loss, backward "
    "and optimizer step on ready batches: no augmentation, mixup, average, schedule. Recipe: RMSPropTF, no decay of norms "
    "and biases, mixup, label smoothing, dropout, stochastic depth, moving average, warm-up and exponential schedule, "
    "crop_flip; channels last, uint8 images in memory (Fashion-MNIST). `ms_per_step` and `images_per_second` are of the "
    "median round; `ours_over_timm` is the images a second of `ours` over those of `timm`, `overhead` what `ours` takes "
    "longer than `by_hand` as a share of the latter, both ratios of medians with the 95% bootstrap interval over rounds; "
    "`cpu_*` are the same of the process's CPU time instead of the clock on the wall. In the same run `ours` and "
    "`by_hand` must end with weights, running statistics and averages equal to the last bit, and `timm`, which draws the "
    "same random numbers, must after the first epoch be as near as rounding leaves it (`timm_difference`: largest "
    "difference of a weight, running statistic or average of these, as a share of the largest change of its kind; "
    "`loss_difference`: of the epoch's mean loss)."
)


@dataclass
class Watch:
    """Seconds of every turn of a loop: on the clock, and of the CPU time of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    _started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a turn."""
        self._started = (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        """End the turn and keep its times."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.wall.append(wall - self._started[1])
        self.cpu.append(cpu - self._started[0])


def measure(
    rounds: Annotated[
        int | None, typer.Option(min=WARMUP + 1, help=f"Rounds for every network, {WARMUP} of them to warm up.")
    ] = None,
    networks: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME ...", parser=one_of(*CASES), help=f"Networks to train: {', '.join(CASES)}."),
    ] = tuple(CASES),
) -> Measured:
    """Time all loops on every network; by default every network has its own number of rounds."""
    cases = {name: CASES[name] for name in networks}
    if rounds is not None:
        cases = {name: dataclasses.replace(case, rounds=rounds) for name, case in cases.items()}
    # On one thread the loops differ by their overhead alone. More threads would hide it behind their own.
    with cpu_threads(1):
        values = {name: run_case(case) for name, case in cases.items()}
    # Whoever repeats the measurement has to know what else could have slowed one loop more than another.
    facts = {
        "cpu": cpu_model(),
        "threads": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "niceness": str(os.getpriority(os.PRIO_PROCESS, 0)),
    }
    return Measured(values, facts=facts)


def run_case(case: Case) -> Values:
    """Let all loops take turns, and return times, ratios and the proof that they compute the same.

    Raises:
        RuntimeError: they do not compute the same.
    """
    watches = {name: Watch() for name in ("ours", *LOOPS)}
    loops = {name: make(case) for name, make in LOOPS.items()}
    shuffle = np.random.default_rng(SEED)
    seen: dict[str, float] = {}
    data = case.data(watches["ours"].start)

    def take_turns(done: int, _total: int, _text: str) -> None:
        """Let the other loops train the epoch that `fit` has just ended. `fit` reports every step, and waits here."""
        if done % STEPS:
            return
        watches["ours"].stop()
        number = done // STEPS - 1
        # A new order every round: no loop always finds the caches as the same other loop left them.
        losses = {name: _turn(loops[name], number, data, watches[name]) for name in shuffle.permutation(list(LOOPS))}
        if number == 0:
            # Later epochs are not compared: there the rounding errors of the first ones have grown.
            seen["timm_difference"] = difference(loops["timm"], loops["by_hand"], case.network())
            seen["loss_difference"] = abs(losses["timm"] / losses["by_hand"] - 1)
            if not all(seen[key] <= limit for key, limit in SAME.items()):
                raise RuntimeError(f"timm's loop does not train as by_hand does: {seen}; allowed: {SAME}")

    model = case.network()
    trained = fit(model, case.recipe, data, seed=SEED, progress=take_turns)
    hand = loops["by_hand"]
    if hand.average is None or not (equal(model, hand.model) and equal(trained.model, hand.average)):
        raise RuntimeError("`fit` and by_hand end with different weights, running statistics or averages")
    return {"rounds": case.rounds - WARMUP, **_figures(case, watches), "ours_equals_by_hand": True, **seen}


def _turn(loop: Loop, number: int, data: ImageData, watch: Watch) -> float:
    """Evaluate as `fit` has just done, then train an epoch on the clock, and return its mean loss."""
    # Evaluation leaves the caches in a certain state. Every loop begins its turn with the same one.
    for model in (loop.model, loop.average):
        if model is not None:
            evaluate(model, data, "val")
    rng = np.random.default_rng([SEED, number])  # the generator that `fit` has for this epoch
    watch.start()
    value = loop.epoch(number, rng)
    watch.stop()
    return value


def _figures(case: Case, watches: Mapping[str, Watch]) -> Values:
    """Return the measured values of one network, without the epochs that warm the caches."""
    wall = {name: watch.wall[WARMUP:] for name, watch in watches.items()}
    cpu = {name: watch.cpu[WARMUP:] for name, watch in watches.items()}
    median = {name: float(np.median(times)) for name, times in wall.items()}
    return {
        "ms_per_step": {name: round(1e3 * value / STEPS, 4) for name, value in median.items()},
        "images_per_second": {name: round(STEPS * case.batch / value, 1) for name, value in median.items()},
        "ours_over_timm": speed_ratio(wall["timm"], wall["ours"]).as_dict(),
        "overhead": _overhead(wall),
        "ours_over_bare": speed_ratio(wall["bare"], wall["ours"]).as_dict(),
        "cpu_ours_over_timm": speed_ratio(cpu["timm"], cpu["ours"]).as_dict(),
        "cpu_overhead": _overhead(cpu),
    }


def _overhead(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Return how much longer a step of `fit` takes than by hand, as a share of the time by hand, with its 95% interval."""
    longer = speed_ratio(times["ours"], times["by_hand"])
    return {"share": round(longer.ratio - 1, 4), "low": round(longer.low - 1, 4), "high": round(longer.high - 1, 4)}


def case_values(values: Values) -> dict[str, Any]:
    """Return the values of the networks that were trained, by name."""
    return {name: values[name] for name in CASES if name in values}


def targets(values: Values) -> dict[str, Target]:
    """Return the two targets of every network."""
    found = {}
    for name, row in case_values(values).items():
        found[f"{name}_ours_over_timm"] = Target(row["ours_over_timm"]["ratio"], "at_least", 1.0)
        found[f"{name}_overhead"] = Target(row["overhead"]["share"], "below", 0.03)
    return found


def tables(result: Result) -> dict[str, Table]:
    """Return the images per second of every loop, and the ratios."""
    columns: dict[str, Format] = {
        "network": "`{name}`",
        **{f"{loop} (images/s)": f"{{images_per_second[{loop}]:.0f}}" for loop in ("ours", *LOOPS)},
        "times as fast as timm": lambda row: ratio(row["ours_over_timm"]),
        "slower than by hand": lambda row: "{share:.1%} [{low:.1%}, {high:.1%}]".format(**row["overhead"]),
    }
    return {"loops": Table.of(columns, ({"name": name, **row} for name, row in case_values(result.values).items()))}


BENCHMARK = Benchmark("loop_speed", METHOD, ("torch", "timm", "numpy"), measure, targets, tables=tables)
