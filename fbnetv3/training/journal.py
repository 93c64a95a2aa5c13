"""The journal of a training: what is known of it on disk, and when it is saved."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbnetv3.errors import InputError
from fbnetv3.files import lock_folder
from fbnetv3.training.checkpoint import EpochMetrics, Position, State, save, save_best
from fbnetv3.training.distributed import gathered
from fbnetv3.training.engine import Engine, fetch_steps
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.resume import resume_from
from fbnetv3.training.stop_signal import StopRequest, stop_now, stop_request

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Journal:
    """The finished epochs of a training and the position in the next one, kept in a folder (`out`) if there is one.

    Only process 0 writes, but every process must make every call: they agree on whether to save and to stop.
    """

    state: State
    identity: dict[str, Any]  # what must not change between a checkpoint and its resumption
    process: ProcessRank
    engine: Engine
    out: Path | None = None
    request: StopRequest = field(default_factory=StopRequest)
    metrics: list[EpochMetrics] = field(default_factory=list)
    position: Position | None = None

    def take_position(self) -> Position | None:
        """Return where a resumed training continues within its epoch, once: later epochs start at their first step."""
        position, self.position = self.position, None
        return position

    def add_epoch(self, metrics: EpochMetrics, last: bool) -> None:
        """Save a finished epoch; stop the training if that was requested and this is not its last epoch.

        A checkpoint that cannot be written is only a warning, since the next epoch may succeed, unless it is the last one.
        """
        best = all(metrics.acc1 > earlier.acc1 for earlier in self.metrics)  # of equal epochs, the first
        self.metrics.append(metrics)
        if self.out is None:
            return
        if self.process.rank == 0:
            try:
                # The best weights come first: after a crash between the two, the epoch is trained and written again.
                if best:
                    save_best(self.state.reported, self.out, metrics)
                save(self.state, self.out, self.identity, self.metrics)
            except InputError as error:
                if last:
                    raise
                logger.warning(
                    "epoch %d was not saved; the training continues and saves the next one: %s", metrics.epoch, error
                )
        asked = self._stop_requested()
        if asked and not last:
            stop_now(asked)

    def is_due(self, step: int) -> bool:
        """Whether to save within the epoch, after so many of its steps: it is time, or any process was asked to stop."""
        if self.out is None:
            return False
        every = self.engine.checkpoint_steps
        due = bool(every and step % every == 0)
        # A message between GPUs is waited for, so several of them agree on a stop only where losses are fetched anyway.
        asks = self.process.world_size == 1 or step % fetch_steps(torch.device(self.engine.device)) == 0
        return due or (asks and self._stop_requested() is not None)

    def save_position(self, step: int, loss_sum: float, generators: Sequence[Tensor]) -> None:
        """Save the training within an epoch, then stop it if that was requested.

        Args:
            step: how many steps of the epoch are done.
            loss_sum: sum of the losses of these steps in this process.
            generators: states of this process's torch generators: of the CPU, and of its GPU if it has one.
        """
        assert self.out is not None, "there is no folder to save to"
        # Every process has its own losses and its own dropout masks; process 0 writes all of them.
        losses, *states = zip(*gathered((loss_sum, *generators), self.process), strict=True)
        if self.process.rank == 0:
            save(self.state, self.out, self.identity, self.metrics, Position(step, losses, *states))
        # The other processes wait here until the first one has saved: `srun` may kill it as soon as one of them ends.
        if asked := self._stop_requested():
            stop_now(asked)

    def _stop_requested(self) -> int | None:
        """Return the signal that all processes stop for, or None."""
        return self.request.agreed(self.process, torch.device(self.engine.device))


@contextlib.contextmanager
def open_journal(
    state: State, identity: dict[str, Any], process: ProcessRank, engine: Engine, out: str | Path | None, resume: bool
) -> Iterator[Journal]:
    """Start the journal of a training, or continue the one in `out`: its checkpoint is loaded into `state`.

    Inside, SIGTERM, SIGUSR1 and Ctrl-C are noted and end the training at its next step. Without `out` nothing is saved and
    signals act as usual.

    Raises:
        InputError: `out` is in use or cannot be written, or holds a training and `resume` is off, or its checkpoint is that
            of another training or was changed.
    """
    if out is None:
        yield Journal(state, identity, process, engine)
        return
    with contextlib.ExitStack() as stack:
        if process.rank == 0:  # the only process that writes
            stack.enter_context(lock_folder(out, "training"))
        # Signals are noted from here on: one that comes while the checkpoint is read must not interrupt the reading.
        request = stack.enter_context(stop_request())
        metrics, position = resume_from(state, Path(out), identity, resume, process.world_size)
        yield Journal(state, identity, process, engine, Path(out), request, metrics, position)
