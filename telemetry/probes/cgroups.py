"""Control groups of both versions: where a process's groups are, and what they limit.

Inside a container the mount may show a part of the tree only; groups above it can't be seen and
can't be read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from telemetry.probes import procfs

V2 = ""
"""The controller's name of the one tree of version 2 in /proc/PID/cgroup."""
# cgroup v1 says "no limit" with a number near 2^63, rounded to pages.
_V1_UNLIMITED = 1 << 60


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of groups as it is mounted here; ``top`` is the group that the mount shows as root."""

    mount: Path
    top: PurePosixPath

    def folder(self, group: PurePosixPath) -> Path:
        inside = group.relative_to(self.top) if group.is_relative_to(self.top) else group
        return self.mount / str(inside).lstrip("/")

    def upwards(self, group: PurePosixPath) -> list[Path]:
        """The group's folder and those above it, up to the mount."""
        folder = self.folder(group)
        return [path for path in (folder, *folder.parents) if path.is_relative_to(self.mount)]


@dataclass(frozen=True, slots=True)
class Limit:
    """What one group may use: thousandths of a CPU, or bytes."""

    folder: Path
    amount: int
    version: int


def tree_of(root: Path, controller: str = V2) -> Tree | None:
    """The tree of a version 1 controller, or that of version 2."""
    for line in (procfs.text(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or len(tail) < 3:
            continue
        if tail[0] == ("cgroup" if controller else "cgroup2") and (
            not controller or controller in tail[2].split(",")
        ):
            return Tree(root / fields[4].lstrip("/"), PurePosixPath(fields[3]))
    return None


def group_of(root: Path, pid: int | str, controller: str = V2) -> PurePosixPath | None:
    """The group that a process is in; None when there is no such process or tree."""
    for line in (procfs.text(root / f"proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return PurePosixPath(path)
    return None


class OwnGroups:
    """The groups that this process is in. Limits are read anew each time, folders found once."""

    def __init__(self, root: Path) -> None:
        self._v2 = _own_folders(root, V2)
        self._v1_cpu = _own_folders(root, "cpu")
        # The root group's time is that of the machine, whatever another tree's quota is.
        own = group_of(root, "self", "cpuacct")
        self._v1_cpu_times = _own_folders(root, "cpuacct") if own and own.name else []
        self._v1_memory = _own_folders(root, "memory")

    def cpu_limit(self) -> Limit | None:
        """The tightest CPU quota; the outer one of two that are equal: others share it."""
        return min(
            self._cpu_limits(),
            key=lambda limit: (limit.amount, len(limit.folder.parts)),
            default=None,
        )

    def memory_limits(self) -> list[Limit]:
        """Every limit on memory, the innermost group first."""
        return list(self._memory_limits())

    def cpu_times(self, limit: Limit) -> tuple[float, float] | None:
        """Seconds of user and system time of a limited group."""
        if limit.version == 2:
            stat = procfs.numbers(limit.folder / "cpu.stat")
            if "user_usec" not in stat or "system_usec" not in stat:
                return None
            return stat["user_usec"] / 1e6, stat["system_usec"] / 1e6
        # Usually one tree with the quotas. Where it isn't, our own group is the next best thing.
        for folder in (limit.folder, *self._v1_cpu_times[:1]):
            stat = procfs.numbers(folder / "cpuacct.stat")
            if "user" in stat and "system" in stat:
                return stat["user"] / procfs.CLOCK_TICKS, stat["system"] / procfs.CLOCK_TICKS
        return None

    def pressure_folder(self) -> Path | None:
        """The limited group of version 2 whose stalls are what is felt in here."""
        limits = [*self._cpu_limits(), *self._memory_limits()]
        return next((limit.folder for limit in limits if limit.version == 2), None)

    def _cpu_limits(self) -> Iterator[Limit]:
        for folder in self._v2:
            quota, _, period = (procfs.text(folder / "cpu.max") or "max").partition(" ")
            if milli := _milli(quota, period or "100000"):
                yield Limit(folder, milli, 2)
        for folder in self._v1_cpu:
            quota = procfs.text(folder / "cpu.cfs_quota_us") or "-1"
            if milli := _milli(quota, procfs.text(folder / "cpu.cfs_period_us") or "100000"):
                yield Limit(folder, milli, 1)

    def _memory_limits(self) -> Iterator[Limit]:
        for folder in self._v2:
            if (limit := procfs.number(folder / "memory.max")) is not None:
                yield Limit(folder, limit, 2)
        for folder in self._v1_memory:
            limit = procfs.number(folder / "memory.limit_in_bytes")
            if limit is not None and limit < _V1_UNLIMITED:
                yield Limit(folder, limit, 1)


def _own_folders(root: Path, controller: str) -> list[Path]:
    tree, group = tree_of(root, controller), group_of(root, "self", controller)
    return tree.upwards(group) if tree and group else []


def _milli(quota: str, period: str) -> int | None:
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return max(1, math.floor(int(quota) * 1000 / int(period)))
