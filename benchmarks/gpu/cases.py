"""What the GPU benchmarks share: cases in the order of their value until the time is over, and the card in words."""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import torch
import typer

from fbnetv3.benchmarks.harness import Measured, Values
from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.tables import Table
from fbnetv3.progress import count_steps
from fbnetv3.search.execution.memory import free_memory
from fbnetv3.search.space.measure_latency import cpu_model

Seconds = Annotated[
    float, typer.Option(min=0, help="No case starts after so many seconds. The most valuable run first.")
]
GpuDevice = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda or cuda:N.")]
NO_CARD = "none: a rehearsal on the CPU, whose numbers mean nothing"
LONGEST_TEXT = 2000  # characters of an error that a result file keeps


def run_cases(cases: Mapping[str, Callable[[], Values]], seconds: float, device: str) -> Iterator[Measured]:
    """Run cases in order until the time is over, and yield everything measured so far after each of them.

    The values have the key `cases` (what each case returned), `failed` (the error of each case that raised one),
    `not_reached` (names of the cases that did not run) and `seconds` (how long all of this took).

    Args:
        cases: functions that measure, by name, the most valuable first.
        seconds: no case starts later than this.
        device: a device that `find_device` has checked.
    """
    done: Values = {}
    failed: dict[str, str] = {}
    waiting, begin, facts = list(cases), time.monotonic(), card_facts(device)
    with count_steps(len(cases)) as step:
        for name, case in cases.items():
            # The first case always runs: a result file without one says nothing.
            if time.monotonic() - begin > seconds and len(waiting) < len(cases):
                break
            step(name)
            try:
                done[name] = case()
            except Exception as error:  # whatever one case raises, the numbers of the others are kept
                failed[name] = shortened(error)
            release_memory()
            waiting.remove(name)
            used = round(time.monotonic() - begin, 1)
            # Copies, because the caller keeps them while later cases run.
            values = {"cases": dict(done), "failed": dict(failed), "not_reached": list(waiting), "seconds": used}
            yield Measured(values, facts=facts)


def shortened(error: Exception) -> str:
    """Return an error with the lines that it came from, cut in the middle."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return cut(f"{type(error).__name__}: {error} ({place.filename.rpartition('/')[2]}, line {place.lineno})")


def cut(text: str) -> str:
    """Return a text without its middle if it is too long for a result file."""
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"


def release_memory() -> None:
    """Give back the memory of what the last case built, so that the next one finds an empty card."""
    torch._dynamo.reset()  # compiled code keeps the networks that it was compiled for
    free_memory()


def card_facts(device: str) -> dict[str, str]:
    """Return what a result file says about the card: name, memory, compute capability, driver, and versions of CUDA."""
    if torch.device(device).type != "cuda":
        return {"device": device, "card": NO_CARD, "cpu": cpu_model()}
    card = torch.cuda.get_device_properties(device)
    return {
        "device": device,
        "card": card.name,
        "memory": f"{card.total_memory / 2**30:.1f} GiB",
        "compute_capability": f"{card.major}.{card.minor}",
        "driver": driver_version(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "cpu": cpu_model(),
    }


def driver_version() -> str:
    """Return the version of NVIDIA's driver, or "not known" where nvidia-smi does not answer."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return done.stdout.split("\n")[0].strip() or "not known"


def summary_tables(result: Result) -> dict[str, Table]:
    """Return the tables that every GPU benchmark ends with: the card, what failed, and what was not reached."""
    values, facts = result.values, result.versions
    names = (
        "card",
        "memory",
        "compute_capability",
        "driver",
        "cuda",
        "cudnn",
        "cpu",
        "cpus",
        "python",
        "torch",
        "timm",
    )
    found = {
        "machine": Table(
            ("what", "value"), tuple((name.replace("_", " "), facts[name]) for name in names if name in facts)
        )
    }
    if values["failed"]:
        rows = ((f"`{name}`", one_line(text)) for name, text in values["failed"].items())
        found["failed"] = Table(("failed", "error"), tuple(rows))
    if values["not_reached"]:
        found["not reached in the time"] = Table(
            ("not reached in the time",), tuple((f"`{name}`",) for name in values["not_reached"])
        )
    return found


def one_line(text: str) -> str:
    """Return a text as a cell of a table, which is one short line without a column's border."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= 200 else f"{line[:200]} ..."
