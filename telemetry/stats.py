"""Rates between two samples, and quantiles: pure functions over plain values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from telemetry.samples import HostSample


def counter_rate(earlier: float | None, later: float | None, seconds: float) -> float | None:
    """Growth of a cumulative counter, in units per second.

    None when either reading is missing, when no time has passed, or when the counter went back (a
    reboot, a device plugged anew): a made-up rate would be worse than none.
    """
    if earlier is None or later is None or seconds <= 0 or later < earlier:
        return None
    return (later - earlier) / seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRates:
    """What a host did between two samples. ``cpu_busy_ratio`` is 0..1 over all its CPUs."""

    seconds: float
    cpu_busy_ratio: float | None
    disk_read_bytes_per_second: float | None
    disk_written_bytes_per_second: float | None
    network_received_bytes_per_second: float | None
    network_sent_bytes_per_second: float | None


def host_rates(earlier: HostSample, later: HostSample) -> HostRates:
    """Rates between two samples of one host, the earlier first."""
    seconds = (later.taken_at_ms - earlier.taken_at_ms) / 1000

    def rate(before: int | None, after: int | None) -> float | None:
        return counter_rate(before, after, seconds)

    return HostRates(
        seconds=seconds,
        cpu_busy_ratio=cpu_busy_ratio(earlier, later),
        disk_read_bytes_per_second=rate(earlier.disk_read_bytes, later.disk_read_bytes),
        disk_written_bytes_per_second=rate(earlier.disk_written_bytes, later.disk_written_bytes),
        network_received_bytes_per_second=rate(
            earlier.network_received_bytes, later.network_received_bytes
        ),
        network_sent_bytes_per_second=rate(earlier.network_sent_bytes, later.network_sent_bytes),
    )


def cpu_busy_ratio(earlier: HostSample, later: HostSample) -> float | None:
    """Share of CPU time between two samples that was not idle and not waiting for I/O; 0..1.

    The denominator is the CPU time itself, never wall time times CPUs: the two differ in a
    container.
    """
    busy = _busy_seconds(later) - _busy_seconds(earlier)
    idle = _idle_seconds(later) - _idle_seconds(earlier)
    if busy < 0 or idle < 0 or busy + idle <= 0:
        return None
    return busy / (busy + idle)


def _busy_seconds(sample: HostSample) -> float:
    return sample.cpu_user_seconds + sample.cpu_system_seconds + (sample.cpu_steal_seconds or 0.0)


def _idle_seconds(sample: HostSample) -> float:
    return sample.cpu_idle_seconds + (sample.cpu_iowait_seconds or 0.0)


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile by linear interpolation (definition 7 of Hyndman and Fan, 1996).

    Raises:
        ValueError: ``values`` is empty, or ``q`` is outside 0..1.
    """
    if not values or not 0 <= q <= 1:
        raise ValueError(f"a quantile needs values and 0 <= q <= 1, not {len(values)} and {q}")
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = math.ceil(position)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
