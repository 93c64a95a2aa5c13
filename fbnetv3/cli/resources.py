"""`fbnetv3 search budgets|scale|latency-table`: the commands of a search that are about what a network may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fbnetv3.cli.search import parse_count
from fbnetv3.cli.show import Json, out, print_rows, progress_bar
from fbnetv3.errors import InputError


def budgets(
    folder: Annotated[Path, typer.Argument(help="Folder of a search that has ended.")],
    max_flops: Annotated[
        list[str] | None,
        typer.Option(help='Budgets, such as "450M 550M"; may be repeated. In the search\'s convention.'),
    ] = None,
    max_params: Annotated[list[str] | None, typer.Option(help="Parameter budgets, instead of FLOPs.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Also give every pair the final training.")] = False,
    as_json: Json = False,
) -> None:
    """Answer many budgets from one search: a pair file each, a table and the Pareto front, in DIR/budgets."""
    from fbnetv3.search.runs.budgets import FOLDER, FRONT, budget_pairs, table_rows

    if bool(max_flops) == bool(max_params):
        raise InputError("give budgets with --max-flops or with --max-params")
    metric, option = ("flops", "--max-flops") if max_flops else ("params", "--max-params")
    words = " ".join(max_flops or max_params or []).replace(",", " ").split()
    maxima = [parse_count(word, option) for word in words]
    with progress_bar() as progress:
        pairs = budget_pairs(folder, maxima, progress, metric, train)
    print_rows(table_rows(pairs), as_json)
    if not as_json:
        out.print(f"Pareto front: {folder / FOLDER / FRONT}.png, .json", highlight=False, soft_wrap=True)


def scale(
    target_flops: Annotated[str, typer.Option(help="FLOPs to come to, such as 1.2G.")],
    model: Annotated[str | None, typer.Option(help="Name of a network to scale.")] = None,
    pair: Annotated[Path | None, typer.Option(help="Or a pair file.")] = None,
    tolerance: Annotated[float, typer.Option(help="Share of the target that FLOPs may differ by.")] = 0.01,
    flops_convention: Annotated[str, typer.Option(help="published or fvcore.")] = "published",
    top: Annotated[int, typer.Option(min=1, help="Candidates to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Compound scaling: coefficients of depth, width and resolution that bring a network to a FLOPs target."""
    from fbnetv3.arch import find_arch
    from fbnetv3.pair_file import load_pair, pair_shape
    from fbnetv3.scaling import coefficients

    if (model is None) == (pair is None):
        raise InputError("give a network with --model or with --pair")
    kinds = (1000, 3)
    if pair is not None:
        read = load_pair(pair)
        arch, kinds = read.arch, pair_shape(read)
    else:
        arch = find_arch(model or "")
    target = parse_count(target_flops, "--target-flops")
    found = coefficients(
        arch, target, convention=flops_convention, tolerance=tolerance, num_classes=kinds[0], in_chans=kinds[1]
    )
    rows: list[dict[str, Any]] = [
        {
            "depth": s.depth,
            "width": s.width,
            "resolution": s.resolution,
            "image": s.arch.resolution,
            "blocks": sum(row.n for row in s.arch.rows),
            "flops": s.flops,
            "off": round(s.flops / target - 1.0, 5),
            "from_rule": round(-s.score, 4),
        }
        for s in found[:top]
    ]
    if as_json:
        rows = [row | {"arch": s.arch.to_dict()} for row, s in zip(rows, found, strict=False)]
    print_rows(rows, as_json)


def latency_table(
    space: Annotated[str, typer.Argument(help="Name of a space, or path of a YAML file.")],
    out_file: Annotated[Path, typer.Option("--out", help="JSON file; one that was begun is gone on with.")],
    networks: Annotated[
        int | None, typer.Option(min=1, help="Only the blocks of so many random architectures (see --seed).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random architectures.")] = 0,
) -> None:
    """Measure every block of a space's architectures on this machine, on one thread, for --max-latency."""
    import numpy as np

    from fbnetv3.search.space.constraints import random_rows
    from fbnetv3.search.space.latency import covering, distinct_pieces
    from fbnetv3.search.space.measure_latency import measure_table
    from fbnetv3.search.space.space import load_space

    loaded = load_space(space)
    rows = covering(loaded) if networks is None else random_rows(loaded, networks, np.random.default_rng(seed))
    with progress_bar() as progress:
        table = measure_table(loaded, distinct_pieces(loaded, rows), out_file, progress)
    out.print(f"{len(table.ms)} blocks: {out_file}", highlight=False, soft_wrap=True)


def regenerate(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for everything; the same call goes on where it ended.")
    ],
    preset: Annotated[str, typer.Option(help="Name of a zoo, or path of a YAML file.")] = "micro",
    data: Annotated[
        str | None,
        typer.Option(help="What the networks are trained on, as for `fbnetv3 train`; by default the search's."),
    ] = None,
    search_data: Annotated[
        str | None, typer.Option(help="What candidates are trained on; by default that of the search's preset.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    device: Annotated[str, typer.Option(help="Of all trainings: cpu, cuda.")] = "cpu",
    at_once: Annotated[int, typer.Option(min=1, help="Networks that are trained at a time, after the search.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Of torchrun, for each of these networks.")] = 1,
    readers: Annotated[int, typer.Option(min=0, help="Processes of every training that read pictures.")] = 0,
    as_json: Json = False,
) -> None:
    """A zoo from nothing: search, budgets, scaling, the largest network as teacher of all, weights that torch.hub serves."""
    from fbnetv3.search.runs.zoo import ZOO, Resources, load_zoo
    from fbnetv3.search.runs.zoo import regenerate as make

    resources = Resources(device, at_once, processes, readers)
    with progress_bar() as progress:
        account = make(load_zoo(preset), out_dir, data, search_data, seed, resources, progress)
    print_rows(account["networks"], as_json)
    if not as_json:
        spent = ", ".join(f"{stage} {hours:g}" for stage, hours in account["hours"].items())
        out.print(f"hours of training: {spent}; the zoo: {out_dir / ZOO}", highlight=False, soft_wrap=True)
