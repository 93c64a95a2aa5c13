"""Stopping on request: a signal is noted, and the training ends at its next step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """The signal that asked the process to stop; `signal` is None until one comes."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def stop_now(self) -> None:
        """End the process as the signal would have ended it, now that everything is saved.

        Ctrl-C raises `KeyboardInterrupt`. Other signals raise `SystemExit` with 128 + signal, as a shell reports them.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        # No signal came here: this process stops because another process was asked to.
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note SIGTERM and the first Ctrl-C inside the block instead of acting on them. A second Ctrl-C stops at once.

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
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
