"""The child process that NVML lives in, as the agent sees it, and those that won't go."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from telemetry.probes.nvidia.lines import ReadingLine, read_answer, write_known, write_request
from telemetry.samples import DeviceEvent, DeviceInventory

# One stuck process and its replacement: more would only queue up on the driver's lock.
PROCESSES_MAX = 2
TERMINATE_SECONDS = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class NoAnswerError(Exception):
    """The child gave no reading, and won't; the text says why."""


class NvidiaChild:
    """One running child. Nothing here waits longer than it's told to."""

    def __init__(self, *, library: Path | None, known: Sequence[DeviceInventory]) -> None:
        """Start it; ``known`` are the devices that were there before.

        Raises:
            OSError: the system has no room for another process.
        """
        command = [sys.executable, "-P", "-m", "telemetry.probes.nvidia"]
        if library is not None:
            command += ["--library", str(library)]
        self.process = subprocess.Popen(  # noqa: S603  our own module, no word from outside
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.asked_at: float | None = None
        """When the request was made that isn't answered yet."""
        self.asked_fresh: frozenset[str] = frozenset()
        """Which devices that request, or the last that was answered, wants looked at anew."""
        self.has_answered = False
        self._events: list[DeviceEvent] = []
        self._text = b""
        assert self.process.stdin is not None  # noqa: S101  both are PIPE
        assert self.process.stdout is not None  # noqa: S101
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self._readable = select.poll()  # select() can't do more than 1024 open files
        self._readable.register(self._answers, select.POLLIN)
        self._unsaid = write_known(known) if known else b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def memory_bytes(self) -> int:
        """Resident; 0 when it's gone."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return 0

    def request(self, now: float, fresh: Collection[str] = ()) -> None:
        """Ask for a reading, of the devices ``fresh`` also of what is read only now and then.

        Raises:
            NoAnswerError: the child has ended.
        """
        self.asked_at, self.asked_fresh = now, frozenset(fresh)
        line, self._unsaid = self._unsaid + write_request(now, self.asked_fresh), b""
        try:
            self._requests.write(line)
            self._requests.flush()
        except OSError:
            raise NoAnswerError("the NVML process ended") from None

    def answer(self, until: float, boot_seconds: Callable[[], float]) -> ReadingLine | None:
        """The reading that was asked for; None when it isn't there by ``until``.

        Raises:
            NoAnswerError: the child has ended, or wrote something else.
        """
        while True:
            while (end := self._text.find(b"\n")) >= 0:
                line, self._text = self._text[:end], self._text[end + 1 :]
                answer = self._understood(line)
                if isinstance(answer, ReadingLine):
                    self.asked_at, self.has_answered = None, True
                    return answer
                self._events.append(answer)
            if not self._fill(max(0.0, until - boot_seconds())):
                return None

    def take_events(self) -> list[DeviceEvent]:
        """Events that came along with readings; each is given once."""
        events, self._events = self._events, []
        return events

    def leave(self) -> list[DeviceEvent]:
        """Ask it to end; the events that it had told by then."""
        with suppress(NoAnswerError):
            while self.answer(0.0, lambda: 0.0) is not None:
                pass  # what is in the pipe already
        for pipe in (self._requests, self._answers):
            with suppress(OSError):
                pipe.close()
        self.process.terminate()
        return self.take_events()

    def _fill(self, wait_seconds: float) -> bool:
        if not self._readable.poll(wait_seconds * 1000):
            return False
        part = os.read(self._answers.fileno(), 1 << 16)
        if not part:
            raise NoAnswerError("the NVML process ended")
        self._text += part
        return True

    def _understood(self, line: bytes) -> DeviceEvent | ReadingLine:
        try:
            return read_answer(line)
        except (ValueError, KeyError, TypeError):
            raise NoAnswerError("the NVML process wrote something else than a reading") from None


class StuckChildren:
    """Children that were told to end. One that is stuck in the driver ends when the driver lets
    go."""

    def __init__(self) -> None:
        self._children: list[tuple[NvidiaChild, float]] = []

    @property
    def is_full(self) -> bool:
        """Another child would be one too many."""
        return len(self._children) >= PROCESSES_MAX

    def add(self, child: NvidiaChild, now: float) -> None:
        self._children.append((child, now + TERMINATE_SECONDS))

    def reap(self, now: float) -> None:
        """Forget those that have ended, kill those whose time is over."""
        self._children = [(c, due) for c, due in self._children if c.process.poll() is None]
        for child, kill_due in self._children:
            if now >= kill_due:
                child.process.kill()

    def close(self) -> None:
        """End them all; at most 2 s. A child stuck in the driver is left to the kernel."""
        for end in (subprocess.Popen[bytes].terminate, subprocess.Popen[bytes].kill):
            for child, _ in self._children:
                end(child.process)
            for child, _ in self._children:
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(timeout=1 / len(self._children))
        for child, _ in self._children:
            if child.process.returncode is None:  # Popen would warn of it at exit
                child.process.returncode = -signal.SIGKILL
        self._children = []
