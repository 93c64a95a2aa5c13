"""The ways to run one network on a GPU, and their times in turns."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

from fbnetv3.arch import find_arch
from fbnetv3.benchmarks.speed.inference_paths import adapt, timm_twin, without_gradients
from fbnetv3.device import DTYPES, changed, clock_of, tf32_units
from fbnetv3.inference.cuda_graph import GraphRun
from fbnetv3.inference.fusion import fold_batch_norms
from fbnetv3.inference.runtimes import Run
from fbnetv3.layers import use_channels_last
from fbnetv3.model import build_model
from fbnetv3.training.engine import seeded

PATHS = ("eager", "channels_last", "graph", "compiled", "compiled_graph")
# timm has these alone.
TWINS = {"fbnetv3_b": "fbnetv3_b_same_padding", "fbnetv3_d": "fbnetv3_d", "fbnetv3_g": "fbnetv3_g"}
# EfficientNet-B0 to B4, each with a network near it in the paper's Table 4. They are not equally accurate. Each runs at its own
# resolution.
RIVALS = {
    "fbnetv3_a": "tf_efficientnet_b0",
    "fbnetv3_b": "tf_efficientnet_b1",
    "fbnetv3_c": "tf_efficientnet_b2",
    "fbnetv3_e": "tf_efficientnet_b3",
    "fbnetv3_g": "tf_efficientnet_b4",
}
CHECKED = 4  # images whose logits are compared with those in float64
RESIDUAL = 0.25  # weight of the batch norms that end residual blocks
# Largest allowed difference from float64 as a share of the norm of the logits: of networks that are one function, all in
# float64, and of a path. The limit of a path is wider where torch's eager mode has a larger error in the same precision.
SAME = 1e-4
TOLERANCES = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
OVER_EAGER = 3.0  # a path may have so many times the error of eager mode
WARM_UP = 3
BUFFERS = 4  # inputs that take turns: one alone could stay in the card's cache
LEAST_ROUNDS, MOST_ROUNDS = 5, 200


@dataclass(frozen=True, eq=False)
class Side:
    """A network that is measured, in eval mode in float32, with its own resolution.

    Attributes:
        name: `ours`, `ours_folded`, `timm`, or the name of an EfficientNet.
        network: the network on the device.
        resolution: side of its images in pixels.
    """

    name: str
    network: nn.Module
    resolution: int


@functools.lru_cache(maxsize=1)  # cases of one network follow each other, and the card should not hold all networks
def sides(network: str, resolution: int | None, device: torch.device) -> tuple[Side, ...]:
    """Return the networks that are compared: this package's, the same with folded batch norms, timm's, an EfficientNet.

    Args:
        resolution: of all networks; None for that of each.

    Raises:
        RuntimeError: networks that should be one function are not.
    """
    side = resolution or find_arch(network).resolution
    name = TWINS.get(network, network)
    ours = seeded(lambda: build_model(name), 0).to(device)
    adapt(ours, _noise(8, side, device), RESIDUAL)
    folded = copy.deepcopy(ours).eval()
    fold_batch_norms(folded)
    found = [Side("ours", ours.eval(), side), Side("ours_folded", folded, side)]
    if network in TWINS:
        found.append(Side("timm", timm_twin(ours, name).to(device).eval(), side))
    images = _noise(CHECKED, side, device)
    expected = exact_logits(found[0], images)
    for other in found[1:]:
        check_logits(other.name, relative_norm(exact_logits(other, images), expected), SAME)
    if network in RIVALS:
        rival = seeded(lambda: timm.create_model(RIVALS[network]), 0).to(device)
        size: int = resolution or timm.get_pretrained_cfg(RIVALS[network]).input_size[-1]
        adapt(rival, _noise(8, size, device))
        found.append(Side(RIVALS[network], rival.eval(), size))
    return tuple(found)


def _noise(count: int, side: int, device: torch.device) -> Tensor:
    """Return images of noise, the same on every device."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)


def build_run(side: Side, path: str, precision: str, images: Tensor, backend: str) -> Run:
    """Return a network as a function of images, on one of `PATHS`.

    Args:
        images: what the function will be called with, in its type and layout.
        backend: of torch.compile.
    """
    network = copy.deepcopy(side.network).to(DTYPES[precision])
    if path != "eager":
        use_channels_last(network)
    if path.startswith("compiled"):
        network = torch.compile(network, backend=backend)  # type: ignore[assignment]
    run = without_gradients(network)
    # Other devices have no graphs. There a rehearsal runs the same function without one.
    return GraphRun(run, images) if path.endswith("graph") and images.device.type == "cuda" else run


def inputs(side: Side, batch: int, path: str, precision: str, device: torch.device) -> list[Tensor]:
    """Return several batches of noise in the layout and the type of a path."""
    layout = torch.contiguous_format if path == "eager" else torch.channels_last
    generator = torch.Generator(device).manual_seed(1)
    shape = (batch, 3, side.resolution, side.resolution)
    noise = (torch.randn(shape, generator=generator, device=device) for _ in range(BUFFERS))
    return [images.to(DTYPES[precision]).contiguous(memory_format=layout) for images in noise]


def exact_logits(side: Side, images: Tensor) -> Tensor:
    """Return the logits of the first images in float64."""
    logits: Tensor = without_gradients(copy.deepcopy(side.network).double())(images[:CHECKED].double().contiguous())
    return logits


def relative_norm(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference as a share of the norm of what was expected."""
    return float((found.double() - expected).norm() / expected.norm())


def path_error(side: Side, run: Run, images: Tensor, precision: str) -> float:
    """Return how far the logits of a path are from those in float64.

    Raises:
        RuntimeError: farther than the precision explains.
    """
    found = run(images)[:CHECKED]
    plain = build_run(side, "eager", precision, images, "")
    # Trying algorithms takes seconds for a new shape, and these calls are not timed.
    with gpu_settings(precision, tries=False):
        expected = exact_logits(side, images)
        eager = relative_norm(plain(images[:CHECKED].contiguous()), expected)
    error = relative_norm(found, expected)
    check_logits(f"{side.name} in {precision}", error, max(TOLERANCES[precision], OVER_EAGER * eager))
    return error


def check_logits(name: str, error: float, allowed: float) -> None:
    """Raise RuntimeError if a network does not compute what it should. A wrong function has no speed."""
    if not error <= allowed:  # also for NaN
        raise RuntimeError(f"{name}: logits differ from those in float64 by {error:.1e}; allowed: {allowed:.1e}")


@contextlib.contextmanager
def gpu_settings(precision: str, tries: bool = True) -> Iterator[None]:
    """Allow TF32 or forbid it, and let cuDNN try its algorithms for each shape or not. Restored at the end of the block."""
    with changed(torch.backends.cudnn, "benchmark", tries), tf32_units(precision == "tf32"):
        yield


def times_in_turns(
    runs: Mapping[str, Run], images: Mapping[str, Sequence[Tensor]], device: torch.device, seconds: float
) -> dict[str, list[float]]:
    """Return the seconds of calls of every function, one call of each in a round, after some that warm up.

    Args:
        images: the inputs of each function, which take turns.
        seconds: about how long the rounds take in all.
    """
    clock = clock_of(device)
    times: dict[str, list[float]] = {name: [] for name in runs}

    def one_round(number: int) -> None:
        for name, run in runs.items():
            batch = images[name][number % len(images[name])]
            start = clock()
            run(batch)
            times[name].append(clock() - start)

    begin = clock()
    for number in range(WARM_UP):
        # The first calls choose algorithms and compile, so only the last one says how long a round takes.
        begin = clock()
        one_round(number)
    rounds = int(seconds / max(clock() - begin, 1e-9))
    for series in times.values():
        series.clear()
    for number in range(min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS)):
        one_round(number)
    return times
