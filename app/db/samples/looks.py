"""Rows of a few series, as those who decide by them need them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from app.db.samples.store import SampleStore
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, series, table
from app.streaks import GAP_MS

Key = tuple[str, str]
"""A series of a kind: its node, and its key there."""
Look = tuple[int, tuple[float | None, ...]]
"""``taken_at_ms``, and the columns that were asked for."""

_KEYS_A_QUERY = 500
_LATEST_MS = 300_000
"""By then rows have been rolled up, and are found by their series faster than by their time."""


class Looks:
    """Reads the store. Remembers which series is whose: that never changes."""

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._ids: dict[tuple[Kind, Key], int] = {}

    async def since(
        self, kind: Kind, after_ms: Mapping[Key, int], columns: Sequence[str]
    ) -> Mapping[Key, list[Look]]:
        """Each one's rows as they came from after its own moment on, in order of time."""
        found: dict[Key, list[Look]] = defaultdict(list)
        newest = max(after_ms.values(), default=0)
        # Those seen a moment ago, apart from those looked at for the first time: they'd else be
        # read from as far back.
        for keys in (
            [key for key, at in after_ms.items() if newest - at <= _LATEST_MS],
            [key for key, at in after_ms.items() if newest - at > _LATEST_MS],
        ):
            for part in _parts(keys):
                for key, look in await self._part(kind, part, after_ms, columns):
                    found[key].append(look)
        return found

    async def _part(
        self, kind: Kind, keys: Sequence[Key], after_ms: Mapping[Key, int], columns: Sequence[str]
    ) -> list[tuple[Key, Look]]:
        of = await self._series(kind, keys)
        rows = table(kind, RAW)
        query = (
            select(rows.c.series_id, rows.c.taken_at_ms, *(rows.c[name] for name in columns))
            .where(
                rows.c.series_id.in_(list(of)),
                rows.c.taken_at_ms > min(after_ms[key] for key in keys),
            )
            .order_by(rows.c.taken_at_ms)
        )
        async with self._store.read() as session:
            found = [tuple(row) for row in await session.execute(query)]
        return [
            (key, (at_ms, tuple(values)))
            for of_series, at_ms, *values in found
            if at_ms > after_ms[key := of[of_series]]
        ]

    async def least_since(
        self, key: Key, column: str, since_ms: int, *, now_ms: int, kind: Kind = Kind.DEVICE
    ) -> float | None:
        """The least that it has been from a moment on, what it was at that moment included; None
        when nothing is known of that time."""
        known = []
        for of_series in await self._series(kind, [key]):
            known.append(await self._value_at(kind, of_series, column, since_ms))
            for resolution in (RAW, MINUTE, HOUR):
                rows = table(kind, resolution)
                first = max(since_ms, now_ms - _LATEST_MS) if resolution is RAW else since_ms
                query = select(func.min(rows.c[column])).where(
                    rows.c.series_id == of_series, rows.c.taken_at_ms > first
                )
                async with self._store.read() as session:
                    known.append(await session.scalar(query))
        return min((value for value in known if value is not None), default=None)

    async def _value_at(
        self, kind: Kind, of_series: int, column: str, moment_ms: int
    ) -> float | None:
        """By the last row of before, or by the minute that it was in: rows are kept for days."""
        for resolution, at_most_before_ms in ((RAW, GAP_MS), (MINUTE, MINUTE.width_ms)):
            rows = table(kind, resolution)
            query = (
                select(rows.c[column])
                .where(
                    rows.c.series_id == of_series,
                    rows.c.taken_at_ms <= moment_ms,
                    rows.c.taken_at_ms > moment_ms - at_most_before_ms,
                    rows.c[column].is_not(None),
                )
                .order_by(rows.c.taken_at_ms.desc())
                .limit(1)
            )
            async with self._store.read() as session:
                value = await session.scalar(query)
            if value is not None:
                return value
        return None

    async def most_ever(self, kind: Kind, key: Key, column: str) -> float | None:
        """The largest value that is kept of it, the last moments aside."""
        most = None
        for of_series in await self._series(kind, [key]):
            for resolution in (MINUTE, HOUR):
                rows = table(kind, resolution)
                query = select(func.max(rows.c[column])).where(rows.c.series_id == of_series)
                async with self._store.read() as session:
                    value = await session.scalar(query)
                if value is not None:
                    most = value if most is None else max(most, value)
        return most

    async def _series(self, kind: Kind, keys: Sequence[Key]) -> dict[int, Key]:
        """By id, those that there are."""
        missing = {key for key in keys if (kind, key) not in self._ids}
        if missing:
            query = select(series.c.id, series.c.node, series.c.key).where(
                series.c.kind == kind, series.c.key.in_({key for _, key in missing})
            )
            async with self._store.read() as session:
                for row in await session.execute(query):
                    self._ids[kind, (row.node, row.key)] = row.id
        return {self._ids[kind, key]: key for key in keys if (kind, key) in self._ids}


def _parts(keys: Sequence[Key]) -> Sequence[Sequence[Key]]:
    return [keys[at : at + _KEYS_A_QUERY] for at in range(0, len(keys), _KEYS_A_QUERY)]
