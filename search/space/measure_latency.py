"""Measures the parts of a space's architectures on this machine, for the look-up table of `latency.py`.

fbnetv3 search latency-table micro --out latency.json

On a GPU a part is recorded as a CUDA graph. At small batches a GPU takes less time for a part than Python takes to request its
kernels, so other times would count kernels and not the work of the blocks. The sum over parts then predicts a network that
runs as a graph too (`optimize_for_inference`'s backend `cuda-graph`).
"""

from __future__ import annotations

import functools
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnetv3.arch import Arch, Block
from fbnetv3.device import DTYPES, PRECISIONS, Precision, clock_of, tf32_units
from fbnetv3.errors import InputError, quote
from fbnetv3.inference.cuda_graph import record
from fbnetv3.inference.fusion import fuse_network
from fbnetv3.inference.optimize import time_calls
from fbnetv3.layers import ConvNormAct, InvertedResidual, PoolHead
from fbnetv3.model import build_model
from fbnetv3.progress import Report
from fbnetv3.search.space.latency import KINDS, LatencyTable, Part, load_table, save_table
from fbnetv3.search.space.network_space import NetworkSpace
from fbnetv3.training.engine import cpu_threads, seeded

BATCH = 32  # parts that are timed interleaved and then written to the file together
ROUNDS = 15
# A graph repeats a part so often: requesting the graph and waiting for it takes some 20 microseconds, as long as a part.
REPEATS = 50


@dataclass(frozen=True)
class Conditions:
    """What a measurement is made on and with: a device, the images of a batch, and the type that the network is moved to.

    Raises:
        InputError: a batch or precision that is not allowed. The CPU computes in fp32 here.
    """

    device: str = "cpu"
    batch: int = 1
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        allowed = PRECISIONS if self.on_gpu else ("fp32",)
        if self.precision not in allowed:
            raise InputError(f"precision is {quote(self.precision)}; allowed on {self.device}: {', '.join(allowed)}")
        if type(self.batch) is not int or self.batch < 1:
            raise InputError(f"batch is {quote(self.batch)}; allowed: whole numbers from 1")

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"


DEFAULT = Conditions()


def measure_table(
    space: NetworkSpace,
    wanted: Sequence[Part],
    path: str | Path,
    progress: Report,
    rounds: int = ROUNDS,
    conditions: Conditions = DEFAULT,
) -> LatencyTable:
    """Time the parts that the table at `path` lacks, and write the table as it grows.

    On the CPU a part runs on one thread as in the torch backend of `optimize_for_inference`: batch norms folded, activations
    fused. On a GPU it runs as in the backend `cuda-graph`. A measurement that was stopped continues with the next call.

    Raises:
        InputError: the table at `path` is of another space, another machine, other conditions or another version of torch; or
            the GPU has too little memory for the batch.
    """
    path = Path(path)
    table = LatencyTable(space.name, machine(conditions), {})
    if path.exists():
        before = load_table(path)
        if (before.space, before.machine) != (table.space, table.machine):
            raise InputError(
                f"{path} is of space {before.space} on {before.machine}, this measurement of {table.space} on {table.machine}; "
                "give another file"
            )
        table = before
    missing = [part for part in wanted if part not in table.ms]
    for start in range(0, len(missing), BATCH):
        progress(len(wanted) - len(missing) + start, len(wanted), f"measuring the blocks of space {space.name}")
        some = missing[start : start + BATCH]
        times = _times([functools.partial(build_part, part, conditions.batch) for part in some], rounds, conditions)
        table = LatencyTable(table.space, table.machine, table.ms | dict(zip(some, times, strict=True)))
        save_table(table, path)
    progress(len(wanted), len(wanted), f"measured the blocks of space {space.name}")
    return table


def measure_networks(
    archs: Sequence[Arch], space: NetworkSpace, rounds: int = ROUNDS, conditions: Conditions = DEFAULT
) -> list[float]:
    """Return the milliseconds of complete networks, which run in the same way as the parts."""

    def built(arch: Arch) -> tuple[nn.Module, Tensor]:
        network = seeded(functools.partial(build_model, arch, space.num_classes, space.in_chans), 0)
        return network, torch.zeros(conditions.batch, space.in_chans, arch.resolution, arch.resolution)

    return _times([functools.partial(built, arch) for arch in archs], rounds, conditions)


def _times(
    builds: Sequence[Callable[[], tuple[nn.Module, Tensor]]], rounds: int, conditions: Conditions
) -> list[float]:
    """Return the milliseconds of modules on their inputs."""
    if not conditions.on_gpu:
        runs = {str(i): runner(*build(), conditions) for i, build in enumerate(builds)}
        return median_ms(runs, rounds, conditions)
    try:
        # One by one, because the graphs of large batches together could need more memory than a GPU has.
        return [median_ms({"": runner(*build(), conditions)}, rounds, conditions)[0] for build in builds]
    except torch.OutOfMemoryError:
        raise InputError(
            f"{conditions.device} has too little free memory for a batch of {conditions.batch}; give a smaller batch"
        ) from None


def median_ms(runs: Mapping[str, Callable[[], object]], rounds: int, conditions: Conditions = DEFAULT) -> list[float]:
    """Return the median milliseconds of every call; the calls take turns.

    On the CPU they run on one thread, and the clock is the processor time of this thread. By wall time, a complete network
    would look slower than the sum of its parts on a machine that is not idle, because it is interrupted more often than a part
    is. On a GPU the clock waits for the GPU, and a call stands for `REPEATS` of them.
    """
    if conditions.on_gpu:
        times, calls = time_calls(runs, rounds, clock_of(torch.device(conditions.device))), REPEATS
    else:
        with cpu_threads(1), torch.no_grad():
            times, calls = time_calls(runs, rounds, time.thread_time), 1
    return [round(1e3 * statistics.median(times[name]) / calls, 6) for name in runs]


def build_part(part: Part, batch: int = 1) -> tuple[nn.Module, Tensor]:
    """Return a part as a module, and an input of `batch` images."""
    kind, cin, c, k, e, s, se, side = part
    if KINDS[kind] == "stem":
        module: nn.Module = ConvNormAct(cin, c, k, s, k // 2, bias=True, act="hswish")
    elif KINDS[kind] == "ir":
        module = InvertedResidual(cin, Block("ir", c, k, e, 1, s, bool(se)), s)
    elif KINDS[kind] == "pool":
        head = PoolHead(cin, Block("pool", c, e=e))
        module = nn.Sequential(head.expand, head)
    else:
        return nn.Sequential(nn.Flatten(), nn.Linear(cin, c)), torch.zeros(batch, cin, 1, 1)
    return module, torch.zeros(batch, cin, side, side)


def runner(module: nn.Module, example: Tensor, conditions: Conditions = DEFAULT) -> Callable[[], object]:
    """Return a call of the module, prepared for inference, on an input of its own.

    On a GPU it is a graph of `REPEATS` such calls, one after the other.
    """
    device, dtype = torch.device(conditions.device), DTYPES[conditions.precision]
    # torch's settings of TF32 are those of GPUs: on the CPU they are left as they are.
    exactness = tf32_units(conditions.precision == "tf32") if conditions.on_gpu else nullcontext()
    with torch.no_grad(), cpu_threads(1), exactness:
        example = example.to(device, dtype).contiguous(memory_format=torch.channels_last)
        network = nn.Sequential(module).eval().to(device, dtype)
        call = functools.partial(fuse_network(network, example), example)
        return call if not conditions.on_gpu else _graph_of(call, device)


def _graph_of(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
    graph, result = record(call, device, REPEATS)

    # The graph reads and writes the memory of these, which nobody else keeps.
    def replay(_kept: object = (call, result)) -> None:
        graph.replay()

    return replay


def machine(conditions: Conditions = DEFAULT) -> dict[str, str]:
    """Return what the times of a table depend on."""
    if not conditions.on_gpu:
        return {"cpu": cpu_model(), "torch": str(torch.__version__), "threads": "1", "batch": str(conditions.batch)}
    return {
        "gpu": torch.cuda.get_device_name(conditions.device),
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "precision": conditions.precision,
        "batch": str(conditions.batch),
    }


def cpu_model() -> str:
    """Return the processor's name and family, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        # Not Linux.
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{fields.get('model name', platform.machine())}, family {fields.get('cpu family', '?')}"
