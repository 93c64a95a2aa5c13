"""The tables of `fbnetv3 search compare`, and the rows that it prints with --json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fbnetv3.benchmarks.result import Result
from fbnetv3.benchmarks.search.comparison.summary import VERDICTS, Case, by_setting
from fbnetv3.benchmarks.tables import Table
from fbnetv3.search.report.analysis import LEVELS

EACH = "[95% interval]"  # of result files of earlier versions, which corrected nothing
INTERVALS = " / ".join(f"{level:.0%}" for level in LEVELS)
SURROGATE = "the surrogate, which is no measurement"
TOGETHER = "[95% intervals that hold together]"


def tables(result: Result) -> dict[str, Table]:
    """Return the regret and NARS minus every other method, the trainings needed for a regret, the calibration of predictions,
    and the time of proposals.

    With one table, a column is a number of trainings with a budget. With several, they have tables of their own, and a column
    is a table.
    """
    cases = result.values["cases"]
    if "overall" not in result.values:
        found = _tables({name.replace("_", " "): case for name, case in cases.items()}, "") | _left_out(cases)
        return found | ({SURROGATE: surrogate(result.values["surrogate"])} if "surrogate" in result.values else {})
    found = {"all tables: better, no difference, worse": _verdicts(result.values["overall"])}
    for setting, columns in by_setting(cases).items():
        found |= _tables(columns, f"{setting.replace('_', ' ')}: ")
    return found | _left_out(cases)


def surrogate(check: Mapping[str, float | None]) -> Table:
    """Return the table of a surrogate's check; see `cross_check`."""
    rows = {
        "mean absolute error (points)": "error",
        "rank correlation with the measured accuracy, all pairs": "rank",
        "the same, best quarter of the pairs": "rank_of_best",
        "rank correlation of two trainings of a pair, all pairs": "ceiling",
        "the same of them, best quarter of the pairs": "ceiling_of_best",
        "std of a training (points)": "noise",
    }
    found = {text: check[key] for text, key in rows.items()}
    cells = ((text, "not known" if value is None else f"{value:.2f}") for text, value in found.items())
    return Table(("estimates of pairs that the surrogate was not fitted to", ""), tuple(cells))


def _tables(columns: Mapping[str, Case], prefix: str) -> dict[str, Table]:
    """Return the tables whose columns are cases."""
    case = next(iter(columns.values()))
    corrected = any("verdict" in row for row in case.get("nars_minus", {}).values())
    # Result files of earlier versions, and real trainings, show accuracies.
    value = "regret" if "needed" in case else "acc1"
    title = f"{prefix}{'regret' if value == 'regret' else 'accuracy'}"
    if any("nars_minus" in case for case in columns.values()):
        title += f" (by how many points NARS is more accurate {TOGETHER if corrected else EACH})"
    found = {title: _by_method(columns, lambda case, method: _compared(case, method, value))}
    if "needed" in case:
        named = {_with_regrets(name, case): case for name, case in columns.items()}
        ends = (["of random"] if "random" in case["methods"] else []) + ["of the best rival", "half of that"]
        title = f"{prefix}trainings needed for the regret at the end {' / '.join(ends)}"
        found[title] = _by_method(named, _needed)
    if any("calibration" in row for row in case["methods"].values()):
        title = f"{prefix}mean error of the predictions, and shares of the trainings inside their {INTERVALS} intervals"
        # Result files of earlier versions do not have it.
        if any("rank" in row.get("calibration", {}) for row in case["methods"].values()):
            title += "; rank correlation within a search"
        found[title] = _by_method(columns, _calibration, "calibration")
    if any("proposal_seconds" in row for row in case["methods"].values()):
        title = f"{prefix}processor seconds of proposals, before the first batch + a later round"
        found[title] = _by_method(columns, _seconds, "proposal_seconds")
    return found


def _left_out(cases: Mapping[str, Case]) -> dict[str, Table]:
    """Return a table of the methods that cannot search a table, if there are any."""
    rows = [
        (f"`{method}`", case["table"] or "the table", reason)
        for case in cases.values()
        for method, reason in case.get("left_out", {}).items()  # files of earlier versions have none
    ]
    columns = ("method", "table", "why it cannot search there")
    return {"left out": Table(columns, tuple(dict.fromkeys(rows)))} if rows else {}


def _by_method(columns: Mapping[str, Case], cell: Callable[[Case, str], str], key: str = "acc1") -> Table:
    """Return the table with a row for every method for which some case has a value of this key."""
    found = [(method, row) for case in columns.values() for method, row in case["methods"].items()]
    methods = list(dict.fromkeys(method for method, row in found if key in row))
    rows = (
        (f"`{method}`", *(cell(case, method) if method in case["methods"] else "-" for case in columns.values()))
        for method in methods
    )
    return Table(("method", *columns), tuple(rows))


def _compared(case: Case, method: str, value: str) -> str:
    """Return the accuracy or the regret of a method, and by how much NARS is better."""
    against = case.get("nars_minus", {}).get(method)
    gain = f" ({against['mean']:+.2f} [{against['low']:+.2f}, {against['high']:+.2f}])" if against else ""
    return f"{case['methods'][method][value]:.2f}{gain}"


def _with_regrets(name: str, case: Case) -> str:
    return f"{name} ({' / '.join(f'{regret:.2f}' for regret in case['needed']['regrets'].values())})"


def _needed(case: Case, method: str) -> str:
    found = case["needed"]["trainings"][method]
    return " / ".join("not reached" if n is None else str(n) for n in found)


def _calibration(case: Case, method: str) -> str:
    found = case["methods"][method].get("calibration")
    if not found:
        return "-"
    rank = f"; {found['rank']:.2f}" if "rank" in found else ""
    return f"{found['error']:.2f} ({' / '.join(f'{share:.0%}' for share in found['inside'].values())}){rank}"


def _seconds(case: Case, method: str) -> str:
    times = case["methods"][method].get("proposal_seconds")
    return f"{times['first']:.2f} + {times['round']:.2f}" if times else "-"


def _verdicts(found: Mapping[str, Any]) -> Table:
    """Return on how many tables NARS is better than a method, not different and worse, and its regret over the best rival's."""
    methods = list(dict.fromkeys(method for row in found.values() for method in row["tables"]))
    rows = [
        (
            f"`{method}`",
            *(
                " / ".join(str(row["tables"][method][name]) for name in VERDICTS) if method in row["tables"] else "-"
                for row in found.values()
            ),
        )
        for method in methods
    ]
    ratios = (row["median_regret_over_best_rival"] for row in found.values())
    rows.append(
        ("median of NARS's regret / the best rival's", *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios))
    )
    return Table(("method", *(setting.replace("_", " ") for setting in found)), tuple(rows))


def result_rows(result: Result) -> list[dict[str, Any]]:
    """Return a row per case and method, as the command prints them with --json."""
    rows = []
    for name, case in result.values["cases"].items():
        for method, row in case["methods"].items():
            gain = case.get("nars_minus", {}).get(method)
            regret = {"regret": f"{row['regret']:.3f}"} if "regret" in row else {}
            rows.append(
                {"case": name, "method": method, "acc1": f"{row['acc1']:.3f}", "std": f"{row['acc1_std']:.3f}"}
                | regret
                | {
                    "nars minus it": gain and f"{gain['mean']:+.3f}",
                    "95%": gain and f"{gain['low']:+.3f} to {gain['high']:+.3f}",
                    "nars better": gain and f"{gain['share_better']:.0%}",
                }
                | ({"verdict": gain["verdict"]} if gain and "verdict" in gain else {})
            )
    return rows
