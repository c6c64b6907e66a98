"""The program's main process and everything that came of it: to reap, to kill, to be rid of.

Two ways lead to it, and both are taken: the cgroup that the program was put into, whose kill is
atomic, and the tree below the shim, which as a subreaper gets every orphan.
"""

# ruff: noqa: PTH208

import os
import time

from agent.supervision.forms import Form, read_bytes
from agent.supervision.kernel import signal

WAKING = {signal.SIGCHLD, signal.SIGTERM}

# How long killed processes may take to go before they are looked for again.
_KILL_AGAIN_SECONDS = 0.05
_KILL_AGAIN_MAX_SECONDS = 1.0
# Looks for processes that a fork bomb has made since the last look, before those found are killed.
_LOOKS_MAX = 50


class Family:
    """A program's processes."""

    def __init__(self, confinement: Form) -> None:
        self.main: int | None = None
        """Its first process, until it's known how that has ended."""
        self.status: int | None = None
        """How that ended, in the words of wait(2)."""
        self._kill: str | None = confinement.get("kill")
        self._events: str | None = confinement.get("events")
        self._memory_events: str | None = confinement.get("memory_events")
        self._oom_kills_before = self._oom_kills()

    def tell_main(self, number: int) -> None:
        """Signal the main process only: a data loader's worker that gets SIGTERM dies before the
        checkpoint is written."""
        if self.main is not None:
            os.kill(self.main, number)  # not reaped yet, so still it and nobody else

    def reap(self) -> bool:
        """Collect whoever has ended; False when no child is left."""
        try:
            while True:
                ended, how = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    return True
                if ended == self.main:
                    self.main, self.status = None, how
        except ChildProcessError:
            return False

    def is_confined_alive(self) -> bool:
        """Whether anything is in the program's cgroup."""
        return self._events is not None and _field(self._events, b"populated") == 1

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed for memory in the program's cgroup."""
        return self._oom_kills() > self._oom_kills_before

    def kill(self) -> None:
        """SIGKILL to all of them."""
        if self._kill is not None:
            _write_if_possible(self._kill, b"1")
        # Those found are stopped first: they fork no more, yet keep their places, so that a fork
        # bomb runs into its limit; killed at once, each would make room for another.
        found = _descendants()
        stopped: set[int] = set()
        for _ in range(_LOOKS_MAX):
            if found <= stopped:
                break
            _send_each(found - stopped, signal.SIGSTOP)
            stopped |= found
            found = _descendants()
        _send_each(found, signal.SIGKILL)

    def end(self) -> None:
        """Kill whatever is left until nothing is."""
        pause = _KILL_AGAIN_SECONDS
        while self._is_anything_left():
            self.kill()
            self._await_nothing(pause)
            pause = min(2 * pause, _KILL_AGAIN_MAX_SECONDS)

    def _await_nothing(self, seconds: float) -> None:
        """Wait until nothing is left, at most so long: many take their time, and looking for them
        takes the processor from them."""
        until = time.monotonic() + seconds
        while self._is_anything_left() and (left := until - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)

    def _is_anything_left(self) -> bool:
        return self.reap() or self.is_confined_alive()

    def _oom_kills(self) -> int:
        """So far; a cgroup outlives a generation, and its count with it."""
        return _field(self._memory_events, b"oom_kill") if self._memory_events else 0


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third (state) on; the name before may hold any byte.

    Raises:
        OSError: there is no such process.
    """
    return read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _descendants() -> set[int]:
    """Every process below this one. Zombies count: the threads of one may live on."""
    parents = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()  # out of descriptors: the next look
    for name in names:
        if name.isdigit():
            try:
                parents[int(name)] = int(stat_fields(int(name))[1])
            except (OSError, IndexError):
                continue  # it has ended
    me = os.getpid()
    family = {me}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {me}


def _send_each(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue  # it was faster, or is another user's and we aren't root


def _field(path: str, name: bytes) -> int:
    """A number of a cgroup's file of ``name number`` lines; 0 when there is no such cgroup."""
    try:
        lines = read_bytes(path).splitlines()
    except OSError:
        return 0
    for line in lines:
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return int(words[1])
    return 0


def _write_if_possible(path: str, data: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, data)
    except OSError:
        return
    finally:
        os.close(fd)
