"""The host, by /proc and /sys, within the limits of the cgroup and the CPU affinity that we run
under.

What the kernel says there is of the machine, also inside a container (psutil#1011, #2100): a
capacity here is the least of the machine's, the affinity mask's and that of every cgroup from ours
up to the root, and what is used of it is counted by the same group.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from telemetry.probes import procfs
from telemetry.probes.cgroups import OwnGroups
from telemetry.probes.clock import clock_synchronized
from telemetry.probes.cpu import CpuReader
from telemetry.probes.disks import DiskReader
from telemetry.probes.memory import MemoryReader
from telemetry.probes.networks import InfinibandReader, NetworkReader
from telemetry.probes.own_cost import OwnCostReader
from telemetry.samples import HostInventory, HostSample

_MIB = 1 << 20


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
        self._groups = OwnGroups(root)
        self._cpu = CpuReader(root=root, groups=self._groups)
        self._memory = MemoryReader(root=root, groups=self._groups)
        self._disks = DiskReader(root)
        self._networks = NetworkReader(root)
        self._infiniband = InfinibandReader(root)
        self._own_cost = OwnCostReader(root)

    def inventory(self) -> HostInventory:
        """
        Raises:
            OSError: there is no /proc/meminfo, or no file system at ``disk``.
        """
        space = os.statvfs(self._disk)
        return HostInventory(
            hostname=platform.node(),
            boot_id=procfs.text(self._root / "proc/sys/kernel/random/boot_id") or "unknown",
            kernel=platform.release(),
            cpu_model=self._cpu_model(),
            cpu_milli=self._cpu.capacity_milli(),
            memory_mib=self._memory.capacity_bytes() // _MIB,
            disk_mib=space.f_blocks * space.f_frsize // _MIB,
            network_mbps=self._networks.fastest_mbps(),
        )

    def sample(self) -> HostSample:
        """One look. It may hang in ``statvfs``, for a file system on a dead server.

        Raises:
            OSError: there is no /proc/stat or /proc/meminfo, or no file system at ``disk``.
        """
        cpu, memory = self._cpu.read(), self._memory.read()
        load = [float(word) for word in (self._text("proc/loadavg") or "").split()[:3]]
        space = os.statvfs(self._disk)
        disks, networks, ports = (
            self._disks.read(),
            self._networks.read(),
            self._infiniband.read(),
        )
        own = self._own_cost.read()
        pressure = self._pressures()
        return HostSample(
            taken_at_ms=int(self._wall_seconds() * 1000),
            cpu_user_seconds=cpu.user,
            cpu_system_seconds=cpu.system,
            cpu_idle_seconds=cpu.idle,
            cpu_iowait_seconds=cpu.iowait,
            cpu_steal_seconds=cpu.steal,
            load_1m=load[0] if load else None,
            load_5m=load[1] if load else None,
            load_15m=load[2] if load else None,
            memory_total_mib=memory.total,
            memory_available_mib=memory.available,
            memory_cached_mib=memory.cached,
            memory_dirty_mib=memory.dirty,
            swap_total_mib=memory.swap_total,
            swap_used_mib=memory.swap_used,
            huge_pages_total_mib=memory.huge_pages_total,
            huge_pages_free_mib=memory.huge_pages_free,
            disk_total_mib=space.f_blocks * space.f_frsize // _MIB,
            disk_free_mib=space.f_bavail * space.f_frsize // _MIB,
            # File systems without a table of inodes (btrfs) say 0 of 0.
            disk_free_inodes=space.f_favail if space.f_files else None,
            disk_read_bytes=_sum(disk.read_bytes for disk in disks),
            disk_written_bytes=_sum(disk.written_bytes for disk in disks),
            disk_busy_seconds=self._disks.busiest_seconds,
            network_received_bytes=_sum(network.received_bytes for network in networks),
            network_sent_bytes=_sum(network.sent_bytes for network in networks),
            network_errors=_sum(network.errors for network in networks),
            network_drops=_sum(network.drops for network in networks),
            infiniband_received_bytes=_sum(port.received_bytes for port in ports),
            infiniband_sent_bytes=_sum(port.sent_bytes for port in ports),
            pressure_cpu_some_percent=pressure.get("cpu some"),
            pressure_memory_some_percent=pressure.get("memory some"),
            pressure_memory_full_percent=pressure.get("memory full"),
            pressure_io_some_percent=pressure.get("io some"),
            pressure_io_full_percent=pressure.get("io full"),
            clock_synchronized=clock_synchronized(),
            agent_cpu_seconds=own.cpu_seconds if own else None,
            agent_memory_mib=own.memory_mib if own else None,
            disks=disks,
            networks=networks + ports,
        )

    def _text(self, path: str) -> str | None:
        return procfs.text(f"{self._root}/{path}")

    def _cpu_model(self) -> str | None:
        for line in (self._text("proc/cpuinfo") or "").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
        return None

    def _pressures(self) -> dict[str, float]:
        """``memory full`` -> percent of the last 10 s in which all work stalled; empty without PSI
        in the kernel. A limited group's own: being held to a quota is pressure too.
        """
        machine, group = self._root / "proc/pressure", self._groups.pressure_folder()
        found = {}
        for resource in ("cpu", "memory", "io"):
            text = procfs.text(f"{group}/{resource}.pressure") if group else None
            for line in (text or procfs.text(f"{machine}/{resource}") or "").splitlines():
                kind, *values = line.split()
                average = dict(value.split("=", 1) for value in values).get("avg10")
                if average is not None:
                    found[f"{resource} {kind}"] = float(average)
        return found


def _sum(counters: Iterable[int | None]) -> int | None:
    """None for none: a machine whose disks can't be seen hasn't read 0 bytes."""
    known = [counter for counter in counters if counter is not None]
    return sum(known) if known else None
