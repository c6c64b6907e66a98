"""CPU time: of the machine, or of what we may use of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from telemetry.probes import procfs
from telemetry.probes.cgroups import Limit, OwnGroups


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Seconds since boot, all CPUs together. Nice time is user's, that of interrupts system's."""

    user: float
    system: float
    idle: float
    iowait: float | None
    steal: float | None


class CpuReader:
    """Within a CPU quota: the limited group's time, and idle is what it left of its quota. With an
    affinity mask: the CPUs of that mask. Otherwise: the machine.
    """

    def __init__(self, *, root: Path, groups: OwnGroups) -> None:
        self._root = root
        self._stat = str(root / "proc/stat")
        self._groups = groups
        self._last: _GroupLook | None = None

    def capacity_milli(self) -> int:
        cpus_milli = len(os.sched_getaffinity(0)) * 1000
        limit = self._groups.cpu_limit()
        return min(cpus_milli, limit.amount) if limit else cpus_milli

    def read(self) -> CpuTimes:
        """
        Raises:
            OSError: there is no /proc/stat.
        """
        limit, cpus = self._groups.cpu_limit(), os.sched_getaffinity(0)
        if limit is not None and limit.amount < len(cpus) * 1000:
            times = self._of_group(limit)
            if times is not None:
                return times
        return _of_machine(self._stat, cpus)

    def _of_group(self, limit: Limit) -> CpuTimes | None:
        times, up = self._groups.cpu_times(limit), procfs.text(self._root / "proc/uptime")
        if times is None or not up:
            return None
        user, system = times
        look = _GroupLook(up_seconds=float(up.split()[0]), busy_seconds=user + system)
        # Added up look by look: a group may use more than its quota for a moment, and a quota may
        # be changed; neither may make a counter fall.
        last = self._last or _GroupLook()
        idle = limit.amount / 1000 * (look.up_seconds - last.up_seconds)
        idle -= look.busy_seconds - last.busy_seconds
        look.idle_seconds = last.idle_seconds + max(0.0, idle)
        self._last = look
        return CpuTimes(user=user, system=system, idle=look.idle_seconds, iowait=None, steal=None)


@dataclass(slots=True)
class _GroupLook:
    up_seconds: float = 0.0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0


def _of_machine(path: str, cpus: set[int]) -> CpuTimes:
    rows = {
        words[0]: [int(word) for word in words[1:9]]
        for line in (procfs.text(path) or "").splitlines()
        if line.startswith("cpu") and len(words := line.split()) > 8
    }
    if "cpu" not in rows:
        raise OSError(f"{path} has no line of CPU times")
    own = [rows[name] for cpu in sorted(cpus) if (name := f"cpu{cpu}") in rows]
    chosen = own if 0 < len(own) < len(rows) - 1 else [rows["cpu"]]
    user, nice, system, idle, iowait, irq, softirq, steal = (
        sum(column) / procfs.CLOCK_TICKS for column in zip(*chosen, strict=True)
    )
    return CpuTimes(
        user=user + nice, system=system + irq + softirq, idle=idle, iowait=iowait, steal=steal
    )
