"""NVML in a process of its own, spoken to by lines of JSON on a pipe.

NVML calls may hang for ever in the driver (go-nvml#152), and the library may end its process
(ray#65414). So the agent never loads it: :mod:`telemetry.probes.nvidia` runs in a child, and
this is the agent's end. A child that misses its deadline is ended and not waited for: a process
stuck in the driver can't die.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia.lines import ReadingLine
from telemetry.probes.nvidia_child import NoAnswerError, NvidiaChild, StuckChildren
from telemetry.samples import DeviceEvent, DeviceEventKind

# After this many deadlines missed in a row the GPUs take no new task; one miss may be a busy
# machine.
MISSES_UNTIL_UNHEALTHY = 3
BACKOFF_MAX_SECONDS = 60.0
# Opening NVML takes up to 3 s a GPU where the driver isn't kept loaded (no persistence mode).
START_SECONDS = 60.0
# A reading that takes longer comes with a later call: the rest of the node is measured meanwhile.
WAIT_SECONDS = 2.0
UNRESPONSIVE_SECONDS = 60.0
# Libraries that leak are a fact of life (dcgm-exporter#702): a new process now and then cures it.
RECYCLE_SECONDS = 24 * 3600.0
RECYCLE_BYTES = 256 << 20
_MEMORY_CHECK_SECONDS = 60.0


class _PausedError(NoAnswerError):
    """Nobody was asked."""


class NvidiaProcess:
    """A :class:`telemetry.probes.base.DeviceProbe` whose NVML lives in a child process."""

    def __init__(
        self,
        *,
        library: Path | None = None,
        deadline_seconds: float = 10.0,
        start_seconds: float = START_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        recycle_bytes: int = RECYCLE_BYTES,
        boot_seconds: Callable[[], float] = time.monotonic,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._library = library
        self._deadline_seconds = deadline_seconds
        self._start_seconds = start_seconds
        self._wait_seconds = wait_seconds
        self._recycle_bytes = recycle_bytes
        self._boot_seconds = boot_seconds
        self._wall_seconds = wall_seconds
        self._child: NvidiaChild | None = None
        self._stuck = StuckChildren()
        self._last = DeviceReading(message="no reading yet")
        self._has_read = False
        self._events: list[DeviceEvent] = []
        self._misses = 0
        self._start_due = float("-inf")
        self._recycle_due = self._memory_due = float("inf")
        self._silent_since: float | None = None
        self._is_unresponsive = False

    @property
    def pid(self) -> int | None:
        """Of the process that NVML lives in; None while there is none."""
        return self._child.pid if self._child is not None else None

    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        """The child's reading, or the last known devices without samples when it doesn't answer.

        An answer to an earlier request looks anew at what that one had named.
        """
        now = self._boot_seconds()
        self._stuck.reap(now)
        if self._silent_since is None:
            self._silent_since = now
        try:
            answer, fresh_at = self._ask(now, fresh)
        except _PausedError as error:
            reading = self._stale(str(error))
        except NoAnswerError as error:
            self._misses += 1
            self._give_up_on_child()
            reading = self._stale(str(error))
        else:
            if answer is None:  # late, and not yet too late
                reading = replace(self._last, samples=())
            else:
                self._last = answer.after(self._last)
                reading = replace(self._last, fresh_at=fresh_at)
                self._has_read, self._misses = True, 0
                self._hear()
        self._note_silence()
        events, self._events = tuple(self._events), []
        return replace(reading, events=events)

    def close(self) -> None:
        """End the child and with it all that it holds of the driver; at most 2 s."""
        child, self._child = self._child, None
        if child is not None:
            self._events += child.leave()
            self._stuck.add(child, self._boot_seconds())
        self._stuck.close()

    def _ask(
        self, now: float, fresh: Collection[str]
    ) -> tuple[ReadingLine | None, Mapping[str, float]]:
        """The child's answer to the newest request; None while it may still come in time. And the
        devices that it has looked at anew, with the time of the request.

        Raises:
            NoAnswerError: it won't.
        """
        child = self._running_child(now)
        if child.asked_at is None:
            child.request(now, fresh)
        asked_at = child.asked_at if child.asked_at is not None else now
        # The very first look is worth a wait: a node isn't to begin without its devices.
        wait = self._wait_seconds if self._has_read else self._deadline_seconds
        patience = self._deadline_seconds if child.has_answered else self._start_seconds
        deadline = asked_at + patience
        try:
            answer = child.answer(min(now + wait, deadline), self._boot_seconds)
        finally:
            self._events += child.take_events()
        if answer is None and self._boot_seconds() >= deadline:
            raise NoAnswerError("NVML doesn't answer: its reading missed the deadline")
        return answer, dict.fromkeys(child.asked_fresh, asked_at)

    def _running_child(self, now: float) -> NvidiaChild:
        if self._child is not None and self._is_worn(self._child, now):
            self._events += self._child.leave()
            self._stuck.add(self._child, now)
            self._child = None
        if self._child is not None:
            return self._child
        if self._stuck.is_full:
            raise NoAnswerError("NVML hangs: its processes can't even be killed")
        if now < self._start_due:
            raise _PausedError("NVML didn't answer; it's tried again later")
        try:
            self._child = NvidiaChild(library=self._library, known=self._last.devices)
        except OSError as error:
            raise NoAnswerError(f"the NVML process can't be started: {error}") from None
        self._recycle_due = now + RECYCLE_SECONDS
        self._memory_due = now + _MEMORY_CHECK_SECONDS
        return self._child

    def _is_worn(self, child: NvidiaChild, now: float) -> bool:
        """Whether a child that is well should make room for a fresh one."""
        if child.asked_at is not None:
            return False
        if now >= self._recycle_due:
            return True
        if now < self._memory_due:
            return False
        self._memory_due = now + _MEMORY_CHECK_SECONDS
        return child.memory_bytes() > self._recycle_bytes

    def _give_up_on_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        now = self._boot_seconds()
        self._events += child.leave()
        self._stuck.add(child, now)
        self._start_due = now + min(BACKOFF_MAX_SECONDS, 2.0**self._misses)

    def _stale(self, message: str) -> DeviceReading:
        devices = self._last.devices
        if self._misses >= MISSES_UNTIL_UNHEALTHY:
            devices = tuple(replace(device, healthy=False, fault=message) for device in devices)
        return replace(self._last, devices=devices, samples=(), message=message)

    # Silence is an event once it lasts.

    def _note_silence(self) -> None:
        since = self._silent_since
        if since is None or self._is_unresponsive:
            return
        silent_seconds = self._boot_seconds() - since
        if silent_seconds >= UNRESPONSIVE_SECONDS:
            self._is_unresponsive = True
            self._tell(DeviceEventKind.UNRESPONSIVE, f"no answer for {silent_seconds:.0f} s")

    def _hear(self) -> None:
        self._silent_since = None
        if self._is_unresponsive:
            self._is_unresponsive = False
            self._tell(DeviceEventKind.RECOVERED, "NVML answers again")

    def _tell(self, kind: DeviceEventKind, message: str) -> None:
        at_ms = int(self._wall_seconds() * 1000)
        self._events.append(DeviceEvent(at_ms=at_ms, kind=kind, message=message))
