"""Memory: of the machine, or of what we may use of it."""

from dataclasses import dataclass
from pathlib import Path

from telemetry.probes import procfs
from telemetry.probes.cgroups import Limit, OwnGroups

_MIB = 1 << 20
_KIB_PER_MIB = 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """In MiB. ``cached`` is the page cache, files in memory included."""

    total: int
    available: int
    cached: int | None
    dirty: int | None
    swap_total: int | None
    swap_used: int | None
    huge_pages_total: int | None
    huge_pages_free: int | None


class MemoryReader:
    """Within cgroup limits: available is what the limit of any group leaves us, whichever is least.

    What a group holds is its usage without the file pages that nobody used of late: those are
    taken back before anything is killed.
    """

    def __init__(self, *, root: Path, groups: OwnGroups) -> None:
        self._info = str(root / "proc/meminfo")
        self._groups = groups
        folder = root / "sys/kernel/mm/hugepages"
        self._huge_page_folders = tuple(
            (str(folder / name), int(size))
            for name in procfs.names(folder)
            if (size := name.removeprefix("hugepages-").removesuffix("kB")).isdecimal()
        )

    def capacity_bytes(self) -> int:
        """
        Raises:
            OSError: there is no /proc/meminfo.
        """
        total = self._machine()["MemTotal"] << 10
        return min([total, *(limit.amount for limit in self._groups.memory_limits())])

    def read(self) -> MemoryReading:
        """
        Raises:
            OSError: there is no /proc/meminfo.
        """
        info = self._machine()
        total_bytes = info["MemTotal"] << 10
        free_kib = info.get("MemFree", 0) + info.get("Cached", 0)
        available_bytes = info.get("MemAvailable", free_kib) << 10  # a kernel before 3.14 lacks it
        cached, dirty = _mib(info, "Cached", "Buffers"), _mib(info, "Dirty")
        swap_total, swap_free = info.get("SwapTotal"), info.get("SwapFree")
        swap_used = None if swap_total is None or swap_free is None else swap_total - swap_free
        limits = [lim for lim in self._groups.memory_limits() if lim.amount < total_bytes]
        for limit in sorted(limits, key=lambda limit: -limit.amount):  # the tightest has the word
            group = _held_by(limit)
            total_bytes = limit.amount
            available_bytes = min(available_bytes, max(0, limit.amount - group.held_bytes))
            cached, dirty = group.cached_mib, group.dirty_mib
            if swap_total is not None and group.swap_limit_kib is not None:
                swap_total = min(swap_total, group.swap_limit_kib)
                swap_used = group.swap_used_kib
        return MemoryReading(
            total=total_bytes // _MIB,
            available=available_bytes // _MIB,
            cached=cached,
            dirty=dirty,
            swap_total=None if swap_total is None else swap_total // _KIB_PER_MIB,
            swap_used=None if swap_used is None else swap_used // _KIB_PER_MIB,
            huge_pages_total=self._huge_pages("nr_hugepages"),
            huge_pages_free=self._huge_pages("free_hugepages"),
        )

    def _machine(self) -> dict[str, int]:
        info = procfs.numbers(self._info)
        if "MemTotal" not in info:
            raise OSError(f"{self._info} says nothing of the machine's memory")
        return info

    def _huge_pages(self, file: str) -> int | None:
        """Of all sizes together: /proc/meminfo tells the default size only."""
        counts = [
            (count, size_kib)
            for folder, size_kib in self._huge_page_folders
            if (count := procfs.number(f"{folder}/{file}")) is not None
        ]
        if not counts:
            return None
        return sum(count * size_kib for count, size_kib in counts) // _KIB_PER_MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    held_bytes: int
    cached_mib: int | None
    dirty_mib: int | None
    swap_limit_kib: int | None = None
    swap_used_kib: int | None = None


def working_set_bytes(folder: Path) -> int | None:
    """What a version 2 group holds that can't be taken back without hurting it."""
    current = procfs.number(folder / "memory.current")
    if current is None:
        return None
    return max(0, current - procfs.numbers(folder / "memory.stat").get("inactive_file", 0))


def _held_by(limit: Limit) -> _Held:
    stat = procfs.numbers(limit.folder / "memory.stat")
    if limit.version == 1:
        used = procfs.number(limit.folder / "memory.usage_in_bytes") or 0
        return _Held(
            held_bytes=used - stat.get("total_inactive_file", 0),
            cached_mib=_bytes_mib(stat, "total_cache"),
            dirty_mib=_bytes_mib(stat, "total_dirty"),
        )
    swap_limit = procfs.number(limit.folder / "memory.swap.max")
    swap_used = procfs.number(limit.folder / "memory.swap.current")
    return _Held(
        held_bytes=working_set_bytes(limit.folder) or 0,
        cached_mib=_bytes_mib(stat, "file"),
        dirty_mib=_bytes_mib(stat, "file_dirty"),
        swap_limit_kib=None if swap_limit is None else swap_limit >> 10,
        swap_used_kib=None if swap_used is None else swap_used >> 10,
    )


def _mib(info: dict[str, int], *names: str) -> int | None:
    found = [info[name] for name in names if name in info]
    return sum(found) // _KIB_PER_MIB if found else None


def _bytes_mib(stat: dict[str, int], name: str) -> int | None:
    return stat[name] // _MIB if name in stat else None
