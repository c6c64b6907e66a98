"""What is measured, column by column: the one list that probes, wire, tables and charts agree on.

Plain values, no I/O. A column says how many readings become one (:class:`Fold`), so the agent's
window of a few seconds, the service's minutes and its hours are all folded by the same rule.
``None`` is "unknown" and takes part in no fold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fold(StrEnum):
    """How readings of a stretch of time become one."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    COUNTER = "counter"
    """Cumulative: the last reading stands for all, and rates are made of two."""
    MASK = "mask"
    """A bit mask: every bit that was ever set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One measured quantity. A value outside ``0..most`` can't be, and counts as unknown."""

    name: str
    fold: Fold
    most: float
    source: str
    """The sample's field that it's made of."""
    whole: bool = False
    """Integers, also after the fold."""


def _column(name: str, fold: Fold, most: float, *, source: str = "", whole: bool = False) -> Column:
    return Column(name=name, fold=fold, most=most, source=source or name, whole=whole)


_COUNT_MAX = 2**53
_MIB_MAX = 2**40
_SECONDS_MAX = 1e12

_MEAN, _MAX, _MIN, _COUNTER, _MASK = Fold.MEAN, Fold.MAX, Fold.MIN, Fold.COUNTER, Fold.MASK

HOST = (
    _column("cpu_user_seconds", _COUNTER, _SECONDS_MAX),
    _column("cpu_system_seconds", _COUNTER, _SECONDS_MAX),
    _column("cpu_idle_seconds", _COUNTER, _SECONDS_MAX),
    _column("cpu_iowait_seconds", _COUNTER, _SECONDS_MAX),
    _column("cpu_steal_seconds", _COUNTER, _SECONDS_MAX),
    _column("load_1m", _MEAN, 1e6),
    _column("load_5m", _MEAN, 1e6),
    _column("load_15m", _MEAN, 1e6),
    _column("memory_total_mib", _MAX, _MIB_MAX, whole=True),
    _column("memory_available_mib", _MIN, _MIB_MAX, whole=True),
    _column("memory_cached_mib", _MEAN, _MIB_MAX),
    _column("memory_dirty_mib", _MEAN, _MIB_MAX),
    _column("swap_total_mib", _MAX, _MIB_MAX, whole=True),
    _column("swap_used_mib", _MAX, _MIB_MAX, whole=True),
    _column("huge_pages_total_mib", _MAX, _MIB_MAX, whole=True),
    _column("huge_pages_free_mib", _MIN, _MIB_MAX, whole=True),
    _column("disk_total_mib", _MAX, _MIB_MAX, whole=True),
    _column("disk_free_mib", _MIN, _MIB_MAX, whole=True),
    _column("disk_free_inodes", _MIN, _COUNT_MAX, whole=True),
    _column("disk_read_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("disk_written_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("disk_busy_seconds", _COUNTER, _SECONDS_MAX),
    _column("network_received_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("network_sent_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("network_errors", _COUNTER, _COUNT_MAX, whole=True),
    _column("network_drops", _COUNTER, _COUNT_MAX, whole=True),
    _column("infiniband_received_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("infiniband_sent_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("pressure_cpu_some_percent", _MEAN, 100),
    _column("pressure_memory_some_percent", _MEAN, 100),
    _column("pressure_memory_full_percent", _MEAN, 100),
    _column("pressure_io_some_percent", _MEAN, 100),
    _column("pressure_io_full_percent", _MEAN, 100),
    _column("clock_synchronized", _MIN, 1, whole=True),
    _column("agent_cpu_seconds", _COUNTER, _SECONDS_MAX),
    _column("agent_memory_mib", _MAX, _MIB_MAX),
)
"""Of a host (:class:`telemetry.samples.HostSample`)."""

DEVICE = (
    _column("utilization_percent", _MEAN, 100),
    _column("utilization_peak_percent", _MAX, 100, source="utilization_percent"),
    _column("memory_bus_percent", _MEAN, 100),
    _column("memory_used_mib", _MEAN, _MIB_MAX),
    _column("memory_used_peak_mib", _MAX, _MIB_MAX, source="memory_used_mib", whole=True),
    _column("memory_reserved_mib", _MEAN, _MIB_MAX),
    _column("memory_free_mib", _MIN, _MIB_MAX, whole=True),
    _column("power_watts", _MEAN, 100_000),
    _column("power_peak_watts", _MAX, 100_000, source="power_watts"),
    _column("energy_joules", _COUNTER, 1e15),
    _column("temperature_celsius", _MAX, 300, whole=True),
    _column("memory_temperature_celsius", _MAX, 300, whole=True),
    _column("fan_percent", _MEAN, 500),
    _column("clock_sm_mhz", _MEAN, 100_000),
    _column("clock_memory_mhz", _MEAN, 100_000),
    _column("performance_state", _MAX, 15, whole=True),
    _column("throttle_reasons", _MASK, 2**32 - 1, whole=True),
    _column("power_violation_seconds", _COUNTER, _SECONDS_MAX),
    _column("thermal_violation_seconds", _COUNTER, _SECONDS_MAX),
    _column("pcie_sent_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("pcie_received_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("pcie_replays", _COUNTER, _COUNT_MAX, whole=True),
    _column("pcie_generation", _MIN, 64, whole=True),
    _column("pcie_width", _MIN, 64, whole=True),
    _column("nvlink_sent_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("nvlink_received_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("ecc_corrected", _COUNTER, _COUNT_MAX, whole=True),
    _column("ecc_uncorrected", _COUNTER, _COUNT_MAX, whole=True),
    _column("remapped_rows", _COUNTER, _COUNT_MAX, whole=True),
    _column("memory_repair_pending", _MAX, 1, whole=True),
    _column("memory_repair_failed", _MAX, 1, whole=True),
    _column("sm_active_percent", _MEAN, 100),
    _column("sm_occupancy_percent", _MEAN, 100),
    _column("tensor_active_percent", _MEAN, 100),
    _column("memory_bandwidth_percent", _MEAN, 100),
    _column("process_count", _MAX, 1e6, whole=True),
    _column("foreign_process_count", _MIN, 1e6, whole=True),
    _column("foreign_memory_mib", _MIN, _MIB_MAX, whole=True),
)
"""Of a device (:class:`telemetry.samples.DeviceSample`)."""

TASK = (
    _column("cpu_seconds", _COUNTER, _SECONDS_MAX),
    _column("cpu_throttled_seconds", _COUNTER, _SECONDS_MAX),
    _column("memory_mib", _MEAN, _MIB_MAX),
    _column("memory_peak_mib", _MAX, _MIB_MAX, source="memory_mib"),
    _column("read_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("written_bytes", _COUNTER, _COUNT_MAX, whole=True),
    _column("process_count", _MAX, 1e6, whole=True),
    _column("oom_kills", _COUNTER, _COUNT_MAX, whole=True),
    _column("gpu_process_count", _MIN, 1e6, whole=True),
    _column("gpu_process_peak_count", _MAX, 1e6, source="gpu_process_count", whole=True),
    _column("gpu_memory_mib", _MEAN, _MIB_MAX),
    _column("gpu_memory_peak_mib", _MAX, _MIB_MAX, source="gpu_memory_mib"),
    _column("gpu_utilization_percent", _MEAN, 100),
    _column("gpu_utilization_peak_percent", _MAX, 100, source="gpu_utilization_percent"),
)
"""Of one replica of a task (:class:`telemetry.samples.TaskSample`)."""


def fold(how: Fold, readings: Iterable[float | None]) -> float | None:
    """One value for readings in order of time; None when none of them is known."""
    known = [reading for reading in readings if reading is not None]
    if not known:
        return None
    match how:
        case Fold.MEAN:
            return sum(known) / len(known)
        case Fold.MAX:
            return max(known)
        case Fold.MIN:
            return min(known)
        case Fold.COUNTER:
            return known[-1]
        case Fold.MASK:
            mask = 0
            for reading in known:
                mask |= int(reading)
            return mask


def folded(columns: Sequence[Column], samples: Sequence[Any]) -> tuple[float | None, ...]:
    """One row for samples of one host, device or replica, in order of time."""
    return tuple(
        fold(column.fold, [getattr(sample, column.source) for sample in samples])
        for column in columns
    )
