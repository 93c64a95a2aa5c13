"""The rules of the house that a machine can check: rooms, direction of imports, data files, mirrored tests, README."""

import ast
import fnmatch
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from fbnetv3.hub.cards import package_cards
from tests.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}

CORE = {"fbnetv3", "fbnetv3.networks"}
TRAINING = CORE | {"fbnetv3.training"}
SPACE = TRAINING | {"fbnetv3.inference", "fbnetv3.recipes", "fbnetv3.search.trial"}
NARS = SPACE | {"fbnetv3.search.space", "fbnetv3.search.predictor", "fbnetv3.search.execution"}
RIVALS = NARS | {"fbnetv3.search.nars"}
RUNS = RIVALS | {"fbnetv3.search.rivals", "fbnetv3.pair_file"}
REPORT = RUNS | {"fbnetv3.search.runs", "fbnetv3.pages"}
SEARCH = REPORT | {f"fbnetv3.search.{room}" for room in ("report", "sessions", "real_tables", "collect", "latency_kit")}
ALL_BUT_CLI = SEARCH | {
    "fbnetv3.evaluation",
    "fbnetv3.tracking",
    "fbnetv3.detection",
    "fbnetv3.hub",
    "fbnetv3.benchmarks",
    "fbnetv3.search",
}
# What the modules of a room may import beside their own room. The longest name that fits a module is its room.
MAY_IMPORT = {
    "fbnetv3": set(),
    "fbnetv3.networks": {"fbnetv3"},
    "fbnetv3.pages": set(),
    "fbnetv3.training": CORE,
    "fbnetv3.tracking": TRAINING,
    "fbnetv3.inference": CORE,
    "fbnetv3.evaluation": TRAINING | {"fbnetv3.inference", "fbnetv3.pages"},
    "fbnetv3.weight_file": {"fbnetv3.networks"},
    "fbnetv3.pair_file": TRAINING,
    "fbnetv3.recipes": TRAINING,
    "fbnetv3.hub": CORE,
    "fbnetv3.detection": TRAINING | {"fbnetv3.hub", "fbnetv3.inference", "fbnetv3.pair_file"},
    "fbnetv3.search.trial": TRAINING,
    "fbnetv3.search.space": SPACE,
    "fbnetv3.search.latency_kit": SPACE | {"fbnetv3.search.space"},
    "fbnetv3.search.real_tables": SPACE | {"fbnetv3.search.space"},
    "fbnetv3.search.predictor": SPACE | {"fbnetv3.search.space"},
    "fbnetv3.search.execution": SPACE | {"fbnetv3.search.space"},
    "fbnetv3.search.nars": NARS,
    "fbnetv3.search.rivals": RIVALS,
    "fbnetv3.search.runs": RUNS,
    "fbnetv3.search.report": REPORT,
    "fbnetv3.search.collect": REPORT,
    "fbnetv3.search.sessions": REPORT | {"fbnetv3.search.report"},
    "fbnetv3.search": SEARCH,
    "fbnetv3.benchmarks": ALL_BUT_CLI,
    "fbnetv3.cli": ALL_BUT_CLI | {"fbnetv3.pair_file"},
    "fbnetv3.__main__": {"fbnetv3.cli"},
}
# The package itself only names public things of its rooms, for type checkers, and imports them on first use.
FACE = "fbnetv3"
MOST_MODULES_IN_A_FOLDER = 18

# Modules whose import needs torch alone. Inside a function they may import more.
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
    "lazy.py",
    "model.py",
    "schema.py",
    "transforms.py",
    "networks/__init__.py",
    "networks/classifier.py",
    "networks/named.py",
    "networks/resnets.py",
    "networks/weight_file.py",
    "version.py",
)
NOT_TORCH_ALONE = ("hub/timm_models.py",)


@functools.cache
def modules() -> dict[str, Path]:
    """The path of every module of the package."""
    return {
        package if path.stem == "__init__" else f"{package}.{path.stem}": path
        for package, folder in FOLDERS.items()
        for path in sorted(folder.glob("*.py"))
    }


def imports(path: Path, nodes=ast.walk) -> Iterator[str]:
    """The modules that a file imports: late imports and those for type checkers too."""
    for node in nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                yield member if member in modules() else node.module


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "fbnetv3"


def room(module: str) -> str:
    return max((name for name in MAY_IMPORT if module == name or module.startswith(name + ".")), key=len)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


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


def test_a_module_imports_only_rooms_below_its_own():
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        for name in imports(path)
        if module != FACE and is_ours(name) and room(name) not in MAY_IMPORT[room(module)] | {room(module)}
    ]
    assert wrong == []


def test_no_room_of_the_search_is_below_itself():
    assert circle({name: below - {name} for name, below in MAY_IMPORT.items()}) == []


def test_no_import_circle():
    graph = {module: {name for name in imports(path) if name in modules()} for module, path in modules().items()}
    assert sum(map(len, graph.values())) > len(graph)  # the graph is not empty for some silly reason
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_no_module_imports_a_folder_by_its_bare_name():
    for path in modules().values():
        for name in imports(path):
            assert name.split(".")[0] not in ("search", "recipes", "hub", "benchmarks", "tests"), f"{path}: {name}"


def test_a_folder_can_be_seen_at_a_glance():
    for folder in FOLDERS.values():
        assert len(list(folder.glob("[!_]*.py"))) <= MOST_MODULES_IN_A_FOLDER, folder


def test_a_room_says_what_it_is_for():
    texts = {
        name: ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) for name, folder in FOLDERS.items()
    }
    assert [name for name, text in texts.items() if not text] == []


def mirror(module: Path) -> Path:
    """The test file of a module: `search/space/costs.py` has `tests/search/space/test_costs.py`."""
    below = (
        module.relative_to(ROOT / "fbnetv3") if module.is_relative_to(ROOT / "fbnetv3") else module.relative_to(ROOT)
    )
    return ROOT / "tests" / below.parent / f"test_{below.name}"


def test_every_module_has_a_test_file():
    expected = [mirror(path) for path in modules().values() if path.stem not in ("__init__", "__main__")]
    assert [str(path.relative_to(ROOT)) for path in expected if not path.is_file()] == []


def test_every_test_file_has_a_module():
    mirrored = {mirror(path) for path in modules().values()}
    own = ("tests/whole/", "tests/reference/")
    tests = {
        path for path in (ROOT / "tests").rglob("test_*.py") if not path.relative_to(ROOT).as_posix().startswith(own)
    }
    # The tests of a package's own file are those of its folder: of `fbnetv3/cli/__init__.py` in tests/cli/test_cli.py.
    faces = {mirror(path.parent / f"{path.parent.name}.py") for path in modules().values() if path.stem == "__init__"}
    assert sorted(str(path.relative_to(ROOT)) for path in tests - mirrored - faces) == []


def test_both_kinds_of_space_answer_the_same_questions():
    """`SearchSpace` has what a caller needs, so nobody has to ask whether a space is a table."""
    asked = [path for path in modules().values() if re.search(r"isinstance\([^()]*,\s*TableSpace", path.read_text())]
    assert asked == []


def test_only_the_table_of_networks_is_exempt_from_the_formatter():
    """One row of the table is one line of a network, which the formatter would fold."""
    found = [path for path in modules().values() if re.search(r"#\s*fmt:\s*(skip|off)", path.read_text())]
    assert found == [ROOT / "fbnetv3" / "arch.py"]


def test_detectron2_is_imported_by_the_detection_package_alone():
    users = {
        path
        for path in modules().values()
        for name in imports(path)
        if name.split(".")[0] in ("detectron2", "pycocotools")
    }
    assert users
    assert {path.parent for path in users} <= {ROOT / "fbnetv3" / "detection", ROOT / "benchmarks" / "coco"}
    assert not users & {
        ROOT / "fbnetv3" / "detection" / f"{name}.py" for name in ("annotations", "detector_parts", "torchvision_model")
    }


def test_only_the_command_and_benchmarks_know_detection():
    users = {
        module
        for module, path in modules().items()
        for name in imports(path)
        if is_ours(name) and room(name) == "fbnetv3.detection"
    }
    assert {room(module) for module in users} == {"fbnetv3.detection", "fbnetv3.benchmarks", "fbnetv3.cli"}


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
