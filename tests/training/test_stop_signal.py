"""Signals are noted instead of acted on, and the process ends as they would have ended it."""

import signal
import threading

import pytest

from fbnetv3.training.stop_signal import StopRequest, stop_request


@pytest.fixture(autouse=True)
def handlers():
    """The handlers before each test are there after it. Elsewhere than in the main thread, signals would end pytest."""
    assert threading.current_thread() is threading.main_thread()
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    [
        (signal.SIGINT, KeyboardInterrupt, None),
        (signal.SIGTERM, SystemExit, 143),
        (None, SystemExit, 143),  # another process was asked to stop
    ],
    ids=["ctrl-c", "term", "other"],
)
def test_the_process_ends_as_the_signal_would_have_ended_it(number, error, code):
    request = StopRequest()
    request.signal = number
    with pytest.raises(error) as caught:
        request.stop_now()
    assert getattr(caught.value, "code", None) == code


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
