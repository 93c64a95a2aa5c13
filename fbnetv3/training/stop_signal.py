"""Being asked to stop: the signal is noted, and the training ends at its next step, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Which signal came, if one did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def raise_(self) -> None:
        """End as the signal would have: `KeyboardInterrupt` for Ctrl-C, else `SystemExit` with 128 + signal."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note SIGTERM and the first Ctrl-C inside; a second Ctrl-C stops at once. Without effect outside the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if request.signal == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
