"""`fbnetv3 search audit | latency-table | latency-kit | latency-import | init`.

What a space holds, how fast its blocks are here and on another device, and a preset for one's images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbnetv3.cli.show import Json, Overwrite, complete, print_rows, progress_bar, say, say_device
from fbnetv3.counts import MAX_SEED
from fbnetv3.errors import InputError, quote
from fbnetv3.files import refuse_to_overwrite
from fbnetv3.schema import dump_json

if TYPE_CHECKING:
    from fbnetv3.search.space.network_space import NetworkSpace
    from fbnetv3.search.space.space import IntMatrix

Space = Annotated[
    str,
    typer.Argument(
        help="Name of a search space, or the path of a YAML file.",
        autocompletion=complete("fbnetv3.search.space.reader", "list_spaces"),
    ),
]


def audit(space: Space, as_json: Json = False) -> None:
    """Show the size of a search space, and which blocks of the released networks are outside of it."""
    from fbnetv3.search.space.audit import audit as audit_space
    from fbnetv3.search.space.network_space import as_networks
    from fbnetv3.search.space.reader import ANY_DATA, load_space

    found = audit_space(as_networks(load_space(space, ANY_DATA)))
    if as_json:
        print(dump_json(found.to_dict()))
        return
    say(
        f"{found.space}: {found.architectures:.3g} architectures, {found.architectures / found.resolutions:.3g} without the "
        f"choice of resolution ({found.resolutions}); {found.built:.3g} as built, widths rounded to multiples of 8 "
        f"({found.collapse:.0f} times fewer); {found.recipes:.3g} recipes"
    )
    print_rows([_network_row(network) for network in found.networks], False)
    outside = [_outside_row(network, entry) for network in found.networks for entry in network.outside]
    if outside:
        print_rows(outside, False)


def latency_table(
    space: Space,
    out_file: Annotated[
        Path, typer.Option("--out", help="JSON file to write. A file that is not complete yet is continued.")
    ],
    networks: Annotated[
        int | None,
        typer.Option(min=1, help="Measure only the blocks of so many random architectures. The default is all blocks."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the random architectures.")] = 0,
    device: Annotated[
        str,
        typer.Option(help="Device to measure: auto (cuda where there is one), cpu (on one thread), cuda or cuda:N."),
    ] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Number of images in a batch. Times are those of a batch.")] = 1,
    precision: Annotated[
        str, typer.Option(help="Precision on a GPU: fp32, tf32, bf16, fp16, or auto (bf16 on a GPU with units for it).")
    ] = "fp32",
) -> None:
    """Measure every block of a space's architectures on this machine, for --max-latency."""
    from fbnetv3.device import find_device, find_precision
    from fbnetv3.search.space.latency import distinct_parts
    from fbnetv3.search.space.measure_latency import Conditions, measure_table
    from fbnetv3.search.space.network_space import as_networks
    from fbnetv3.search.space.reader import load_space

    loaded, device = as_networks(load_space(space)), find_device(device)
    conditions = Conditions(device, batch, find_precision(precision, device))
    say_device("measuring", device, conditions.precision, f"batch {batch}")
    parts = distinct_parts(loaded, _rows(loaded, networks, seed))
    with progress_bar() as progress:
        table = measure_table(loaded, parts, out_file, progress, conditions=conditions)
    say(f"{len(table.ms)} blocks: {out_file}")


def latency_kit(
    space: Space,
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of the kit. One that is not complete yet is continued.")
    ],
    networks: Annotated[
        int | None,
        typer.Option(min=1, help="Only the blocks of so many random architectures. The default is all blocks."),
    ] = None,
    whole: Annotated[int, typer.Option(min=2, max=100, help="Number of whole networks, for the calibration.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the architectures.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Number of images in a batch. Times are those of a batch.")] = 1,
) -> None:
    """Write ONNX files of a space's blocks and a script that measures them on another device, for latency-import."""
    from fbnetv3.search.latency_kit.kit import write_kit
    from fbnetv3.search.space.constraints import ConstraintSet
    from fbnetv3.search.space.network_space import as_networks
    from fbnetv3.search.space.reader import load_space

    loaded = as_networks(load_space(space))
    rows, whole_rows = _rows(loaded, networks, seed), ConstraintSet(loaded).sample(whole, seed)
    with progress_bar() as progress:
        kit = write_kit(loaded, rows, whole_rows, batch, out_dir, progress)
    megabytes = sum((out_dir / file).stat().st_size for file in (*kit.parts, *kit.networks)) / 1e6
    say(f"{len(kit.parts)} blocks and {len(kit.networks)} networks, {megabytes:.1f} MB: {out_dir}")
    say(f"Copy the folder to the device, run `python measure.py` there, and copy times.csv back into {out_dir}.")


def latency_import(
    kit: Annotated[Path, typer.Argument(help="Folder of a latency kit.")],
    out_file: Annotated[Path, typer.Option("--out", help="JSON file to write.")],
    times: Annotated[
        Path | None,
        typer.Option(help="CSV with the columns file and ms. The default is times.csv in the folder of the kit."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a latency table from the times of a kit, calibrated by its whole networks, for --max-latency."""
    from fbnetv3.search.latency_kit.times import import_table
    from fbnetv3.search.space.latency import save_table

    refuse_to_overwrite(out_file, overwrite)
    table = import_table(kit, times)
    save_table(table, out_file)
    found = table.calibration
    assert found is not None  # a kit always has whole networks
    rank = "not defined" if found.rank_correlation is None else f"{found.rank_correlation:.2f}"
    say(
        f"{found.networks} whole networks take {found.factor:.3f} times the sum of their blocks; mean error after this "
        f"calibration {found.error:.1%}, rank correlation {rank}"
    )
    say(f"{len(table.ms)} blocks: {out_file}")


def init(
    data: Annotated[str, typer.Option(help="Images to search on, as for `fbnetv3 train`.")],
    out_file: Annotated[
        Path, typer.Option("--out", help="Preset to write, a .yaml file. Its space is written beside it.")
    ],
    minutes: Annotated[float, typer.Option(min=1.0, help="How long the trainings of the search may take here.")] = 60.0,
    device: Annotated[str, typer.Option(help="Device to measure: auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write a commented preset and space for your images, with as many trainings as fit the time on this machine."""
    from fbnetv3.search.runs.draft import draft, space_beside, write_draft

    if out_file.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out is {quote(str(out_file))}; a preset is a .yaml file")
    for path in (out_file, space_beside(out_file)):
        refuse_to_overwrite(path, overwrite)
    found = draft(data, minutes, device)
    write_draft(found, out_file)
    say(
        f"{found.shape.images:,} training images, {found.shape.num_classes} classes, {found.side} pixels: "
        f"{found.config.trainings} trainings of {found.config.epochs} epochs, about {found.minutes:.0f} minutes here"
    )
    say(f"{out_file}, {space_beside(out_file)}; fbnetv3 search run --preset {out_file} --out DIR")


def _rows(space: NetworkSpace, networks: int | None, seed: int) -> IntMatrix:
    """Return index rows that together have all blocks of a space, or, with a number, so many random ones."""
    import numpy as np

    from fbnetv3.search.space.constraints import random_rows
    from fbnetv3.search.space.latency import covering

    return covering(space) if networks is None else random_rows(space, networks, np.random.default_rng(seed))


def _network_row(network: Any) -> dict[str, Any]:
    by_rounding = network.outside and network.contained
    return {
        "network": network.network,
        "inside": "by rounding" if by_rounding else "yes" if network.contained else "no",
        "published MFLOPs": f"{network.flops / 1e6:.1f}",
        "with same padding": f"{network.same_padding_flops / 1e6:.1f}",  # as a space builds it
    }


def _outside_row(network: Any, entry: Any) -> dict[str, Any]:
    return {
        "network": network.network,
        "coordinate": entry.coordinate,
        "has": entry.value,
        "the space": entry.allowed,
        "note": f"{entry.reached_from} is built as this" if entry.reached_from else None,
    }
