"""`fbnetv3 search compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.cli.show import Json, out, print_rows, progress_bar
from fbnetv3.errors import InputError


def compare(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for the searches; a second call resumes.")],
    preset: Annotated[str | None, typer.Option(help="Preset whose pairs are trained.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Table of trainings (.csv, .json) to look accuracies up in.")
    ] = None,
    invented: Annotated[
        bool, typer.Option("--invented", help="With --preset: made-up accuracies, in seconds.")
    ] = False,
    methods: Annotated[
        str, typer.Option(help="Comma-separated; `all` has the ablations too.")
    ] = "nars,random,tpe,evolution",
    seeds: Annotated[int, typer.Option(min=1, help="How many, from --first-seed on.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    trainings: Annotated[
        str | None, typer.Option(help='Of every method, such as "40 144"; default: preset\'s, or 40.')
    ] = None,
    max_flops: Annotated[str, typer.Option(help='Budgets, such as "all 50M"; `all`: the preset\'s, or none.')] = "all",
    workers: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare NARS with random search, TPE and evolution at equal numbers of trainings."""
    from fbnetv3.benchmarks.search.compare import METHODS, Plan, plan_cases
    from fbnetv3.benchmarks.search.compare import compare as run
    from fbnetv3.search.nars.config import load_preset

    if (preset is None) == (table is None):
        raise InputError("give one of --preset and --table")
    if invented and preset is None:
        raise InputError("--invented needs --preset; a table has accuracies")
    source = table if table is not None else load_preset(preset or "")
    names = list(METHODS) if methods == "all" else methods.split(",")
    cases = plan_cases(source, _counts(trainings), _budgets(max_flops))
    plan = Plan(cases, names, range(first_seed, first_seed + seeds), invented)
    command = (
        f"fbnetv3 search compare {f'--table {table.name}' if table else f'--preset {preset}'}{' --invented' * invented} "
        f"--methods {methods} --seeds {seeds} --first-seed {first_seed}"
        + (f' --trainings "{trainings}"' if trainings else "")
        + f' --max-flops "{max_flops}" --out DIR'
    )
    with progress_bar() as progress:
        result = run(plan, out_dir, workers, command, progress)
    print_rows([row for name, case in result.values["cases"].items() for row in _rows(name, case)], as_json)
    if not as_json:
        out.print(f"{out_dir / 'compare.json'}, {out_dir / 'compare.png'}", highlight=False, soft_wrap=True)


def _counts(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(word) for word in text.split()]
    except ValueError:
        raise InputError(f'--trainings is {text!r}; give whole numbers, such as "40 144"') from None


def _budgets(text: str) -> list[float | None]:
    from fbnetv3.cli.search import parse_count

    return [None if word == "all" else parse_count(word, "--max-flops") for word in text.split()]


def _rows(name: str, case: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
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
        )
    return rows
