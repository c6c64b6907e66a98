"""What a host doesn't tell of itself, and why: for a person who looks at a sample with gaps."""

import os
from dataclasses import dataclass
from pathlib import Path

from telemetry.samples import HostSample


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSource:
    """Fields of :class:`HostSample` that are unknown for one reason."""

    fields: tuple[str, ...]
    source: str
    """A path, or the name of a system call."""
    reason: str


def _of(source: str, reason: str, *fields: str) -> MissingSource:
    return MissingSource(fields=fields, source=source, reason=reason)


_NO_PSI = "no PSI in this kernel (psi=1 at its start?)"
_SOURCES = (
    _of(
        "/proc/stat",
        "within a CPU quota the kernel counts user and system time only",
        "cpu_iowait_seconds",
        "cpu_steal_seconds",
    ),
    _of("/proc/loadavg", "not shown here", "load_1m", "load_5m", "load_15m"),
    _of(
        "/proc/meminfo",
        "not said there, nor by our control group",
        "memory_cached_mib",
        "memory_dirty_mib",
        "swap_total_mib",
        "swap_used_mib",
    ),
    _of(
        "/sys/kernel/mm/hugepages",
        "the kernel has no huge pages",
        "huge_pages_total_mib",
        "huge_pages_free_mib",
    ),
    _of("statvfs", "the file system has no fixed number of inodes", "disk_free_inodes"),
    _of(
        "/sys/block",
        "no disk with hardware behind it is shown here",
        "disk_read_bytes",
        "disk_written_bytes",
        "disk_busy_seconds",
    ),
    _of(
        "/proc/net/dev",
        "no interface leads out of here",
        "network_received_bytes",
        "network_sent_bytes",
        "network_errors",
        "network_drops",
    ),
    _of(
        "/sys/class/infiniband",
        "no InfiniBand or RoCE adapter, or no driver",
        "infiniband_received_bytes",
        "infiniband_sent_bytes",
    ),
    _of("/proc/pressure/cpu", _NO_PSI, "pressure_cpu_some_percent"),
    _of(
        "/proc/pressure/memory",
        _NO_PSI,
        "pressure_memory_some_percent",
        "pressure_memory_full_percent",
    ),
    _of("/proc/pressure/io", _NO_PSI, "pressure_io_some_percent", "pressure_io_full_percent"),
    _of("adjtimex", "the kernel refuses the question", "clock_synchronized"),
    _of("/proc/self", "not shown here", "agent_cpu_seconds", "agent_memory_mib"),
)


def missing_sources(sample: HostSample, *, root: Path = Path("/")) -> tuple[MissingSource, ...]:
    """Every field of the sample that is unknown, by where it would come from."""
    found = []
    for source in _SOURCES:
        fields = tuple(name for name in source.fields if getattr(sample, name) is None)
        if fields:
            reason = _no_right_to(root, source.source) or source.reason
            found.append(MissingSource(fields=fields, source=source.source, reason=reason))
    return tuple(found)


def _no_right_to(root: Path, source: str) -> str | None:
    path = root / source.lstrip("/")
    if path.exists() and not os.access(path, os.R_OK):
        return "no right to read it"
    return None
