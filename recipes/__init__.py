"""Training recipes: files in which every value has its provenance, and their export to other trainers."""

from typing import TYPE_CHECKING

from fbnetv3.lazy import lazy_names

if TYPE_CHECKING:
    from fbnetv3.recipes.export import ExportedRecipe as ExportedRecipe
    from fbnetv3.recipes.export import export_recipe as export_recipe
    from fbnetv3.recipes.recipe_file import Expected as Expected
    from fbnetv3.recipes.recipe_file import RecipeFile as RecipeFile
    from fbnetv3.recipes.recipe_file import fine_tuning_recipe as fine_tuning_recipe
    from fbnetv3.recipes.recipe_file import list_recipes as list_recipes
    from fbnetv3.recipes.recipe_file import load_recipe as load_recipe
    from fbnetv3.recipes.recipe_file import read_recipe_file as read_recipe_file
    from fbnetv3.recipes.recipe_file import save_recipe as save_recipe

_MODULES = {
    "Expected": "fbnetv3.recipes.recipe_file",
    "ExportedRecipe": "fbnetv3.recipes.export",
    "RecipeFile": "fbnetv3.recipes.recipe_file",
    "export_recipe": "fbnetv3.recipes.export",
    "fine_tuning_recipe": "fbnetv3.recipes.recipe_file",
    "list_recipes": "fbnetv3.recipes.recipe_file",
    "load_recipe": "fbnetv3.recipes.recipe_file",
    "read_recipe_file": "fbnetv3.recipes.recipe_file",
    "save_recipe": "fbnetv3.recipes.recipe_file",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
