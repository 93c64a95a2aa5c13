"""Stopping on request: a signal is noted, and the training ends at its next step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import torch

from fbnetv3.training.distributed import total
from fbnetv3.training.process_rank import ProcessRank

# Of several signals, processes stop for the one that is last here. SLURM sends SIGUSR1 (which Windows lacks) if it is told to,
# before the time limit, and SIGTERM when a job is cancelled or its time is over.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGUSR1", "SIGTERM") if hasattr(signal, name))


class StopRequest:
    """The signal that asked the process to stop; `signal` is None until one comes."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def agreed(self, process: ProcessRank, device: torch.device) -> int | None:
        """Return the signal that all processes stop for, or None.

        A signal may reach only one of them, but all must stop at one step, and with one exit code.
        """
        asked = total([self.signal == number for number in SIGNALS], process, device)
        return next((number for number, count in reversed([*zip(SIGNALS, asked, strict=True)]) if count), None)


def stop_now(number: int) -> NoReturn:
    """End the process as a signal would have ended it, now that everything is saved.

    Ctrl-C raises `KeyboardInterrupt`. Other signals raise `SystemExit` with 128 + signal, as a shell reports them.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note SIGTERM, SIGUSR1 and the first Ctrl-C inside the block instead of acting on them. A second Ctrl-C stops at once.

    Outside the main thread nothing is noted, because Python allows signal handlers only there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if request.signal == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    # `note` does nothing but note: in a signal handler, saving could interrupt a save.
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals(_reader: int) -> None:
    """Ignore what asks a training to stop, in one of the processes that read its images; for `worker_init_fn`.

    A signal may reach all processes of a job. If a reader ended before the training has saved, the training would end too.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
