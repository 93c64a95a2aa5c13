"""`fbnetv3 search collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbnetv3.cli.show import Json, complete, progress_bar, say
from fbnetv3.cli.tables import print_table
from fbnetv3.cli.trials import Cpus, ExecutorKind, Gpus, RayAddress, TrialsPerGpu, TrialTimeout, Workers
from fbnetv3.counts import MAX_SEED


def collect(
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the collection.")],
    trainings: Annotated[int, typer.Option(min=1, help="Number of trainings, at least 20.")],
    preset: Annotated[
        str,
        typer.Option(
            help="Name of a search's preset, or the path of a YAML file: its space, data, recipe and budget count.",
            autocompletion=complete("fbnetv3.search.nars.config", "list_presets"),
        ),
    ] = "quickstart",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the pairs and of their trainings.")] = 0,
    data: Annotated[
        str | None, typer.Option(help="Data to train on, as for `fbnetv3 train`. The default is the preset's.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device of the trainings: auto, cpu, cuda (all GPUs) or cuda:N.")
    ] = "auto",
    licence: Annotated[str, typer.Option(help="Licence of the table, which it says about itself.")] = "not given",
    workers: Workers = None,
    executor: ExecutorKind = "processes",
    ray_address: RayAddress = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    trial_timeout: TrialTimeout = None,
    trials_per_gpu: TrialsPerGpu = 1,
    as_json: Json = False,
) -> None:
    """Train many pairs of architecture and recipe, and make a table of the trainings (OUT/table.npz).

    Four tenths of the trainings are of random pairs, four tenths of neighbours of the best pairs, and two tenths are second and
    third trainings. A table has every accuracy on validation and test images, and can be searched with `search compare`. The
    same command continues a collection that was stopped.
    """
    from fbnetv3.search.collect.collection import TABLE
    from fbnetv3.search.collect.collection import collect as run
    from fbnetv3.search.execution.settings import ExecutorSettings
    from fbnetv3.search.nars.config import load_preset

    settings = ExecutorSettings(executor, workers, ray_address, cpus, gpus, trial_timeout, trials_per_gpu)
    config = load_preset(preset).replace(seed=seed, device=device, **({} if data is None else {"data": data}))
    with progress_bar() as progress:
        table = run(config, trainings, out_dir, executor=settings, progress=progress, facts={"licence": licence})
    print_table(table, as_json)
    if not as_json:
        say(f"table: {out_dir / TABLE}")
