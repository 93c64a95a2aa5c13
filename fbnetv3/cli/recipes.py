"""`fbnetv3 recipe`."""

from __future__ import annotations

import typer

from fbnetv3.cli.show import Json, print_rows

app = typer.Typer(no_args_is_help=True, help="Training recipes.")


@app.command("list")
def recipe_list() -> None:
    """List the recipes of the package."""
    from fbnetv3.recipes import list_recipes

    for name in list_recipes():
        print(name)


@app.command("show")
def recipe_show(name: str, as_json: Json = False) -> None:
    """Show a recipe with the provenance of every value."""
    from fbnetv3.recipes import read_recipe_file

    file = read_recipe_file(name)
    rows = [
        {"field": key, "value": value, "provenance": file.sources[key][0], "source": file.sources[key][1]}
        if key in file.sources
        else {"field": key, "value": value, "provenance": "choice", "source": "default of the package"}
        for key, value in file.recipe.to_dict().items()
    ]
    if not as_json:
        print(f"{file.name}: {file.about} Expected: {file.expected}.")
    print_rows(rows, as_json)
