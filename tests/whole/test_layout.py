"""The house rules that a machine can hold: packages, data files, direction of imports, README."""

import ast
import fnmatch
import re
import subprocess
import sys

import pytest

from fbnetv3.hub.cards import package_cards
from tests.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
# Who may import whom: a layer, and the layers that it may import beside itself.
LAYERS = {
    "fbnetv3": set(),
    "fbnetv3.recipes": {"fbnetv3"},
    "fbnetv3.hub": {"fbnetv3"},
    "fbnetv3.search": {"fbnetv3", "fbnetv3.recipes"},
    "fbnetv3.detection": {"fbnetv3", "fbnetv3.hub"},
    "fbnetv3.benchmarks": {"fbnetv3", "fbnetv3.recipes", "fbnetv3.hub", "fbnetv3.search", "fbnetv3.detection"},
}
# Modules whose import needs torch alone; inside a function they may ask for more.
TORCH_ALONE = (
    "__init__.py",
    "arch.py",
    "complexity.py",
    "errors.py",
    "features.py",
    "files.py",
    "inference/__init__.py",
    "inference/export.py",
    "inference/fusion.py",
    "inference/optimize.py",
    "inference/runtimes.py",
    "layers.py",
    "model.py",
    "transforms.py",
    "weight_file.py",
)
NOT_TORCH_ALONE = ("hub/timm_models.py",)


def modules():
    """(module name, path) of every module of the package."""
    for package, folder in FOLDERS.items():
        for path in sorted(folder.glob("*.py")):
            yield (package if path.stem == "__init__" else f"{package}.{path.stem}"), path


def imports(path, nodes=ast.walk):
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def layer(module):
    return next(
        (name for name in sorted(LAYERS, reverse=True) if module == name or module.startswith(name + ".")), None
    )


def test_packages_are_what_is_on_disk():
    assert list(FOLDERS) == SETUPTOOLS["packages"]
    for folder in FOLDERS.values():
        assert (folder / "__init__.py").is_file()
        for sub in folder.iterdir():
            if (sub / "__init__.py").is_file():
                assert sub in FOLDERS.values(), f"{sub} is a package that pyproject.toml does not list"


def test_every_data_file_is_in_the_wheel():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for package, folder in FOLDERS.items():
        patterns = SETUPTOOLS["package-data"].get(package, [])
        for path in (ROOT / name for name in tracked):
            inside = path.is_relative_to(folder) and not any(
                path.is_relative_to(other)
                for other in FOLDERS.values()
                if other != folder and other.is_relative_to(folder)
            )
            if inside and path.suffix != ".py":
                name = path.relative_to(folder).as_posix()
                assert any(fnmatch.fnmatch(name, p.replace("**/", "*")) for p in patterns), f"{package} lacks {name}"


def test_direction_of_imports():
    for module, path in modules():
        if module.startswith("fbnetv3.cli") or module == "fbnetv3.__main__":
            continue
        own = layer(module)
        for name in imports(path):
            assert not name.startswith("fbnetv3.cli"), f"{path} imports the roof"
            if name.split(".")[0] == "fbnetv3":
                assert layer(name) in LAYERS[own] | {own}, f"{module} imports {name}"


def test_no_module_imports_a_folder_by_its_bare_name():
    for _, path in modules():
        for name in imports(path):
            assert name.split(".")[0] not in ("search", "recipes", "hub", "benchmarks", "tests"), f"{path}: {name}"


def test_detectron2_is_imported_by_the_detection_package_alone():
    users = {
        path for _, path in modules() for name in imports(path) if name.split(".")[0] in ("detectron2", "pycocotools")
    }
    assert users
    assert {path.parent for path in users} <= {ROOT / "fbnetv3" / "detection", ROOT / "benchmarks" / "coco"}
    assert not users & {
        ROOT / "fbnetv3" / "detection" / f"{name}.py" for name in ("annotations", "parts", "torchvision_model")
    }


def test_networks_and_hub_need_torch_alone():
    allowed = set(sys.stdlib_module_names) | {"torch", "fbnetv3"}
    names = {
        *(f"fbnetv3/{name}" for name in TORCH_ALONE),
        *(f"hub/{path.name}" for path in (ROOT / "hub").glob("*.py")),
    }
    for name in names - set(NOT_TORCH_ALONE):
        assert {i.split(".")[0] for i in imports(ROOT / name, ast.iter_child_nodes)} <= allowed, name


def test_importing_the_package_is_light():
    script = (
        "import sys, fbnetv3; print([m for m in ('timm', 'scipy', 'yaml', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_model_cards_are_current():
    assert (ROOT / "hub" / "README.md").read_text() == package_cards(), "run: python -m fbnetv3.hub.cards"


@pytest.mark.parametrize("mark", ["main job", "tests"])
def test_the_readme_marks_its_commands(mark):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(rf"<!-- {mark} -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1
    assert len(blocks[0].strip().splitlines()) == 1
