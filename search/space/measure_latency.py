"""Measures the pieces of a space's architectures on this machine, for the look-up table of `latency.py`.

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
from fbnetv3.search.space.latency import KINDS, LatencyTable, Piece, load_table, save_table
from fbnetv3.search.space.space import SearchSpace
from fbnetv3.training.loop import cpu_threads, seeded

BATCH = 32  # pieces that are timed interleaved, and written together
ROUNDS = 15
Progress = Callable[[int, int, str], None]


def measure_table(
    space: SearchSpace, wanted: Sequence[Piece], path: str | Path, progress: Progress, rounds: int = ROUNDS
) -> LatencyTable:
    """Time the pieces that the table at `path` does not hold yet, batch 1, one thread, and write it as it grows.

    A piece runs as in `optimize_for_inference`'s torch backend: batch norms folded, activations fused.

    Raises:
        InputError: the table at `path` is of another space, machine or version of torch.
    """
    path = Path(path)
    table = LatencyTable(space.name, machine(), {})
    if path.exists():
        before = load_table(path)
        if (before.space, before.machine) != (table.space, table.machine):
            raise InputError(f"{path} is of space {before.space} on {before.machine}; give another file")
        table = before
    missing = [piece for piece in wanted if piece not in table.ms]
    for start in range(0, len(missing), BATCH):
        progress(len(wanted) - len(missing) + start, len(wanted), f"measuring the blocks of space {space.name}")
        some = missing[start : start + BATCH]
        times = median_ms({str(i): runner(*build_piece(piece)) for i, piece in enumerate(some)}, rounds)
        table = LatencyTable(table.space, table.machine, table.ms | dict(zip(some, times, strict=True)))
        save_table(table, path)
    progress(len(wanted), len(wanted), f"measured the blocks of space {space.name}")
    return table


def measure_networks(archs: Sequence[Arch], space: SearchSpace, rounds: int = ROUNDS) -> list[float]:
    """Milliseconds of whole networks, run in the same way."""
    runs = {}
    for i, arch in enumerate(archs):
        network = seeded(functools.partial(build_model, arch, space.num_classes, space.in_chans), 0)
        side = arch.resolution
        runs[str(i)] = runner(network, torch.zeros(1, space.in_chans, side, side))
    return median_ms(runs, rounds)


def median_ms(runs: Mapping[str, Callable[[], object]], rounds: int) -> list[float]:
    """Median milliseconds of each call, interleaved, on one thread.

    By the processor's time of this thread: a whole network meets other processes more often than one of its blocks does,
    and would look slower than their sum on a machine that is not idle.
    """
    with cpu_threads(1), torch.no_grad():
        times = time_calls(runs, rounds, time.thread_time)
    return [round(1e3 * statistics.median(times[name]), 6) for name in runs]


def build_piece(piece: Piece) -> tuple[nn.Module, Tensor]:
    """A piece as a module, and an input of batch 1."""
    kind, cin, c, k, e, s, se, side = piece
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
    """A call of the module, made ready for inference, on an input of its own."""
    with torch.no_grad(), cpu_threads(1):
        example = example.contiguous(memory_format=torch.channels_last)
        return functools.partial(fuse_network(nn.Sequential(module).eval(), example), example)


def machine() -> dict[str, str]:
    """What a table's times hold for."""
    return {"cpu": cpu_model(), "torch": str(torch.__version__), "threads": "1", "batch": "1"}


def cpu_model() -> str:
    """The processor's name and family, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{fields.get('model name', platform.machine())}, family {fields.get('cpu family', '?')}"
