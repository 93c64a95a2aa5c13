"""torch.hub's entry points: they are the models, need torch alone, and take weights."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch

import fbnetv3
from fbnetv3.arch import ARCH_A0
from fbnetv3.hub import convert_mobile_cv, entrypoints
from tests.places import ROOT
from tests.whole.test_reference import reference_state

# The entry points need torch alone, so all other packages are blocked in a fresh process.
BLOCKED = ("timm", "yaml", "scipy", "fvcore", "torchvision", "pydantic", "typer", "rich", "matplotlib")
SCRIPT = textwrap.dedent(
    f"""
    import sys
    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {BLOCKED!r}:
                raise ImportError(name + " is blocked")
    sys.meta_path.insert(0, Block())
    import torch
    model = torch.hub.load(sys.argv[1], "fbnetv3_c", source="local", num_classes=10)
    import fbnetv3
    assert fbnetv3.__file__.startswith(sys.argv[1]), fbnetv3.__file__
    print(model.arch.name, tuple(model.eval()(torch.zeros(1, 3, 64, 64)).shape))
    """
)


def bare_checkout(target):
    """Copy the files that git has and those that are new, without tests: what a clone of the next commit will be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


@pytest.mark.parametrize("source", ["checkout", "zip"])
def test_torch_hub_with_torch_alone(tmp_path, source):
    checkout = tmp_path / "checkout"
    bare_checkout(checkout)
    if source == "zip":
        archive = tmp_path / "main.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in checkout.rglob("*"):
                file.write(path, Path("fbnetv3-main") / path.relative_to(checkout))
        with zipfile.ZipFile(archive) as file:
            file.extractall(tmp_path / "hub")
        checkout = tmp_path / "hub" / "fbnetv3-main"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(checkout)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "fbnetv3_c (1, 10)", done.stderr


def test_entry_points_are_the_models():
    import hubconf

    names = [name for name in dir(hubconf) if name.startswith("fbnetv3_")]
    assert names == sorted([*fbnetv3.list_models(), "fbnetv3_a0"]) == sorted(entrypoints.ENTRYPOINTS)
    assert all(callable(getattr(hubconf, name)) and getattr(hubconf, name).__doc__ for name in names)
    assert hubconf.fbnetv3_a0(num_classes=2).arch == ARCH_A0
    with pytest.raises(fbnetv3.InputError, match="no weights of 'fbnetv3_a0' are published"):
        hubconf.fbnetv3_a0(pretrained=True)


def test_hub_entry_points_take_weights(tmp_path):
    torch.save({"state_dict": reference_state("FBNetV3_A"), "model_ema": None}, tmp_path / "a.pth")
    checkout = str(ROOT)
    model = torch.hub.load(checkout, "fbnetv3_a", source="local", weights=str(tmp_path / "a.pth"))
    expected = convert_mobile_cv(reference_state("FBNetV3_A"), "fbnetv3_a")
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
