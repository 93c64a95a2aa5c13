"""The evaluator that trains candidates on images."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fbnetv3.device import find_device, find_precision, plain_defaults
from fbnetv3.errors import InputError
from fbnetv3.model import build_model
from fbnetv3.progress import Report
from fbnetv3.search.execution.memory import out_of_memory
from fbnetv3.search.trial import Candidate, Outcome, Stop
from fbnetv3.training.accuracy import measure
from fbnetv3.training.checkpoint import EpochMetrics
from fbnetv3.training.data.device import on_device
from fbnetv3.training.data.load import image_side, load_data
from fbnetv3.training.data.protocol import Data
from fbnetv3.training.distributed import current_process
from fbnetv3.training.engine import Engine, cpu_threads, seeded
from fbnetv3.training.loop import OnEpoch, Trained, fit
from fbnetv3.training.trainer import DivergedError


@dataclass(frozen=True)
class ImageEvaluator:
    """Trains a candidate on the training images of a data set and measures it on the validation images, on one thread.

    Attributes:
        data: the data set, as `load_data` takes it. Images from files are loaded at the candidate's resolution.
        device: as `find_device` takes it. It is looked for where the training runs, which may be another machine.
        precision: as `find_precision` takes it.
        readers: processes that read image files, for every training.
        test: also measure the accuracy on the test images after every epoch, which a search must not see.
    """

    data: str
    device: str = "cpu"
    precision: str = "fp32"
    readers: int = 0
    test: bool = False

    def __call__(self, candidate: Candidate, epochs: int, seed: int, *, stop: Stop | None = None) -> Outcome:
        """Train for the first `epochs` epochs of the candidate's recipe, or until `stop` ends the training."""
        start = time.monotonic()
        tested: list[float] = []

        def measure_test(_: EpochMetrics, model: nn.Module) -> None:
            device = _find(self.device)
            data = self._images_on(device, candidate)
            tested.append(measure(model, data, "test", current_process(), torch.device(device)).acc1)

        status: Literal["ok", "diverged"] = "ok"
        try:
            acc1 = self.train(candidate, epochs, seed, stop=stop, on_epoch=measure_test if self.test else None).acc1
        except DivergedError:
            acc1, status = (), "diverged"
            tested.clear()
        return Outcome(acc1, status, round(time.monotonic() - start, 3), test_acc1=tuple(tested))

    def images(self, resolution: int) -> Data:
        """Return the data that a candidate of this resolution is trained on."""
        return _load(self.data, image_side(self.data, resolution), self.readers)

    def _images_on(self, device: str, candidate: Candidate) -> Data:
        """Return the data that a candidate is trained on, on a device if it fits there."""
        return _on_device(self.data, image_side(self.data, candidate.arch.resolution), self.readers, device)

    @plain_defaults()  # those of the user are not set in other processes, and so would change a trial with its executor
    def train(
        self,
        candidate: Candidate,
        epochs: int,
        seed: int,
        out: Path | None = None,
        *,
        resume: bool = False,
        progress: Report | None = None,
        stop: Stop | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Trained:
        """Make the same training, and return its network too.

        Args:
            out: folder for checkpoints and metrics; none are written without it.
            resume: continue from the checkpoint in `out`.
            stop: ends the training early.
            on_epoch: see `fit`.
        """
        device, recipe = _find(self.device), candidate.recipe
        data = self._images_on(device, candidate)
        engine = Engine(device, find_precision(self.precision, device))
        with cpu_threads(1), _current(device):
            model = seeded(
                lambda: build_model(
                    candidate.arch, len(data.classes), data.transforms.in_chans, recipe.dropout, recipe.stochastic_depth
                ),
                seed,
            )
            return fit(
                model,
                recipe,
                data,
                seed=seed,
                epochs=epochs,
                stop=stop,
                out=out,
                resume=resume,
                progress=progress,
                on_epoch=on_epoch,
                engine=engine,
            )


def _find(name: str) -> str:
    """Return the name of a device. If trials of other processes fill it at this moment, that is no mistake of the user."""
    try:
        return find_device(name)
    except InputError as error:
        full = RuntimeError(str(error))
        if out_of_memory(full):
            raise full from None
        raise


def _current(device: str) -> contextlib.AbstractContextManager[object]:
    """Make a GPU the current one: a call that names no GPU would leave a CUDA context on the first one."""
    return torch.cuda.device(device) if device.startswith("cuda") else contextlib.nullcontext()


# Two, because a pool process may switch between two resolutions; more would fill the memory with images.
@functools.lru_cache(maxsize=2)
def _load(data: str, resolution: int | None, readers: int) -> Data:
    return load_data(data, resolution=resolution, workers=readers)


# Images that fit are sent to a GPU once for all trainings of a process.
@functools.lru_cache(maxsize=2)
def _on_device(data: str, resolution: int | None, readers: int, device: str) -> Data:
    return on_device(_load(data, resolution, readers), torch.device(device))
