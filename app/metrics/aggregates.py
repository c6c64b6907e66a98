"""Sums over a range, by what series are grouped by: what was held, used and left unused.

Each row counts for the time that its readings stand for: a host is measured always, so the most
readings that any host has in a stretch are all of it. What wasn't measured counts nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Select,
    Subquery,
    case,
    cast,
    func,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.rolling import folded
from app.db.samples.store import SampleStore
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, Resolution, series, table
from app.metrics.queries import By
from app.metrics.series import state_of
from app.settings import Settings

_MINUTES_RANGE_MS = 2 * 3_600_000
"""Longer ranges are read from whole hours: a fleet has sixty times as many minutes."""
_IDLE_BELOW_PERCENT = 1.0
_ALIKE = 1.01
"""A reading more or less in an hour is no other interval."""
_JOULES_PER_KWH = 3.6e6

Form = dict[str, Any]
_KIND = {By.QUEUE: Kind.TASK, By.TASK: Kind.TASK, By.MODEL: Kind.DEVICE, By.NODE: Kind.DEVICE}
_NEEDED = {
    Kind.TASK: ("gpu_utilization_percent", "gpu_memory_peak_mib", "memory_peak_mib"),
    Kind.DEVICE: (
        "utilization_percent",
        "utilization_peak_percent",
        "power_watts",
        "energy_joules",
        "memory_used_peak_mib",
    ),
    Kind.HOST: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """What is read: whole stretches of ``width_ms``, the last ones from rows as they came."""

    resolution: Resolution
    start_ms: int
    end_ms: int
    raw_from_ms: int


class Aggregates:
    """Reads one telemetry store."""

    def __init__(self, store: SampleStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def by(self, by: By, start_ms: int, end_ms: int, *, now_ms: int) -> Form:
        """Sums of each group, with the range and the resolution that they were read at."""
        kind = _KIND[by]
        async with self._store.read() as session:
            state = await state_of(session, kind, self._settings, now_ms)
            span = _span(start_ms, end_ms, state.done_until_ms, state.kept_from_ms)
            weight = await _weight(session, span)
            made = _of_tasks if kind is Kind.TASK else _of_devices
            found = (await session.execute(made(by, span, weight))).all()
        hours = span.resolution.width_ms / 3_600_000 * weight.factor
        item = _task_item if kind is Kind.TASK else _device_item
        return {
            "by": by.value,
            "start_ms": span.start_ms,
            "end_ms": span.end_ms,
            "resolution_seconds": span.resolution.width_ms / 1000,
            "items": [{by.value: row.name, **item(row, hours)} for row in found],
        }


def _span(
    start_ms: int, end_ms: int, done: Mapping[Resolution, int], kept: Mapping[Resolution, int]
) -> _Span:
    hour_ms, minute_ms = HOUR.width_ms, MINUTE.width_ms
    hours_start = start_ms // hour_ms * hour_ms
    hours_end = min(-(-end_ms // hour_ms) * hour_ms, done[HOUR])
    too_old = start_ms < kept[MINUTE]
    if too_old or (end_ms - start_ms > _MINUTES_RANGE_MS and hours_end > hours_start):
        hours_end = max(hours_end, hours_start)
        return _Span(resolution=HOUR, start_ms=hours_start, end_ms=hours_end, raw_from_ms=hours_end)
    minutes_start = start_ms // minute_ms * minute_ms
    minutes_end = -(-end_ms // minute_ms) * minute_ms
    raw_from_ms = min(max(done[MINUTE], minutes_start), minutes_end)
    return _Span(
        resolution=MINUTE, start_ms=minutes_start, end_ms=minutes_end, raw_from_ms=raw_from_ms
    )


def _rows(kind: Kind, span: _Span, *, lead: int = 0) -> FromClause:
    """Rows of the span's resolution; ``lead``: so many stretches before it too."""
    rolled = table(kind, span.resolution)
    columns = [column for column in kind.columns if column.name in _NEEDED[kind]]
    names = ("series_id", "taken_at_ms", "readings", *(column.name for column in columns))
    start_ms = span.start_ms - lead * span.resolution.width_ms
    done = select(*(rolled.c[name] for name in names)).where(
        rolled.c.taken_at_ms >= start_ms, rolled.c.taken_at_ms < span.raw_from_ms
    )
    if span.raw_from_ms >= span.end_ms:
        return done.subquery()
    raw = table(kind, RAW)
    stretch = raw.c.taken_at_ms // span.resolution.width_ms * span.resolution.width_ms
    fresh = (
        select(
            raw.c.series_id,
            stretch.label("taken_at_ms"),
            func.count().label("readings"),
            *(folded(column, raw, raw=True).label(column.name) for column in columns),
        )
        .where(raw.c.taken_at_ms >= span.raw_from_ms, raw.c.taken_at_ms < span.end_ms)
        .group_by(raw.c.series_id, stretch)
    )
    return union_all(done, fresh).subquery()


async def _weight(session: AsyncSession, span: _Span) -> "_Weight":
    hosts = _rows(Kind.HOST, span, lead=1)
    rows = await session.execute(
        select(hosts.c.taken_at_ms, func.max(hosts.c.readings)).group_by(hosts.c.taken_at_ms)
    )
    most = {at_ms: int(readings) for at_ms, readings in rows}
    return _Weight(whole_readings(most, span.resolution.width_ms))


def whole_readings(most: Mapping[int, int], width_ms: int) -> dict[int, int]:
    """By stretch: how many readings are all of it, given the most that any host has in each.

    In one that wasn't measured to its end (it isn't over, all was down) that is what the stretches
    beside it have. The interval itself changes little from one to the next.
    """
    return {
        at_ms: max(most.get(at_ms + side * width_ms, 0) for side in (-1, 0, 1)) for at_ms in most
    }


class _Weight:
    """How much of a stretch a row's readings stand for."""

    def __init__(self, whole: Mapping[int, int]) -> None:
        """``whole``: by stretch, how many readings are all of it."""
        self._whole = whole
        self._most = max(whole.values(), default=1)
        self._is_one = self._most <= _ALIKE * min(whole.values(), default=1)
        self.factor = 1 / self._most if self._is_one else 1.0
        """To be multiplied with what comes of it: integers are summed twice as fast."""

    def __call__(self, rows: FromClause) -> ColumnElement[Any]:
        readings: ColumnElement[Any] = rows.c.readings
        if self._is_one:  # as usual
            return readings
        shares = {at_ms: 1.0 / readings for at_ms, readings in self._whole.items()}
        return readings * case(shares, value=rows.c.taken_at_ms, else_=1.0 / self._most)


def _known(value: ColumnElement[Any], weight: ColumnElement[Any]) -> ColumnElement[Any]:
    """The weight of rows in which something is known."""
    return func.sum(case((value.is_not(None), weight)))


def _of_tasks(by: By, span: _Span, weight: _Weight) -> Select[Any]:
    rows = _rows(Kind.TASK, span)
    share, used = weight(rows), rows.c.gpu_utilization_percent
    each = _each(
        rows,
        func.sum(share).label("stretches"),
        _known(used, share).label("measured"),
        func.sum(used * share).label("used"),
        func.max(rows.c.gpu_memory_peak_mib).label("gpu_memory"),
        func.max(rows.c.memory_peak_mib).label("memory"),
    )
    gpus = series.c.devices * series.c.gpu_milli
    return _grouped(
        by,
        each,
        _total(each.c.stretches).label("stretches"),
        _total(each.c.stretches * gpus).label("held"),
        _total(each.c.measured * gpus).label("measured"),
        _total(each.c.used * gpus).label("used"),
        func.max(each.c.gpu_memory).label("gpu_memory"),
        func.max(each.c.memory).label("memory"),
    )


def _of_devices(by: By, span: _Span, weight: _Weight) -> Select[Any]:
    rows = _with_growth(_rows(Kind.DEVICE, span, lead=1))
    share = weight(rows)
    used, peak, watts = (
        rows.c[name] for name in ("utilization_percent", "utilization_peak_percent", "power_watts")
    )
    sums = {
        "stretches": func.sum(share),
        "measured": _known(used, share),
        "used": func.sum(used * share),
        "peaked": _known(peak, share),
        "idle": func.sum(case((peak < _IDLE_BELOW_PERCENT, share), (peak.is_not(None), 0.0))),
        "powered": _known(watts, share),
        "watts": func.sum(watts * share),
        "joules": func.sum(case((rows.c.growth >= 0, rows.c.growth))),
    }
    memory = func.max(rows.c.memory_used_peak_mib).label("memory")
    labelled = (expression.label(name) for name, expression in sums.items())
    each = _each(rows, *labelled, memory, where=rows.c.taken_at_ms >= span.start_ms)
    return _grouped(
        by,
        each,
        *(_total(each.c[name]).label(name) for name in sums),
        func.max(each.c.memory).label("memory"),
    )


def _with_growth(rows: FromClause) -> Subquery:
    """Beside each row by how much the energy counter has grown since the one before."""
    before = func.lag(rows.c.energy_joules).over(
        partition_by=rows.c.series_id, order_by=rows.c.taken_at_ms
    )
    return select(rows, (rows.c.energy_joules - before).label("growth")).subquery()


def _each(
    rows: FromClause, *sums: ColumnElement[Any], where: ColumnElement[bool] | None = None
) -> Subquery:
    """Sums of each series: in the order of the key on SQLite, so nothing is sorted for them."""
    query = select(rows.c.series_id, *sums).group_by(rows.c.series_id)
    return (query if where is None else query.where(where)).subquery()


def _grouped(by: By, each: Subquery, *sums: ColumnElement[Any]) -> Select[Any]:
    name = series.c[by.value]
    return (
        select(name.label("name"), *sums)
        .join_from(each, series, series.c.id == each.c.series_id)
        .group_by(name)
        .order_by(name)
    )


def _total(value: ColumnElement[Any]) -> ColumnElement[float]:
    """PostgreSQL's sums of integers would be Decimals."""
    return cast(func.sum(value), Double)


def _task_item(row: Any, hours: float) -> Form:
    measured = (row.measured or 0.0) * hours / 1000
    used = None if row.used is None else row.used * hours / 1000 / 100
    return {
        "replica_hours": row.stretches * hours,
        "gpu_hours": row.held * hours / 1000,
        "gpu_hours_measured": measured,
        "gpu_hours_unused": None if used is None else measured - used,
        "gpu_utilization_percent": _share(row.used, row.measured),
        "gpu_memory_peak_mib": row.gpu_memory,
        "memory_peak_mib": row.memory,
    }


def _device_item(row: Any, hours: float) -> Form:
    idle = _share(row.idle, row.peaked)
    return {
        "device_hours": row.stretches * hours,
        "utilization_percent": _share(row.used, row.measured),
        "idle_percent": None if idle is None else 100 * idle,
        "energy_kwh": None if row.joules is None else row.joules / _JOULES_PER_KWH,
        "power_watts": _share(row.watts, row.powered),
        "memory_used_peak_mib": row.memory,
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
