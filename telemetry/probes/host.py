"""The host, by psutil and /proc, within the limits of the cgroup and the CPU affinity that we run
under.

psutil tells what the machine has, also inside a container (psutil#1011, #2100): a capacity here is
the least of the machine's, the affinity mask's and that of every cgroup from ours up to the root.
"""

import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

from telemetry.samples import HostInventory, HostSample

_MIB = 1 << 20
# cgroup v1 says "no limit" with a number near 2^63, rounded to pages.
_V1_UNLIMITED = 1 << 60


class HostReader:
    """Reads one host.

    ``disk`` is a path on the file system whose space counts as the node's disk. ``root`` is where
    /proc and /sys are looked for: the tests put other machines there.
    """

    def __init__(
        self,
        *,
        disk: Path,
        root: Path = Path("/"),
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._disk = disk
        self._root = root
        self._wall_seconds = wall_seconds

    def inventory(self) -> HostInventory:
        return HostInventory(
            hostname=platform.node(),
            boot_id=_text(self._root / "proc/sys/kernel/random/boot_id") or "unknown",
            kernel=platform.release(),
            cpu_model=self._cpu_model(),
            cpu_milli=self._cpu_milli(),
            memory_mib=self._memory_bytes() // _MIB,
            disk_mib=psutil.disk_usage(str(self._disk)).total // _MIB,
            network_mbps=_fastest_link_mbps(),
        )

    def sample(self) -> HostSample:
        cpu = psutil.cpu_times()
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory()
        load = os.getloadavg()
        disk = psutil.disk_io_counters()
        network = psutil.net_io_counters()
        return HostSample(
            taken_at_ms=int(self._wall_seconds() * 1000),
            cpu_user_seconds=cpu.user,
            cpu_system_seconds=cpu.system,
            cpu_idle_seconds=cpu.idle,
            cpu_iowait_seconds=getattr(cpu, "iowait", None),
            cpu_steal_seconds=getattr(cpu, "steal", None),
            load_1m=load[0],
            load_5m=load[1],
            load_15m=load[2],
            memory_total_mib=memory.total // _MIB,
            memory_available_mib=memory.available // _MIB,
            swap_total_mib=swap.total // _MIB,
            swap_used_mib=swap.used // _MIB,
            disk_free_mib=psutil.disk_usage(str(self._disk)).free // _MIB,
            disk_read_bytes=disk.read_bytes if disk else None,
            disk_written_bytes=disk.write_bytes if disk else None,
            network_received_bytes=network.bytes_recv if network else None,
            network_sent_bytes=network.bytes_sent if network else None,
            pressure_cpu_some_percent=self._pressure("cpu", "some"),
            pressure_memory_some_percent=self._pressure("memory", "some"),
            pressure_memory_full_percent=self._pressure("memory", "full"),
            pressure_io_some_percent=self._pressure("io", "some"),
            pressure_io_full_percent=self._pressure("io", "full"),
        )

    def _cpu_model(self) -> str | None:
        for line in (_text(self._root / "proc/cpuinfo") or "").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
        return None

    def _cpu_milli(self) -> int:
        cpus_milli = len(os.sched_getaffinity(0)) * 1000
        quotas = (_v2_cpu_milli(d) for d in self._cgroup_v2())
        quotas_v1 = (_v1_cpu_milli(d) for d in self._cgroup_v1("cpu"))
        return min([cpus_milli, *(q for q in (*quotas, *quotas_v1) if q is not None)])

    def _memory_bytes(self) -> int:
        limits = [psutil.virtual_memory().total]
        limits += [
            int(text)
            for directory in self._cgroup_v2()
            if (text := _text(directory / "memory.max")) and text.isdigit()
        ]
        limits += [
            int(text)
            for directory in self._cgroup_v1("memory")
            if (text := _text(directory / "memory.limit_in_bytes"))
            and text.isdigit()
            and int(text) < _V1_UNLIMITED
        ]
        return min(limits)

    def _cgroup_v2(self) -> list[Path]:
        return self._cgroups("cgroup2", "", "")

    def _cgroup_v1(self, controller: str) -> list[Path]:
        return self._cgroups("cgroup", controller, controller)

    def _cgroups(self, kind: str, controller: str, option: str) -> list[Path]:
        """Our cgroup's directory in one hierarchy and all above it that this mount shows."""
        own = self._own_cgroup(controller)
        if own is None:
            return []
        for line in (_text(self._root / "proc/self/mountinfo") or "").splitlines():
            left, _, right = line.partition(" - ")
            fields, tail = left.split(), right.split()
            if len(fields) < 5 or len(tail) < 3 or tail[0] != kind:
                continue
            if option and option not in tail[2].split(","):
                continue
            mount = self._root / fields[4].lstrip("/")
            # Inside a container the mount shows a subtree: our path is relative to the mount's
            # root.
            with suppress(ValueError):
                own = own.relative_to(fields[3])
            inside = mount / str(own).lstrip("/")
            return [p for p in (inside, *inside.parents) if p.is_relative_to(mount)]
        return []

    def _own_cgroup(self, controller: str) -> PurePosixPath | None:
        for line in (_text(self._root / "proc/self/cgroup") or "").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return PurePosixPath(path)
        return None

    def _pressure(self, resource: str, kind: str) -> float | None:
        """Percent of the last 10 s in which some or all work stalled; None without PSI in the
        kernel.
        """
        for line in (_text(self._root / "proc/pressure" / resource) or "").splitlines():
            words = line.split()
            if words and words[0] == kind:
                values = dict(word.split("=", 1) for word in words[1:])
                return float(values["avg10"])
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _v2_cpu_milli(directory: Path) -> int | None:
    quota, _, period = (_text(directory / "cpu.max") or "max").partition(" ")
    return _milli(quota, period or "100000")


def _v1_cpu_milli(directory: Path) -> int | None:
    quota = _text(directory / "cpu.cfs_quota_us") or "-1"
    return _milli(quota, _text(directory / "cpu.cfs_period_us") or "100000")


def _milli(quota: str, period: str) -> int | None:
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return max(1, math.floor(int(quota) * 1000 / int(period)))


def _fastest_link_mbps() -> int:
    """Speed of the fastest link that is up; 0 where no driver tells (virtual machines)."""
    speeds = (
        stats.speed for name, stats in psutil.net_if_stats().items() if stats.isup and name != "lo"
    )
    return max(speeds, default=0)
