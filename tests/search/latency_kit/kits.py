"""A space whose kit is written in seconds, and what runs the kit's script as a device does."""

import subprocess
import sys

import numpy as np
import yaml

from fbnetv3.progress import silent
from fbnetv3.search.latency_kit.kit import write_kit
from fbnetv3.search.space.constraints import ConstraintSet
from fbnetv3.search.space.latency import covering
from fbnetv3.search.space.reader import load_space

# 3 widths x 2 depths: a stem, 3 first and 3 further blocks, 3 heads and a classifier.
SPACE = {
    "schema": 1,
    "name": "small",
    "about": "Few parts.",
    "resolution": 12,
    "in_chans": 1,
    "num_classes": 10,
    "stem": {"k": 3, "c": 8, "s": 2},
    "rows": [{"k": 3, "e": 2, "c": "(8, 24, 8)", "n": "(1, 2)", "s": 2, "se": True}],
    "head": {"e": 2, "c": 32},
    "recipe": {"lr": "log(3, 300, 17)e-4", "mixup": "(0, 100, 5)e-2"},
}

# What a device lacks cannot be imported: torch, and this package.
DEVICE = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "fbnetv3", "onnx"):
            raise ModuleNotFoundError(f"the device has no {name}")

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def small_space(folder):
    """The space, and the path of its file."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return load_space(str(path)), path


def small_kit(space, folder, progress=silent):
    """A kit with three whole networks."""
    whole = ConstraintSet(space).sample(3, 0)
    return write_kit(space, covering(space), whole, 1, folder, progress)


def on_device(script, *options):
    """Run a script in a process that has neither torch nor this package."""
    command = [sys.executable, "-I", "-c", DEVICE, str(script), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def write_times(path, kit, ms, head=()):
    """Write made-up times: `ms` of every file, by its name."""
    lines = [*head, "file,ms", *(f"{file},{ms(file)}" for file in (*kit.parts, *kit.networks))]
    path.write_text("\n".join(lines) + "\n")


def every_row(space):
    """Index rows of all architectures, with one recipe."""
    grid = np.indices(space.sizes[:2].tolist()).reshape(2, -1).T
    return np.concatenate([grid, np.zeros((len(grid), len(space.sizes) - 2), np.int64)], axis=1)
