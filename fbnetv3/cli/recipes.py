"""`fbnetv3 recipe list | show | export`: the packaged recipes and custom ones."""

from __future__ import annotations

from typing import Annotated

import typer

from fbnetv3.cli.show import Json, complete, out, print_rows
from fbnetv3.schema import dump_json

app = typer.Typer(no_args_is_help=True, help="Training recipes: list, show, and export to other trainers.")

Name = Annotated[
    str,
    typer.Argument(
        help="Name of a recipe, or the path of a YAML file.", autocompletion=complete("fbnetv3.recipes", "list_recipes")
    ),
]


@app.command("list")
def recipe_list(as_json: Json = False) -> None:
    """List the packaged recipes: data set, network, epochs, and the expected top-1 accuracy (in percent) with its origin."""
    from fbnetv3.recipes import list_recipes, read_recipe_file

    print_rows([read_recipe_file(name).summary() for name in list_recipes()], as_json)


@app.command("show")
def recipe_show(name: Name, as_json: Json = False) -> None:
    """Show a recipe: its expected accuracy, and every value with its provenance."""
    from fbnetv3.recipes import read_recipe_file

    file = read_recipe_file(name)
    if as_json:
        print(dump_json(file.header() | {"values": file.rows()}))
        return
    for key, value in (file.header() | {"expected": str(file.expected)}).items():
        if value is not None:
            out.print(f"[bold]{key}[/]: ", end="")
            out.print(value, markup=False, highlight=False, soft_wrap=True)
    print_rows(file.rows(), as_json)


@app.command("export")
def recipe_export(
    name: Name,
    to: Annotated[str, typer.Option(help="Trainer: timm, torchvision or detectron2.")],
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes (GPUs) that share the recipe's batch.")
    ] = 1,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training images, for the steps per epoch. The default is the data set's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a recipe as the arguments of another trainer, and what those cannot express."""
    from fbnetv3.recipes import load_recipe
    from fbnetv3.recipes.export import export_recipe, training_images

    exported = export_recipe(load_recipe(name), to, images or training_images(name), processes)
    if as_json:
        print(dump_json({"to": to, "arguments": exported.arguments, "not_expressed": exported.not_expressed}))
        return
    print(exported.command_line)
    for line in exported.not_expressed:
        print(f"not expressed: {line}")
