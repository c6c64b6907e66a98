"""Rates between two samples, and quantiles: pure functions over plain values."""

import math
from collections.abc import Callable, Sequence


def counter_rate(earlier: float | None, later: float | None, seconds: float) -> float | None:
    """Growth of a cumulative counter, in units per second.

    None when either reading is missing, when no time has passed, or when the counter went back (a
    reboot, a device plugged anew): a made-up rate would be worse than none.
    """
    if earlier is None or later is None or seconds <= 0 or later < earlier:
        return None
    return (later - earlier) / seconds


def cpu_busy_ratio(growth: Callable[[str], float | None]) -> float | None:
    """Share of a host's CPU time that was not idle and not waiting for I/O; 0..1.

    The denominator is the CPU time itself, never wall time times CPUs: the two differ in a
    container.

    Args:
        growth: By how much a counter of :class:`telemetry.samples.HostSample` has grown; None when
            that isn't known.
    """
    user, system = growth("cpu_user_seconds"), growth("cpu_system_seconds")
    idle = growth("cpu_idle_seconds")
    if user is None or system is None or idle is None:
        return None
    busy = user + system + (growth("cpu_steal_seconds") or 0.0)
    total = busy + idle + (growth("cpu_iowait_seconds") or 0.0)
    return busy / total if total > 0 else None


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
