"""What counters are called and worth once they're rates: one rule for the latest values, for charts
and for lists."""

from collections.abc import Callable, Mapping

from app.db.samples.tables import Kind
from app.metrics.live import INDEX, Reading
from telemetry.columns import Fold
from telemetry.stats import cpu_busy_ratio

_OWN_NAMES = {
    "energy_joules": "energy_watts",
    "cpu_seconds": "cpu_cores",
    "cpu_throttled_seconds": "cpu_throttled_cores",
}
"""Rates that have a unit of their own; the others are called ``..._per_second``."""
CPU_PERCENT = "cpu_percent"
"""Of a host: the share of its CPU time that was busy, 0 to 100."""
CPU_COUNTERS = (
    "cpu_user_seconds",
    "cpu_system_seconds",
    "cpu_idle_seconds",
    "cpu_iowait_seconds",
    "cpu_steal_seconds",
)


def rate_name(counter: str) -> str:
    return _OWN_NAMES.get(counter, f"{counter}_per_second")


COUNTER_OF: Mapping[Kind, Mapping[str, str]] = {
    kind: {
        rate_name(column.name): column.name
        for column in kind.columns
        if column.fold is Fold.COUNTER
    }
    for kind in Kind
}
"""By the rate's name: the counter it's made of."""
GAUGES: Mapping[Kind, tuple[str, ...]] = {
    kind: tuple(column.name for column in kind.columns if column.fold is not Fold.COUNTER)
    for kind in Kind
}
METRICS: Mapping[Kind, tuple[str, ...]] = {
    kind: (
        *GAUGES[kind],
        *COUNTER_OF[kind],
        *((CPU_PERCENT,) if kind is Kind.HOST else ()),
    )
    for kind in Kind
}
"""All that can be asked of a kind, as a number at one time."""


def cpu_percent(growth: Callable[[str], float | None]) -> float | None:
    """:func:`telemetry.stats.cpu_busy_ratio`, 0 to 100."""
    ratio = cpu_busy_ratio(growth)
    return None if ratio is None else 100 * ratio


def value_of(reading: Reading, metric: str) -> float | None:
    """One of :data:`METRICS` as it is now; None when that isn't known."""
    if metric == CPU_PERCENT:
        return cpu_percent(reading.growth)
    index = INDEX[reading.kind].get(metric)
    if index is not None:
        return reading.values[index]
    return reading.rate(COUNTER_OF[reading.kind][metric])
