"""Signals are remembered, wake whoever waits, and raise nothing."""

import signal
import threading
from collections.abc import Iterator

import pytest

from client.demo.interruption import Interruption


@pytest.fixture(autouse=True)
def handlers_of_the_tests() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_is_remembered_and_gives_the_shells_exit_code(number: int, code: int) -> None:
    interruption = Interruption()
    assert not interruption.wait(0)
    signal.raise_signal(number)
    assert interruption.wait(0)
    assert interruption.received
    assert interruption.exit_code == code


def test_first_signal_counts_and_later_ones_change_nothing() -> None:
    interruption = Interruption()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert interruption.exit_code == 143


def test_every_waiting_thread_is_woken() -> None:
    interruption = Interruption()
    threads = [threading.Thread(target=interruption.wait, args=(None,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    signal.raise_signal(signal.SIGINT)
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
