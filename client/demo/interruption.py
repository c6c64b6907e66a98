"""Ctrl-C without exceptions: a signal is remembered, and those who wait are woken."""

import os
import select
import signal
from types import FrameType


class Interruption:
    """Remembers SIGINT, SIGTERM and SIGHUP (the terminal was closed).

    It raises nothing: an exception at any point of a clean-up would leave processes behind.
    """

    def __init__(self) -> None:
        self._number = 0
        # A pipe and not threading.Event: setting an event inside a signal handler can deadlock
        # with the wait that the signal interrupted.
        self._woken, self._wake = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if not self._number:
            self._number = number
            os.write(self._wake, b"\0")

    @property
    def received(self) -> bool:
        return self._number != 0

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count; 0 when there was none."""
        return 128 + self._number if self._number else 0

    def wait(self, seconds: float | None) -> bool:
        """Wait for a signal; True when there was one. Any thread may wait."""
        readable, _, _ = select.select([self._woken], [], [], seconds)
        return bool(readable)
