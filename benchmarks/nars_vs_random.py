"""NARS against random search with as many trainings under the same budget, on test images that no search saw.

    python -m fbnetv3.benchmarks.nars_vs_random --out runs/nars_vs_random

runs the quickstart with `--baseline` for twelve seeds (about six minutes a seed and core), each in a folder of its own that a
second call resumes, and writes `results/nars_vs_random.json`: test accuracies by seed, the paired difference (NARS minus
random) and its 95% interval (Student's t over seeds).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from fbnetv3.benchmarks.result import Result, versions, write_result
from fbnetv3.benchmarks.seeds import paired_difference
from fbnetv3.search.ledger import Trial, read_ledger
from fbnetv3.search.report_data import accuracies, predictions
from fbnetv3.search.run import LEDGERS

SEEDS = tuple(range(200, 212))
PRESET = "quickstart"
NAME = "nars_vs_random"
METHOD = (
    "Per seed, the quickstart preset and random search with as many trainings of the same length, uniform over the same "
    "FLOPs window; each method's pair then trains with the stretched schedule and is measured once on the 2,000 test "
    "images. `trials` are means over seeds of what `trial_quality` says of the trainings. Difference: NARS minus random "
    "in percentage points, mean and 95% interval of Student's t over the seeds."
)


def run_seed(seed: int, out: Path, workers: int) -> dict[str, Any]:
    """One search with its baseline, resumed if it was begun; the content of its `result.json`."""
    folder = out / f"seed{seed}"
    begun = (folder / "config.yaml").exists()
    what = (
        ["resume", str(folder)]
        if begun
        else ["run", "--preset", PRESET, "--baseline", "--seed", str(seed), "--out", str(folder)]
    )
    command = [sys.executable, "-m", "fbnetv3", "search", *what, "--workers", str(workers)]
    subprocess.run(command, check=True, capture_output=True)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    print(seed, {method: row["test_acc1"] for method, row in result.items()}, flush=True)
    result["trials"] = trial_quality(
        read_ledger(folder / LEDGERS["nars"]),
        read_ledger(folder / LEDGERS["random"]),
        result["nars"]["epochs_of_a_trial"],
    )
    return result


def trial_quality(nars: list[Trial], random: list[Trial], epochs: int) -> dict[str, float]:
    """Why a search gained or did not: medians of validation accuracy after `epochs`, and how well it was predicted."""
    last = max(t.round for t in nars)
    predicted = predictions(nars, epochs)
    return {
        "median_first_batch": float(np.median(accuracies([t for t in nars if t.round == 1], epochs))),
        "median_last_batch": float(np.median(accuracies([t for t in nars if t.round == last], epochs))),
        "median_random": float(np.median(accuracies(random, epochs))),
        "rank_correlation": float(stats.spearmanr(predicted[:, 0], predicted[:, 2])[0]),
        "mean_absolute_error": float(np.abs(predicted[:, 0] - predicted[:, 2]).mean()),
    }


def summary(seeds: list[int], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The values of the result file from the `result.json` of every seed."""
    accuracy = {method: [row[method]["test_acc1"] for row in rows] for method in ("nars", "random")}
    return {
        "seeds": {str(seed): {method: accuracy[method][i] for method in accuracy} for i, seed in enumerate(seeds)},
        "mean": {method: round(float(np.mean(values)), 3) for method, values in accuracy.items()},
        "difference": {
            k: round(v, 3) for k, v in asdict(paired_difference(accuracy["nars"], accuracy["random"])).items()
        },
        "trainings": rows[0]["nars"]["trainings"],
        "trials": {key: round(float(np.mean([row["trials"][key] for row in rows])), 2) for key in rows[0]["trials"]},
        "training_seconds": {
            method: round(float(np.mean([row[method]["training_seconds"] for row in rows])), 1) for method in accuracy
        },
    }


def main() -> None:
    """Run all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the searches")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--at-once", type=int, default=2, help="searches at a time, of one worker each")
    parser.add_argument("--dry", action="store_true", help="print the summary, write no result file")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        rows = list(pool.map(lambda seed: run_seed(seed, arguments.out, 1), arguments.seeds))
    values = summary(list(arguments.seeds), rows)
    print(json.dumps(values, indent=1))
    if not arguments.dry:
        seeds = " ".join(map(str, arguments.seeds))
        result = Result.now(
            command=f"python -m fbnetv3.benchmarks.{NAME} --out DIR --seeds {seeds}",
            method=METHOD,
            versions=versions(["torch", "numpy", "scipy"]),
            values=values,
        )
        write_result(NAME, result)


if __name__ == "__main__":
    main()
