"""The documentation: every Python block runs, and every command line is one that the command takes."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image

import fbnetv3
from fbnetv3.cli import app
from fbnetv3.inference import optimize
from fbnetv3.training.engine import cpu_threads
from tests.places import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((ROOT / page).read_text()) if kind == language]


PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]
SHELL_PAGES = [page for page in PAGES if blocks(page, "bash")]


def eager_alone(build):
    """Build the backend of torch alone, as if no other runtime were installed: the others take minutes."""

    def build_eager(name, network, example):
        if name != "eager":
            raise ImportError(name)
        return build(name, network, example)

    return build_eager


def put_images(folder: Path, classes: int = 2, images: int = 8, side: int = 32) -> None:
    """Write a folder of images of noise: FOLDER/train/CLASS/NUMBER.png and FOLDER/val/..."""
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "val"):
        for name in "abcdefghij"[:classes]:
            (folder / split / name).mkdir(parents=True)
            for i in range(images):
                pixels = torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / split / name / f"{i}.png")


def prepare(page: str, folder: Path) -> dict[str, object]:
    """The names that a page's examples take as given: the reader's own data, files and networks."""
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "checkout").symlink_to(ROOT)
    put_images(folder / "DATA")
    if page == "README.md":
        torch.save(fbnetv3.build_model("fbnetv3_c").state_dict(), folder / "released.pth")
        return {"example": torch.randn(1, 3, 64, 64)}
    if page == "docs/inference.md":
        return {"batches": [torch.randn(4, 3, 64, 64)]}
    if page == "docs/search.md":
        return {"accuracies": torch.linspace(70, 80, 256).numpy()}
    if page == "docs/zoo.md":
        torch.save(fbnetv3.build_model("fbnetv3_a").state_dict(), folder / "my.pth")
        return {"x": torch.randn(1, 3, 64, 64), "features": torch.randn(1, 1984, 2, 2)}
    return {}


# Packages that need not be installed, and the blocks that use them.
OPTIONAL = {
    "detectron2": r"(?s)fbnetv3\.detection.*build_detector",
    "accelerate": "from accelerate",
    "lightning": "import lightning",
}
RUNTIMES_PAGE = "docs/inference.md"  # test_docs_of_runtimes.py runs it: it needs a process of its own


def run_python_blocks(page: str, folder: Path) -> None:
    """Run the blocks of a page one after the other, with the names of the blocks before."""
    names = {"__name__": "__main__", **prepare(page, folder)}
    for number, block in enumerate(blocks(page, "python"), 1):
        if any(re.search(use, block) and not importlib.util.find_spec(name) for name, use in OPTIONAL.items()):
            continue
        with contextlib.redirect_stdout(io.StringIO()), cpu_threads(1):
            exec(compile(block, f"{page}, Python block {number}", "exec"), names)


LONG_PAGE = "docs/search.md"  # its examples search, for most of a minute


@pytest.mark.filterwarnings("ignore::fbnetv3.errors.Note")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow) if page == LONG_PAGE else page
        for page in PYTHON_PAGES
        if page != RUNTIMES_PAGE
    ],
)
def test_every_python_block_runs(page, tmp_path, monkeypatch, untrained_weights):
    monkeypatch.setattr(optimize, "_build", eager_alone(optimize._build))
    monkeypatch.chdir(tmp_path)
    run_python_blocks(page, tmp_path)


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_examples_import_public_names(page):
    """A reader imports from a package, never from one of its modules."""
    imported = re.findall(r"^\s*(?:from|import) (fbnetv3[\w.]*)", "\n".join(blocks(page, "python")), re.MULTILINE)
    modules = [name for name in imported if not hasattr(importlib.import_module(name), "__path__")]
    assert set(modules) <= {"fbnetv3.hub.timm_models"}  # timm needs the import itself


def command_lines(page: str) -> list[list[str]]:
    """The arguments of every `fbnetv3` in the page's shell blocks, also of one that torchrun or a script for SLURM starts."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for part in re.split(r"&&|\|", line):
            words = shlex.split(part, comments=True)
            if "torchrun" in words[:1]:
                words = words[words.index("-m") + 1 :]
            if "docs/slurm.sh" in words:
                words = ["fbnetv3", *words[words.index("docs/slurm.sh") + 1 :]]
            if words[:1] == ["fbnetv3"]:
                found.append(words[1:])
    return found


def parse(arguments: list[str]) -> None:
    """Parse a command line as the command does, without running it."""
    command, name = typer.main.get_command(app), "fbnetv3"
    context = None
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, list(arguments), parent=context)
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, list(arguments), parent=context)


@pytest.mark.parametrize("page", SHELL_PAGES)
def test_every_command_line_parses(page):
    for arguments in command_lines(page):
        try:
            parse(arguments)
        except (typer.TyperException, typer.Exit) as error:
            pytest.fail(f"{page}: fbnetv3 {shlex.join(arguments)}: {error}")


def test_a_wrong_command_line_is_found():
    with pytest.raises(typer.TyperException, match="No such option"):
        parse(["search", "run", "--out", "DIR", "--presets", "quickstart"])
    with pytest.raises(typer.TyperException, match="No such command"):
        parse(["search", "walk"])
    assert len(command_lines("README.md")) > 10
