"""NVML in a process of its own, spoken to by lines of JSON on a pipe.

NVML calls may hang for ever in the driver (go-nvml#152), and the library may end its process
(ray#65414). So the agent never loads it: this module's :func:`main` runs in a child, and
:class:`NvidiaProcess` is the agent's end. A child that misses its deadline is killed and not waited
for: a process stuck in the driver can't die.
"""

import argparse
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia import NvidiaProbe
from telemetry.samples import DeviceInventory, DeviceProcess, DeviceSample

# After this many deadlines missed in a row the GPUs take no new task; one miss may be a busy
# machine.
MISSES_UNTIL_UNHEALTHY = 3
# One stuck process and its replacement: more would only queue up on the driver's lock.
PROCESSES_MAX = 2
BACKOFF_MAX_SECONDS = 60.0


class NvidiaProcess:
    """A :class:`telemetry.probes.base.DeviceProbe` whose NVML lives in a child process."""

    def __init__(
        self,
        *,
        library: Path | None = None,
        deadline_seconds: float = 10.0,
        boot_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library = library
        self._deadline_seconds = deadline_seconds
        self._boot_seconds = boot_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._last = DeviceReading(message="no reading yet")
        self._misses = 0
        self._start_due = float("-inf")

    def read(self) -> DeviceReading:
        """The child's reading, or the last known devices without samples when it doesn't answer."""
        try:
            self._last = self._ask()
        except _NoAnswerError as error:
            self._misses += 1
            self._give_up_on_child()
            return self._stale(str(error))
        self._misses = 0
        return self._last

    def close(self) -> None:
        self._give_up_on_child()
        # A child stuck in the driver is left to the kernel; Popen would warn of it at exit.
        for child in self._stuck:
            child.returncode = -signal.SIGKILL if child.returncode is None else child.returncode
        self._stuck = []

    def _ask(self) -> DeviceReading:
        child = self._running_child()
        deadline = self._boot_seconds() + self._deadline_seconds
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  both are PIPE
        try:
            child.stdin.write(b"read\n")
            child.stdin.flush()
        except OSError:
            raise _NoAnswerError("the NVML process ended") from None
        line = _read_line(child.stdout.fileno(), deadline, self._boot_seconds)
        try:
            return reading_from_json(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise _NoAnswerError("the NVML process wrote something else than a reading") from None

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None:
            return self._child
        self._stuck = [child for child in self._stuck if child.poll() is None]
        if len(self._stuck) >= PROCESSES_MAX:
            raise _NoAnswerError("NVML hangs: its processes can't even be killed")
        if self._boot_seconds() < self._start_due:
            raise _NoAnswerError("NVML didn't answer; it's tried again later")
        command = [sys.executable, "-P", "-m", "telemetry.probes.nvidia_process"]
        if self._library is not None:
            command += ["--library", str(self._library)]
        self._child = subprocess.Popen(  # noqa: S603  our own module, no word from outside
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        return self._child

    def _give_up_on_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        with suppress(
            subprocess.TimeoutExpired
        ):  # it dies at once, unless it is stuck in the driver
            child.wait(timeout=1)
        self._stuck.append(child)
        pause = min(BACKOFF_MAX_SECONDS, 2.0**self._misses)
        self._start_due = self._boot_seconds() + pause

    def _stale(self, message: str) -> DeviceReading:
        devices = self._last.devices
        if self._misses >= MISSES_UNTIL_UNHEALTHY:
            devices = tuple(replace(device, healthy=False, fault=message) for device in devices)
        return replace(self._last, devices=devices, samples=(), message=message)


class _NoAnswerError(Exception):
    """The child gave no reading in time."""


def _read_line(fd: int, deadline: float, boot_seconds: Callable[[], float]) -> bytes:
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        left = deadline - boot_seconds()
        readable, _, _ = select.select([fd], [], [], max(0.0, left))
        if not readable:
            raise _NoAnswerError("NVML doesn't answer: its reading missed the deadline")
        part = os.read(fd, 1 << 16)
        if not part:
            raise _NoAnswerError("the NVML process ended")
        parts.append(part)
    return b"".join(parts)


def reading_from_json(form: dict[str, Any]) -> DeviceReading:
    """The inverse of ``dataclasses.asdict`` through JSON."""
    samples = []
    for sample in form.pop("samples"):
        processes = sample.pop("processes")
        if processes is not None:
            processes = tuple(DeviceProcess(**process) for process in processes)
        samples.append(DeviceSample(**sample, processes=processes))
    devices = tuple(DeviceInventory(**device) for device in form.pop("devices"))
    return DeviceReading(**form, devices=devices, samples=tuple(samples))


def main() -> None:
    """The child: one line of JSON for each line on stdin, until stdin ends with the agent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", help="load this file in place of libnvidia-ml.so.1")
    arguments = parser.parse_args()
    # The answers keep the pipe to themselves: whatever the library prints goes to stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if arguments.library:
        # glibc matches the soname of what is loaded already, so pynvml's own load by name finds
        # this one.
        ctypes.CDLL(arguments.library, mode=ctypes.RTLD_GLOBAL)
    probe = NvidiaProbe()
    for _ in sys.stdin:
        answers.write(json.dumps(asdict(probe.read())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
