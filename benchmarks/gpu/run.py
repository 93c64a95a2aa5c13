"""Run the GPU benchmarks one after the other, each in its own process with a time limit. `run.sh` starts this.

Each part writes its own result file after every case. The exit code is 1 if a part failed, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fbnetv3.benchmarks.catalogue import CATALOGUE
from fbnetv3.benchmarks.gpu.carried import CARRIED, install, lacking_packages, missing_wheels
from fbnetv3.errors import InputError
from fbnetv3.files import refuse_to_overwrite
from fbnetv3.schema import load_json

PREFIX = "gpu-"
PARTS = tuple(name.removeprefix(PREFIX) for name in CATALOGUE if name.startswith(PREFIX))
ROOT = Path(__file__).parents[2]  # the checkout
WITH_DATA = ("cifar10", "search")  # parts that train on images which are not made by the part
RESULTS = Path(__file__).parents[1] / "results"
START = 15  # seconds of a part beyond its limit: to import packages, and to end the case that runs then
INTERRUPTED = "stopped"
LAST_WORD = 5  # seconds that an interrupted part has to end by itself


@dataclass(frozen=True)
class Ended:
    """How a part ended.

    Attributes:
        part: its name.
        seconds: how long it took.
        state: "done", or what else, in words.
        failed: whether something is wrong.
        counts: what the result file says about cases, in words.
    """

    part: str
    seconds: float
    state: str
    failed: bool
    counts: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the command line names, and return the exit code."""
    options = _parser().parse_args(arguments)
    with contextlib.ExitStack() as stack:
        # `timeout` ends a command so. The parts must not outlive this process.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _as_interrupt))
        folder = Path(options.out or (_temporary_folder(stack) if options.tiny else RESULTS))
        files = {part: folder / f"gpu_{part}.json" for part in options.parts}
        try:
            for file in files.values():
                refuse_to_overwrite(file, options.overwrite)
        except InputError as error:
            print(f"run.sh: {error}", file=sys.stderr)
            return 2
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONPATH": _python_path(stack), "PYTHONUNBUFFERED": "1"}
        if options.tiny:
            # Tiny sizes gain nothing from more threads, which wait for one another on a machine that is busy.
            environment["OMP_NUM_THREADS"] = "1"
        ended: list[Ended] = []
        for part, file in files.items():
            ended.append(run_part(part, file, options, environment))
            if ended[-1].state == INTERRUPTED:
                break
        _print_table(ended, folder)
        return 130 if ended[-1].state == INTERRUPTED else int(any(row.failed for row in ended))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.sh", description="Run GPU benchmarks, each in a process with a time limit."
    )
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=f"What to run: {', '.join(PARTS)}.")
    parser.add_argument("--seconds", type=float, required=True, help="Time of each part; no case starts after it.")
    parser.add_argument("--device", default="cuda", help="Device to compute on: cuda, cuda:N, or cpu with --tiny.")
    parser.add_argument("--tiny", action="store_true", help="Rehearse with tiny sizes. The numbers mean nothing.")
    parser.add_argument("--out", help="Folder of the result files; by default benchmarks/results, with --tiny none.")
    parser.add_argument("--data", help="Images, for the parts that train on them.")
    parser.add_argument("--overwrite", action="store_true", help="Replace result files that exist.")
    return parser


def _temporary_folder(stack: contextlib.ExitStack) -> str:
    """Return a folder that is removed at the end."""
    return stack.enter_context(tempfile.TemporaryDirectory(prefix="fbnetv3-gpu-"))


def _python_path(stack: contextlib.ExitStack) -> str:
    """Return PYTHONPATH with this checkout and a folder of the carried packages that this machine lacks."""
    wheels, paths = missing_wheels(CARRIED.glob("*.whl")), [str(ROOT)]
    if wheels:
        paths.append(_temporary_folder(stack))
        print("run.sh: not on this machine, so taken along:", *(wheel.name for wheel in wheels), file=sys.stderr)
        install(wheels, Path(paths[-1]))
    if lacking := lacking_packages(wheels):
        print(
            f"run.sh: this machine lacks {', '.join(lacking)}; run benchmarks/gpu/wheels.sh on a machine with network, and "
            "take benchmarks/gpu/carried/ along",
            file=sys.stderr,
        )
    return os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])


def _as_interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def command_of_part(part: str, file: Path, options: argparse.Namespace) -> list[str]:
    """Return the command line that runs a part and writes its file."""
    words = [sys.executable, "-m", "fbnetv3", "benchmark", f"{PREFIX}{part}", "--seconds", f"{options.seconds:g}"]
    words += ["--device", options.device, "--out", str(file), "--overwrite", *["--quick"] * options.tiny]
    return words + (["--data", options.data] if options.data and part in WITH_DATA else [])


def run_part(part: str, file: Path, options: argparse.Namespace, environment: dict[str, str]) -> Ended:
    """Run one part until it ends or its time is over."""
    command = command_of_part(part, file, options)
    print(f"run.sh: {shlex.join(command[1:])}", file=sys.stderr)
    before = file.stat().st_mtime_ns if file.exists() else 0
    begin = time.monotonic()
    # In a session of its own: Ctrl-C on the terminal reaches this process alone, which passes it on and waits for the end.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    stopped = ""
    try:
        process.wait(options.seconds + START)
    except subprocess.TimeoutExpired:
        stopped = "stopped by the time limit"
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    finally:
        _end(process)
    fresh = file.exists() and file.stat().st_mtime_ns != before
    return _ended(part, time.monotonic() - begin, file if fresh else None, process.returncode, stopped)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a part that still runs, and kill it with all that it started if that does not help."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORD)
    # Also after a part that ended: what it started and left behind would take time and memory from the next part.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(part: str, seconds: float, file: Path | None, code: int, stopped: str) -> Ended:
    """Say how a part ended, from its result file, its exit code, and why it was stopped."""
    if file is None:
        return Ended(part, seconds, stopped or "failed", True, "no case was measured")
    values = load_json(file, "result file")["values"]
    names = ("cases", "failed", "not_reached")
    counts = ", ".join(f"{len(values[name])} {name.replace('_', ' ')}" for name in names if values[name])
    if stopped:
        return Ended(part, seconds, stopped, bool(values["failed"]), counts)
    if code or values["failed"]:
        return Ended(part, seconds, f"failed, exit code {code}" if code else "failed cases", True, counts)
    return Ended(part, seconds, "done", False, counts)


def _print_table(ended: Sequence[Ended], folder: Path) -> None:
    """Print a line for each part: the last lines of a long output are those that are seen."""
    print(f"\nresult files: {folder}")
    for row in ended:
        print(f"{row.part:10} {row.seconds:6.0f} s  {row.state}; {row.counts}")


if __name__ == "__main__":
    sys.exit(main())
