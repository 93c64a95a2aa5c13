"""Times every ONNX file of a latency kit on this device. It needs Python, NumPy and ONNX Runtime, and nothing else.

python measure.py

It writes times.csv beside itself. If it is stopped, the same command continues. Copy times.csv back into the folder of the kit
on the computer that wrote it, and run `fbnetv3 search latency-import` there.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

COLUMNS = ["file", "ms", "repeats"]


def time_file(path: Path, batch: int, settings: argparse.Namespace) -> float:
    """Return the median milliseconds of a call of an ONNX file with one input."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=[settings.provider])
    if settings.provider not in session.get_providers():
        # ONNX Runtime silently takes the CPU instead.
        sys.exit(f"measure.py: {settings.provider} does not start on this device; give another --provider")
    found = session.get_inputs()[0]
    feed = {found.name: np.random.default_rng(0).standard_normal([batch, *found.shape[1:]]).astype(np.float32)}
    for _ in range(settings.warmup):
        session.run(None, feed)
    seconds = []
    for _ in range(settings.repeats):
        start = time.perf_counter()
        session.run(None, feed)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def describe(kit: dict[str, Any], settings: argparse.Namespace) -> dict[str, str]:
    """Return what the times depend on: the first lines of times.csv."""
    import onnxruntime

    facts = {
        "kit": kit["id"],
        "device": settings.device,
        "platform": platform.platform(),
        "onnxruntime": onnxruntime.__version__,
        "provider": settings.provider,
        "threads": settings.threads,
        "warmup": settings.warmup,
    }
    return {key: " ".join(str(value).split()) for key, value in facts.items()}


def read(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the description and the rows, by file, of times.csv."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))
    return head, {row[0]: row for row in rows[1:]}


def write(path: Path, head: dict[str, str], rows: dict[str, list[str]]) -> None:
    """Write times.csv in one step: a reader, or the next start, never sees a part of it."""
    draft = path.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {key}: {value}\n" for key, value in head.items())
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows.values()])
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def measure(folder: Path, settings: argparse.Namespace) -> None:
    """Time the files that times.csv lacks."""
    kit = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    path, head, rows = folder / "times.csv", describe(kit, settings), dict[str, list[str]]()
    if path.exists():
        before, rows = read(path)
        if before != head:
            changed = ", ".join(key for key in {**before, **head} if before.get(key) != head.get(key))
            sys.exit(f"measure.py: {path} has other values of {changed}; move it away, or give the same options")
    files = [*kit["networks"], *kit["parts"]]
    # In random order, so that a device that becomes warm or busy slows down parts and networks alike.
    random.Random(0).shuffle(files)
    missing = [name for name in files if name not in rows]
    for done, name in enumerate(missing, len(files) - len(missing) + 1):
        if not (folder / name).is_file():
            sys.exit(f"measure.py: {name} is missing; copy the whole folder of the kit")
        ms = time_file(folder / name, kit["batch"], settings)
        if not math.isfinite(ms):
            sys.exit(f"measure.py: the time of {name} is {ms}")
        rows[name] = [name, f"{ms:.6f}", str(settings.repeats)]
        write(path, head, rows)
        print(f"[{done}/{len(files)}] {name} {ms:.4f} ms", flush=True)
    print(f"{len(files)} files: {path}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="Times every file of a latency kit on this device.")
    parser.add_argument("--device", default=platform.node(), help="name of the device, for the table")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="execution provider of ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1, help="threads of an operator")
    parser.add_argument("--warmup", type=int, default=5, help="calls before the timed ones")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls; the median counts")
    settings = parser.parse_args()
    if min(settings.threads, settings.repeats) < 1 or settings.warmup < 0:
        parser.error("--threads and --repeats are whole numbers from 1, --warmup from 0")
    try:
        measure(Path(__file__).resolve().parent, settings)
    except ImportError as error:
        sys.exit(f"measure.py: {error}; run: pip install numpy onnxruntime")
    except KeyboardInterrupt:
        print("measure.py: stopped; the same command continues", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
