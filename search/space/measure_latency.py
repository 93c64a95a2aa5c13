"""Measures the parts of a space's architectures on this machine, for the look-up table of `latency.py`.

fbnetv3 search latency-table micro --out latency.json
"""

from __future__ import annotations

import functools
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fbnetv3.arch import Arch, Block
from fbnetv3.errors import InputError
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


def measure_table(
    space: NetworkSpace, wanted: Sequence[Part], path: str | Path, progress: Report, rounds: int = ROUNDS
) -> LatencyTable:
    """Time the parts that the table at `path` lacks, at batch size 1 on one thread, and write the table as it grows.

    A part runs as in the torch backend of `optimize_for_inference`: batch norms folded, activations fused. A measurement
    that was stopped continues with the next call.

    Raises:
        InputError: the table at `path` is of another space, another machine or another version of torch.
    """
    path = Path(path)
    table = LatencyTable(space.name, machine(), {})
    if path.exists():
        before = load_table(path)
        if (before.space, before.machine) != (table.space, table.machine):
            raise InputError(f"{path} is of space {before.space} on {before.machine}; give another file")
        table = before
    missing = [part for part in wanted if part not in table.ms]
    for start in range(0, len(missing), BATCH):
        progress(len(wanted) - len(missing) + start, len(wanted), f"measuring the blocks of space {space.name}")
        some = missing[start : start + BATCH]
        times = median_ms({str(i): runner(*build_part(part)) for i, part in enumerate(some)}, rounds)
        table = LatencyTable(table.space, table.machine, table.ms | dict(zip(some, times, strict=True)))
        save_table(table, path)
    progress(len(wanted), len(wanted), f"measured the blocks of space {space.name}")
    return table


def measure_networks(archs: Sequence[Arch], space: NetworkSpace, rounds: int = ROUNDS) -> list[float]:
    """Return the milliseconds of complete networks, which run in the same way as the parts."""
    runs = {}
    for i, arch in enumerate(archs):
        network = seeded(functools.partial(build_model, arch, space.num_classes, space.in_chans), 0)
        side = arch.resolution
        runs[str(i)] = runner(network, torch.zeros(1, space.in_chans, side, side))
    return median_ms(runs, rounds)


def median_ms(runs: Mapping[str, Callable[[], object]], rounds: int) -> list[float]:
    """Return the median milliseconds of every call; the calls take turns and run on one thread.

    The clock is the processor time of this thread. By wall time, a complete network would look slower than the sum of its
    parts on a machine that is not idle, because it is interrupted more often than a part is.
    """
    with cpu_threads(1), torch.no_grad():
        times = time_calls(runs, rounds, time.thread_time)
    return [round(1e3 * statistics.median(times[name]), 6) for name in runs]


def build_part(part: Part) -> tuple[nn.Module, Tensor]:
    """Return a part as a module, and an input of batch size 1."""
    kind, cin, c, k, e, s, se, side = part
    if KINDS[kind] == "stem":
        module: nn.Module = ConvNormAct(cin, c, k, s, k // 2, bias=True, act="hswish")
    elif KINDS[kind] == "ir":
        module = InvertedResidual(cin, Block("ir", c, k, e, 1, s, bool(se)), s)
    elif KINDS[kind] == "pool":
        head = PoolHead(cin, Block("pool", c, e=e))
        module = nn.Sequential(head.expand, head)
    else:
        return nn.Sequential(nn.Flatten(), nn.Linear(cin, c)), torch.zeros(1, cin, 1, 1)
    return module, torch.zeros(1, cin, side, side)


def runner(module: nn.Module, example: Tensor) -> Callable[[], object]:
    """Return a call of the module, prepared for inference, on an input of its own."""
    with torch.no_grad(), cpu_threads(1):
        example = example.contiguous(memory_format=torch.channels_last)
        return functools.partial(fuse_network(nn.Sequential(module).eval(), example), example)


def machine() -> dict[str, str]:
    """Return what the times of a table depend on."""
    return {"cpu": cpu_model(), "torch": str(torch.__version__), "threads": "1", "batch": "1"}


def cpu_model() -> str:
    """Return the processor's name and family, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        # Not Linux.
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{fields.get('model name', platform.machine())}, family {fields.get('cpu family', '?')}"
