"""Which processes hold a device, and how much of its time each of them uses."""

import re
import time
from collections.abc import Sequence
from typing import Any

from telemetry.probes.nvidia.binding import Nvml
from telemetry.samples import DeviceProcess

_MIB = 1 << 20
# Drivers from 535.43 to before 535.86 fill a shorter struct than the binding reads: scrambled pids
# (nvitop#75).
_SCRAMBLED_PIDS = ((535, 43), (535, 86))
# The most that Linux counts to, whatever kernel.pid_max says.
_PID_MAX = 1 << 22
# By their versioned names: for the plain one pynvml raises another class of error on old drivers.
_LISTS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
_MPS_LISTS = (
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
)
# "No sample since then". Of the binding's two calls the first may find nothing, and it raises that
# success as an error with value 0.
_SUCCESS, _NOT_FOUND = 0, 6
_WINDOW_SECONDS = 5


def processes_of(nvml: Nvml, key: str, handle: Any) -> tuple[DeviceProcess, ...] | None:
    """The processes on a device, by pid; None when the driver can't tell, or tells nonsense.

    Raises:
        DeviceLostError, DriverConfusedError, UnansweredError: as :meth:`Nvml.ask`.
    """
    if _SCRAMBLED_PIDS[0] <= _version(nvml.driver) < _SCRAMBLED_PIDS[1]:
        return None
    running = _running(nvml, key, handle, _LISTS)
    if running is None:
        return None
    held = {process.pid: process.usedGpuMemory for process in running}
    for process in _running(nvml, key, handle, _MPS_LISTS) or ():
        held.setdefault(process.pid, process.usedGpuMemory)
    if not all(0 < pid <= _PID_MAX for pid in held):
        return None  # one pid that can't be: nothing in this list is to be trusted
    used = _utilization(nvml, key, handle) if held else None
    return tuple(
        DeviceProcess(
            pid=pid,
            memory_mib=memory // _MIB if memory is not None else None,
            utilization_percent=used.get(pid, 0) if used is not None else None,
        )
        for pid, memory in sorted(held.items())
    )


def _running(nvml: Nvml, key: str, handle: Any, functions: Sequence[str]) -> Sequence[Any] | None:
    for function in functions:
        running = nvml.ask(key, function, handle)
        if running is not None:
            return running
    return None


def _utilization(nvml: Nvml, key: str, handle: Any) -> dict[int, int] | None:
    """The newest plausible percentage of each pid; the driver also lists processes that are gone,
    and values that can't be (nvtop#110)."""
    since_us = int((time.time() - _WINDOW_SECONDS) * 1e6)
    samples = nvml.ask(
        key, "nvmlDeviceGetProcessUtilization", handle, since_us, empty=(_SUCCESS, _NOT_FOUND)
    )
    if samples is None:
        return None
    newest = sorted(samples, key=lambda sample: sample.timeStamp)
    return {sample.pid: sample.smUtil for sample in newest if sample.smUtil <= 100}


def _version(driver: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", driver or ""))[:2]
