"""The process that NVML lives in: ``python -m telemetry.probes.nvidia``.

It answers each line on stdin (see :mod:`.lines`) until stdin ends with the agent. Events are
written as they come, so that one is not lost when a reading hangs.
"""

import argparse
import ctypes
import os
import select
import sys
import threading
import traceback

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia.lines import read_request, write_event, write_reading
from telemetry.probes.nvidia.probe import NvidiaProbe
from telemetry.samples import DeviceEvent, DeviceInventory


class _Answers:
    """The pipe to the agent; whole lines, from several threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        with self._lock:
            left = memoryview(line)
            while left:
                left = left[os.write(self._fd, left) :]

    def tell(self, event: DeviceEvent) -> None:
        self.write(write_event(event))


def serve(answers: _Answers) -> None:
    """Answer until stdin ends."""
    known: tuple[DeviceInventory, ...] = ()
    probe: NvidiaProbe | None = None
    before: DeviceReading | None = None
    for line in sys.stdin:
        request = read_request(line)
        if isinstance(request, tuple):
            known = request
            continue
        probe = probe or NvidiaProbe(emit=answers.tell, known=known)
        reading = probe.read(request.now, fresh=request.fresh)
        answers.write(write_reading(reading, before=before))
        before = reading
    if probe is not None:
        probe.close()


def end_with_agent(requests_fd: int) -> None:
    """End at once when nobody can ask any more: a call that hangs in the driver would keep this
    process, and its hold on the GPUs, when the agent was killed."""
    gone = select.poll()
    gone.register(requests_fd, 0)  # nothing but the other end's being closed
    gone.poll()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", help="load this file in place of libnvidia-ml.so.1")
    arguments = parser.parse_args()
    # The answers keep the pipe to themselves: whatever the library prints goes to stderr.
    answers = _Answers(os.dup(sys.stdout.fileno()))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=end_with_agent, args=(sys.stdin.fileno(),), daemon=True).start()
    if arguments.library:
        # glibc matches the soname of what is loaded already, so pynvml's own load by name finds
        # this one.
        ctypes.CDLL(arguments.library, mode=ctypes.RTLD_GLOBAL)
    try:
        serve(answers)
    except BrokenPipeError:
        os._exit(0)  # the agent is gone
    except Exception:  # noqa: BLE001  whatever it is, the agent starts another process
        traceback.print_exc()
        os._exit(1)  # a thread that hangs in the driver would hold up an ordinary end


if __name__ == "__main__":
    main()
