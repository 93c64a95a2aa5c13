"""From the times of a kit to a latency table: checks, and the factor by which sums miss whole networks.

fbnetv3 search latency-import KIT --out latency.json
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from fbnetv3.errors import InputError, available, quote
from fbnetv3.schema import read_text
from fbnetv3.search.latency_kit.kit import Kit, load_kit
from fbnetv3.search.space.latency import Calibration, LatencyTable, describe

TIMES = "times.csv"
SHORTEST, LONGEST = 1e-6, 1e9  # milliseconds; measure.py writes six decimals


@dataclass(frozen=True)
class Times:
    """A file of times: what was measured on, and milliseconds by file of the kit."""

    machine: dict[str, str]
    ms: dict[str, float]


def import_table(folder: str | Path, path: str | Path | None = None) -> LatencyTable:
    """Return the latency table of a kit that was measured.

    Args:
        folder: of the kit.
        path: of the times; by default times.csv in the folder.

    Raises:
        InputError: no kit, or times that are missing, wrong or of another kit.
    """
    kit, path = load_kit(folder), Path(path or Path(folder) / TIMES)
    times = read_times(path, kit)
    ms = {part: times.ms[file] for file, part in kit.parts.items()}
    sums = [sum(n * times.ms[file] for file, n in counts.items()) for counts in kit.networks.values()]
    calibration = calibrate(sums, [times.ms[file] for file in kit.networks])
    return LatencyTable(kit.space, times.machine | {"batch": str(kit.batch)}, ms, calibration)


def calibrate(sums: Sequence[float], measured: Sequence[float]) -> Calibration:
    """Return by which factor the times of whole networks differ from the sums over their parts.

    It is the median of the ratios: a small network counts as much as a large one, and one that was disturbed while it was
    measured changes little. A fit by least squares would follow the largest network. The error is that of every network with
    the factor of the others, because a factor fits the networks that it comes from better than any other.

    Args:
        sums: at least two, in milliseconds, positive.
        measured: of the same networks.
    """
    ratios = np.array(measured) / np.array(sums)
    errors = [abs(np.median(np.delete(ratios, i)) / ratio - 1.0) for i, ratio in enumerate(ratios)]
    ordered = np.ptp(sums) > 0 and np.ptp(measured) > 0
    correlation = round(float(spearmanr(sums, measured)[0]), 4) if ordered else None
    return Calibration(float(np.median(ratios)), len(ratios), float(np.mean(errors)), correlation)


def read_times(path: Path, kit: Kit) -> Times:
    """Read a CSV of times for a kit.

    The columns `file` and `ms` are needed, others are ignored. Lines `# key: value` before them say what the times depend on.

    Raises:
        InputError: the file is missing or no such table, has files that the kit lacks, lacks some, or has an impossible time.
    """
    lines = read_text(path, "table of times").splitlines()
    facts = (line[1:].partition(":") for line in lines if line.startswith("#"))
    machine = {key.strip(): value.strip() for key, _, value in facts}
    if machine.pop("kit", kit.id) != kit.id:
        raise InputError(f"{path} has the times of another kit; give the times of this one, or the folder of the other")
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is no table of times: {error}") from None
    if not {"file", "ms"} <= set(reader.fieldnames or ()):
        raise InputError(f"{path} has the columns {quote(reader.fieldnames)}; needed: file, ms")
    wanted, ms = dict.fromkeys([*kit.parts, *kit.networks]), dict[str, float]()
    for row in rows:
        name = row["file"]
        if name not in wanted:
            raise InputError(f"{path} has {quote(name)}, which is no file of the kit; {available(name, wanted)}")
        if name in ms:
            raise InputError(f"{path} has {name} twice; keep one of its times")
        ms[name] = _milliseconds(row["ms"], f"{path}: ms of {name}")
    if missing := [name for name in wanted if name not in ms]:
        part = f" ({describe(kit.parts[missing[0]])})" if missing[0] in kit.parts else ""
        raise InputError(
            f"{path} lacks {len(missing)} of {len(wanted)} files, such as {missing[0]}{part}; continue measure.py on the device"
        )
    return Times(machine, ms)


def _milliseconds(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not SHORTEST <= value <= LONGEST:
        raise InputError(f"{where} is {quote(text)}; allowed: {SHORTEST:g} to {LONGEST:g}")
    return value
