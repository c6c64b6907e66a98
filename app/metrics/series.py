"""Series over time as columns for a chart: gauges folded, counters as rates between points.

What isn't known is None, never zero; a point of which there is no row at all is left out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Subquery, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.rolling import folded
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, Resolution, rollups, table
from app.metrics.rates import COUNTER_OF, CPU_COUNTERS, CPU_PERCENT, cpu_percent
from app.metrics.stretches import Cut, State
from app.settings import Settings
from telemetry.stats import counter_rate

Columns = dict[str, list[float | None]]
"""``time`` (milliseconds since 1970, when the point begins) beside one list a metric."""

_HOUR_MS = 3_600_000


async def state_of(session: AsyncSession, kind: Kind, settings: Settings, now_ms: int) -> State:
    """How far rows of a kind are rolled up, and since when they're kept."""
    rows = await session.execute(
        select(rollups.c.resolution, rollups.c.done_until_ms).where(rollups.c.kind == kind)
    )
    named: dict[str, int] = {row.resolution: row.done_until_ms for row in rows}
    hours: Mapping[Resolution, float] = {
        RAW: settings.samples_keep_hours,
        MINUTE: 24 * settings.minutes_keep_days,
        HOUR: 24 * settings.hours_keep_days,
    }
    return State(
        done_until_ms={of: named.get(of.name, 0) for of in (MINUTE, HOUR)},
        kept_from_ms={of: now_ms - round(kept * _HOUR_MS) for of, kept in hours.items()},
    )


async def read(
    session: AsyncSession, kind: Kind, ids: Sequence[int], cut: Cut, metrics: Sequence[str]
) -> dict[int, Columns]:
    """The columns of each of these series; of those without a row in the range there are none.

    Args:
        metrics: Which of ``METRICS[kind]``.
    """
    needed = _needed(kind, metrics)
    source = _rows(kind, ids, cut, needed)
    number = (source.c.taken_at_ms - cut.base_ms) // cut.width_ms
    values = [
        folded(column, source, raw=False).label(column.name)
        for column in kind.columns
        if column.name in needed
    ]
    query = (
        select(source.c.series_id, number.label("number"), func.max(source.c.until_ms), *values)
        .group_by(source.c.series_id, number)
        .order_by(source.c.series_id, number)
    )
    names = [column.name for column in kind.columns if column.name in needed]
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in await session.execute(query):
        found[row[0]].append(tuple(row)[1:])
    made = {of: _columns(kind, rows, names, metrics, cut) for of, rows in found.items()}
    return {of: columns for of, columns in made.items() if columns["time"]}


def _needed(kind: Kind, metrics: Sequence[str]) -> set[str]:
    needed = {COUNTER_OF[kind].get(metric, metric) for metric in metrics}
    if CPU_PERCENT in needed:
        needed = (needed - {CPU_PERCENT}) | set(CPU_COUNTERS)
    return needed


def _rows(kind: Kind, ids: Sequence[int], cut: Cut, needed: set[str]) -> Subquery:
    """All rows of the cut. ``until_ms``: when the last reading in a row was taken, if its readings
    are spread evenly: a counter's rate across the seam of two tables needs it."""
    parts = []
    for stretch in cut.stretches:
        of = table(kind, stretch.resolution)
        readings = literal(1) if stretch.resolution is RAW else of.c.readings
        width_ms = stretch.resolution.width_ms
        parts.append(
            select(
                of.c.series_id,
                of.c.taken_at_ms,
                (of.c.taken_at_ms + width_ms - width_ms // readings).label("until_ms"),
                readings.label("readings"),
                *(of.c[name] for name in sorted(needed)),
            ).where(
                of.c.series_id.in_(ids),
                of.c.taken_at_ms >= stretch.start_ms,
                of.c.taken_at_ms < stretch.end_ms,
            )
        )
    return (union_all(*parts) if len(parts) > 1 else parts[0]).subquery()


def _columns(
    kind: Kind,
    rows: Sequence[tuple[Any, ...]],
    names: Sequence[str],
    metrics: Sequence[str],
    cut: Cut,
) -> Columns:
    """``rows``: the point's number (0 is before the range), until when it reaches, its values."""
    index = {name: place for place, name in enumerate(names, start=2)}
    shown = [row for row in rows if row[0] > 0]
    before: list[tuple[Any, ...] | None] = [row for row in rows if row[0] == 0] or [None]
    pairs = list(zip([*before, *shown], shown, strict=False))
    columns: Columns = {"time": [cut.base_ms + row[0] * cut.width_ms for row in shown]}
    for metric in metrics:
        if metric == CPU_PERCENT:
            columns[metric] = [_cpu_percent(earlier, later, index) for earlier, later in pairs]
        elif metric in index:
            place = index[metric]
            columns[metric] = [_number(row[place]) for row in shown]
        else:
            place = index[COUNTER_OF[kind][metric]]
            columns[metric] = [_rate(earlier, later, place) for earlier, later in pairs]
    return columns


def _number(value: Any) -> float | None:
    """PostgreSQL's sums of integers are Decimals."""
    return value if value is None or isinstance(value, int | float) else float(value)


def _rate(earlier: Sequence[Any] | None, later: Sequence[Any], place: int) -> float | None:
    if earlier is None:
        return None
    return counter_rate(earlier[place], later[place], (later[1] - earlier[1]) / 1000)


def _cpu_percent(
    earlier: Sequence[Any] | None, later: Sequence[Any], index: Mapping[str, int]
) -> float | None:
    def growth(counter: str) -> float | None:
        if earlier is None:
            return None
        before, after = earlier[index[counter]], later[index[counter]]
        return None if before is None or after is None or after < before else after - before

    return cpu_percent(growth)
