"""Rows of one resolution made of those of a finer one, also when some of these come late."""

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Insert, case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.store import SampleStore
from app.db.samples.tables import (
    HOUR,
    MINUTE,
    RAW,
    Kind,
    Resolution,
    late_stretches,
    rollups,
    table,
)
from app.db.upsert import insert_into, or_renew
from telemetry.columns import Column, Fold

_FINER = {MINUTE: RAW, HOUR: MINUTE}
_MASK_BITS = 16
"""Neither aggregate for "or" is in both databases: it's the sum over bits of the largest."""


def folded(column: Column, source: FromClause, *, raw: bool) -> ColumnElement[Any]:
    """The column's fold over a group of rows. A mean of means is weighted by their readings."""
    value = source.c[column.name]
    match column.fold:
        case Fold.MEAN if raw:
            return func.avg(value)
        case Fold.MEAN:
            readings = source.c.readings
            return func.sum(value * readings) / func.sum(case((value.is_not(None), readings)))
        case Fold.MAX | Fold.COUNTER:
            return func.max(value)
        case Fold.MIN:
            return func.min(value)
        case Fold.MASK:
            bits = (func.max(value.bitwise_and(1 << bit)) for bit in range(_MASK_BITS))
            return sum(bits, start=func.min(value) * 0)


def statement(
    kind: Kind, resolution: Resolution, start_ms: int, end_ms: int, *, is_sqlite: bool
) -> Insert:
    """Fold what was measured in ``[start_ms, end_ms)``; what was there before is written anew.

    Both ends are multiples of the resolution's width.
    """
    finer = _FINER[resolution]
    source, target = table(kind, finer), table(kind, resolution)
    bucket = source.c.taken_at_ms // resolution.width_ms * resolution.width_ms
    readings = func.count() if finer is RAW else func.sum(source.c.readings)
    measured = [folded(column, source, raw=finer is RAW) for column in kind.columns]
    names = [column.name for column in kind.columns]
    rows = (
        select(source.c.series_id, bucket, readings, *measured)
        .where(source.c.taken_at_ms >= start_ms, source.c.taken_at_ms < end_ms)
        .group_by(source.c.series_id, bucket)
    )
    key = ("series_id", "taken_at_ms")
    insert = insert_into(target, is_sqlite=is_sqlite).from_select([*key, "readings", *names], rows)
    return or_renew(insert, key=key, columns=("readings", *names))


class Roller:
    """Keeps the minutes and hours of one store up to date. One at a time."""

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._done_until: dict[tuple[Kind, Resolution], int] = {}

    async def open(self) -> None:
        """Learn how far rows have been rolled up before."""
        async with self._store.read() as session:
            for row in await session.execute(select(rollups)):
                resolution = MINUTE if row.resolution == MINUTE.name else HOUR
                self._done_until[Kind(row.kind), resolution] = row.done_until_ms
        for kind in Kind:
            await self._store.close_until(kind, self._done_until.get((kind, MINUTE), 0))

    async def roll_up(
        self, kind: Kind, resolution: Resolution, *, closed_until_ms: int, stretches: int
    ) -> bool:
        """Fold what was measured since the last time, at most so many stretches of the resolution;
        whether there's more to fold."""
        width = resolution.width_ms
        if resolution is HOUR:
            closed_until_ms = min(closed_until_ms, self._done_until.get((kind, MINUTE), 0))
        start = self._done_until.get((kind, resolution))
        if start is None:
            start = await self._first(kind, _FINER[resolution])
            if start is None:
                return False
            start = start // width * width
        closed = closed_until_ms // width * width
        end = min(closed, start + stretches * width)
        if end <= start:
            return False
        if resolution is MINUTE:
            await self._store.close_until(kind, end)
        async with self._store.database.write() as session:
            await self._fold(session, kind, resolution, start, end)
            await self._keep_done_until(session, kind, resolution, end)
        self._done_until[kind, resolution] = end
        return end < closed

    async def roll_up_late(self, *, quiet_since_ms: int, limit: int) -> int:
        """Fold anew minutes that got rows late and none since; how many it were."""
        async with self._store.read() as session:
            query = (
                select(late_stretches)
                .where(late_stretches.c.touched_ms <= quiet_since_ms)
                .order_by(late_stretches.c.minute_ms)
                .limit(limit)
            )
            found = (await session.execute(query)).all()
        for row in found:
            await self._roll_up_again(Kind(row.kind), row.minute_ms, row.touched_ms)
        return len(found)

    async def _roll_up_again(self, kind: Kind, minute_ms: int, touched_ms: int) -> None:
        hour_ms = minute_ms // HOUR.width_ms * HOUR.width_ms
        async with self._store.database.write() as session:
            await self._fold(session, kind, MINUTE, minute_ms, minute_ms + MINUTE.width_ms)
            if hour_ms < self._done_until.get((kind, HOUR), 0):
                await self._fold(session, kind, HOUR, hour_ms, hour_ms + HOUR.width_ms)
            # Rows that came meanwhile have set another time: this minute's turn comes again.
            await session.execute(
                delete(late_stretches).where(
                    late_stretches.c.kind == kind,
                    late_stretches.c.minute_ms == minute_ms,
                    late_stretches.c.touched_ms == touched_ms,
                )
            )

    async def _fold(
        self, session: AsyncSession, kind: Kind, resolution: Resolution, start: int, end: int
    ) -> None:
        is_sqlite = self._store.is_sqlite
        if not is_sqlite:
            times = range(start, end, resolution.width_ms)
            await self._store.partitions.ensure(session, times, now_ms=end)
        await session.execute(statement(kind, resolution, start, end, is_sqlite=is_sqlite))

    async def _first(self, kind: Kind, resolution: Resolution) -> int | None:
        async with self._store.read() as session:
            return await session.scalar(select(func.min(table(kind, resolution).c.taken_at_ms)))

    async def _keep_done_until(
        self, session: AsyncSession, kind: Kind, resolution: Resolution, until_ms: int
    ) -> None:
        insert = insert_into(rollups, is_sqlite=self._store.is_sqlite).values(
            kind=kind, resolution=resolution.name, done_until_ms=until_ms
        )
        await session.execute(
            or_renew(insert, key=("kind", "resolution"), columns=("done_until_ms",))
        )
