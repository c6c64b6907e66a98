"""What one attempt of a task used: rows in, peaks and percentiles out. Pure.

Percentiles are over rows of a minute each (of an hour, for a long attempt of many replicas), each
the mean of its stretch; peaks are the largest single reading. None is unknown, never zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from telemetry.stats import counter_rate, quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stretch of one replica."""

    taken_at_ms: int
    cpu_seconds: float | None
    memory_mib: float | None
    memory_peak_mib: float | None
    gpu_memory_mib: float | None
    gpu_memory_peak_mib: float | None
    gpu_utilization_percent: float | None
    gpu_utilization_peak_percent: float | None
    gpu_process_peak_count: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of one quantity, over all replicas."""

    peak: float
    p95: float
    p50: float
    most_p95: float
    """Of the replica that uses most: what all are asked for is to be enough for that one."""
    known_ratio: float
    """Of all rows, those in which it was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """``None``: not measured."""

    measured_seconds: float
    """Of the replica that was measured longest."""
    gpu_memory_mib: Spread | None = None
    """On the one device of each replica that holds most of it."""
    gpu_utilization_percent: Spread | None = None
    """Mean over a replica's devices."""
    cpu_cores: Spread | None = None
    memory_mib: Spread | None = None


def usage(replicas: Iterable[Sequence[Row]], *, width_ms: int) -> Usage:
    """Of an attempt's replicas, each with its rows of this width in order of time."""
    known = [rows for rows in replicas if rows]
    cores = [_cores(rows, width_ms) for rows in known]
    return Usage(
        measured_seconds=max((len(rows) for rows in known), default=0) * width_ms / 1000,
        gpu_memory_mib=_spread(
            [[row.gpu_memory_mib for row in rows] for rows in known],
            [row.gpu_memory_peak_mib for rows in known for row in rows],
        ),
        gpu_utilization_percent=_spread(
            [[row.gpu_utilization_percent for row in rows] for rows in known],
            [row.gpu_utilization_peak_percent for rows in known for row in rows],
        ),
        cpu_cores=_spread(cores, [core for of_one in cores for core in of_one]),
        memory_mib=_spread(
            [[row.memory_mib for row in rows] for rows in known],
            [row.memory_peak_mib for rows in known for row in rows],
        ),
    )


def _cores(rows: Sequence[Row], width_ms: int) -> list[float | None]:
    """CPU time a second between rows that follow each other."""
    return [
        counter_rate(
            before.cpu_seconds, after.cpu_seconds, (after.taken_at_ms - before.taken_at_ms) / 1000
        )
        for before, after in pairwise(rows)
        if after.taken_at_ms - before.taken_at_ms == width_ms
    ]


def _spread(
    replicas: Sequence[Sequence[float | None]], peaks: Sequence[float | None]
) -> Spread | None:
    known = [[value for value in values if value is not None] for values in replicas]
    known = [values for values in known if values]
    if not known:
        return None
    pooled = [value for values in known for value in values]
    highest = max((peak for peak in peaks if peak is not None), default=max(pooled))
    return Spread(
        peak=max(highest, *pooled),
        p95=quantile(pooled, 0.95),
        p50=quantile(pooled, 0.5),
        most_p95=max(quantile(values, 0.95) for values in known),
        known_ratio=len(pooled) / sum(map(len, replicas)),
    )
