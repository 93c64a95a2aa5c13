"""Signals are noted instead of acted on, and the process ends as they would have ended it."""

import signal
import threading

import pytest
import torch

from fbnetv3.training import stop_signal
from fbnetv3.training.process_rank import ProcessRank
from fbnetv3.training.stop_signal import StopRequest, stop_now, stop_request

HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers():
    """The handlers before each test are there after it. Elsewhere than in the main thread, signals would end pytest."""
    assert threading.current_thread() is threading.main_thread()
    before = [signal.getsignal(number) for number in HANDLED]
    yield
    assert [signal.getsignal(number) for number in HANDLED] == before


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_is_noted(number):
    with stop_request() as request:
        assert request.signal is None
        signal.raise_signal(number)
        assert request.signal == number


def test_a_second_ctrl_c_stops_at_once():
    with stop_request() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_may_come_twice():
    with stop_request() as request:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143), (signal.SIGUSR1, SystemExit, 138)],
    ids=["ctrl-c", "term", "usr1"],
)
def test_the_process_ends_as_the_signal_would_have_ended_it(number, error, code):
    with pytest.raises(error) as caught:
        stop_now(number)
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(
    ("here", "elsewhere", "agreed"),
    [
        (None, None, None),
        (None, signal.SIGUSR1, signal.SIGUSR1),
        (signal.SIGUSR1, None, signal.SIGUSR1),
        (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM),
        (signal.SIGUSR1, signal.SIGINT, signal.SIGUSR1),
        (None, signal.SIGINT, signal.SIGINT),
    ],
)
def test_processes_stop_for_one_signal_whichever_of_them_got_it(monkeypatch, here, elsewhere, agreed):
    other = [number == elsewhere for number in stop_signal.SIGNALS]
    monkeypatch.setattr(stop_signal, "total", lambda mine, *_: [sum(pair) for pair in zip(mine, other, strict=True)])
    request = StopRequest()
    request.signal = here
    assert request.agreed(ProcessRank(0, 2), torch.device("cpu")) == agreed
    assert request.signal == here  # of Ctrl-C, the second one that comes here stops at once


def test_outside_the_main_thread_nothing_is_noted():
    seen = []

    def work():
        with stop_request() as request:
            seen.append((request.signal, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen == [(None, before)]
