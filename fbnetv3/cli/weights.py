"""`fbnetv3 weights list | verify | convert | publish`: registered weights, weight files, and custom zoos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbnetv3.cli.networks import Zoo
from fbnetv3.cli.show import Json, Overwrite, Row, finite, print_each, print_rows
from fbnetv3.errors import InputError
from fbnetv3.files import refuse_to_overwrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from fbnetv3.hub.registry import Metric, RegisteredWeights
    from fbnetv3.networks.weight_file import WeightFile

app = typer.Typer(no_args_is_help=True, help="Weight files: list, verify, convert and publish them.")


@app.command("list")
def list_weights(zoo: Zoo = None, as_json: Json = False) -> None:
    """List the registered weights, and the files of those that are on this machine."""
    from fbnetv3.hub.download import recorded_hash
    from fbnetv3.hub.registry import read_registry

    rows = []
    for row in read_registry(zoo).rows:
        path = row.path
        rows.append(
            {
                "model": row.model,
                "weights": row.source,
                "licence": row.licence,
                "builds": row.arch.name,
                "here": str(path) if path.exists() else None,
                "sha256": recorded_hash(path) or row.sha256,
                **({"url": row.url} if as_json else {}),
            }
        )
    print_rows(rows, as_json)


@app.command()
def verify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Weight files. The default is all registered ones on this machine.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network of files that do not name their network.")] = None,
    zoo: Zoo = None,
    as_json: Json = False,
) -> None:
    """Check that weights are complete, have not changed since their first use, and fit their network."""
    from fbnetv3.hub.download import file_hash
    from fbnetv3.hub.load import load_weights
    from fbnetv3.hub.registry import read_registry

    registry = read_registry(zoo)

    def row_of(path: Path, digest: str, file: WeightFile) -> list[Row]:
        file.build()
        return [{"file": str(path), "network": file.arch.name, "sha256": digest, "status": "fits"}]

    def of_file(path: Path) -> list[Row]:
        file = load_weights(model, path, registry)  # says what is wrong with a path
        return row_of(path, file_hash(path), file)

    def of_registered(row: RegisteredWeights) -> list[Row]:
        file = load_weights(
            row.model, row.source, registry
        )  # compares the hash first: a file that has changed is not read
        return row_of(row.path, file_hash(row.path), file)

    known = [row for row in registry.rows if row.path.exists()]
    if not files and not known:
        raise InputError("no registered weights are on this machine yet; give files, or load a model with its weights")
    if files:
        print_each(files, of_file, as_json)
    else:
        print_each(known, of_registered, as_json)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="Weight file in the layout of the released code, of timm or of this package.")
    ],
    target: Annotated[Path, typer.Argument(help="File to write: .safetensors, .pt or .pth.")],
    model: Annotated[str | None, typer.Option(help="Network of a file that does not name its network.")] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of the new file: fbnetv3, which includes network and preprocessing, or timm.")
    ] = ("fbnetv3"),
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load a pickle that may RUN CODE. Do this only where there is nothing to lose."
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert weights between layouts and file formats, for example to safetensors."""
    from fbnetv3.hub.convert import convert_to_timm
    from fbnetv3.hub.load import load_weights
    from fbnetv3.networks.weight_file import check_suffix, write_tensors, write_weight_file

    if layout not in ("fbnetv3", "timm"):
        raise InputError(f"--layout is {layout!r}; allowed: fbnetv3, timm")
    check_suffix(target)
    refuse_to_overwrite(target, overwrite)
    file = load_weights(model, source, trust_pickle=trust_pickle)
    if layout == "fbnetv3":
        write_weight_file(target, file)
    else:
        write_tensors(target, convert_to_timm(file.state, file.blocks.name), {})
    print_rows([{"file": str(target), "network": file.arch.name, "layout": layout}], as_json)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="Weight file or checkpoint. Averaged weights are taken if it has some.")],
    zoo: Annotated[Path, typer.Option(help="Folder of the zoo. It is created if it does not exist.")],
    name: Annotated[str, typer.Option(help="Name that users will load.")],
    licence: Annotated[str, typer.Option(help="Licence of the weights, such as Apache-2.0.")],
    model: Annotated[str | None, typer.Option(help="Network of a file that does not name its network.")] = None,
    pair: Annotated[
        Path | None,
        typer.Option(
            help="Pair file that gives network, recipe and classes. The accuracy on its test images is measured."
        ),
    ] = None,
    source: Annotated[str, typer.Option(help="Name that distinguishes several weights of one model.")] = "custom",
    trained_from: Annotated[
        str | None,
        typer.Option(help="scratch, or MODEL:SOURCE of the weights that the training started from or was taught by."),
    ] = None,
    allow_noncommercial: Annotated[
        bool,
        typer.Option(
            "--allow-noncommercial",
            help="Publish weights that derive from non-commercial ones, under the licence of those.",
        ),
    ] = False,
    url: Annotated[
        str, typer.Option(help="URL of the folder where users will find the weights. The default is the zoo itself.")
    ] = "",
    acc1: Annotated[
        float | None, typer.Option(min=0, max=100, callback=finite, help="Accuracy in percent. Needs --origin.")
    ] = None,
    origin: Annotated[str | None, typer.Option(help="Who measured --acc1, and on which images.")] = None,
    about: Annotated[str, typer.Option(help="A sentence for the model card.")] = "",
    as_json: Json = False,
) -> None:
    """Publish weights into a custom zoo, which torch.hub serves: weight file, registry row, card, entry point."""
    from fbnetv3.hub.load import load_weights
    from fbnetv3.hub.publish import publish_weights
    from fbnetv3.hub.registry import Metric

    if (acc1 is None) != (origin is None):
        raise InputError(
            "--acc1 and --origin need each other: a number without its origin is not published; give both, or neither"
        )
    metrics = () if acc1 is None or origin is None else (Metric("acc1", acc1, origin),)
    recipe, verified, measure = "", "not stated", None
    if pair is not None:
        weights, measure, recipe = _of_pair(file, pair)
        verified = "the accuracy that is measured, when the weights were published"
    else:
        weights = load_weights(model, file)
    row = publish_weights(
        weights,
        zoo,
        name,
        licence=licence,
        source=source,
        trained_from=trained_from,
        allow_noncommercial=allow_noncommercial,
        url=url,
        metrics=metrics,
        recipe=recipe,
        about=about,
        verified=verified,
        measure=measure,
    )
    print_rows([{"model": row.model, "weights": row.source, "licence": row.licence, "url": row.url}], as_json)


def _of_pair(path: Path, pair_path: Path) -> tuple[WeightFile, Callable[[], Metric], str]:
    """Return a pair's weights with the classes and preprocessing of its data, what measures their accuracy, and the recipe."""
    import dataclasses
    import json

    from fbnetv3.hub.load import load_weights
    from fbnetv3.hub.registry import Metric
    from fbnetv3.pair_file import load_pair, pair_data
    from fbnetv3.training.accuracy import final_split, measure

    pair = load_pair(pair_path)
    data = pair_data(pair)
    file = load_weights(pair.arch, path)
    file = dataclasses.replace(file, classes=data.classes, transforms=data.transforms)
    split = final_split(data)

    def measured() -> Metric:
        origin = f"measured here: {split} images of {data.name}; epochs of the recipe: {pair.recipe.epochs}"
        return Metric("acc1", measure(file.build(), data, split).acc1, origin)

    return file, measured, f"inline: {json.dumps(pair.recipe.to_dict())}"
