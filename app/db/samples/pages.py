"""Rows of one table page by page, each page a read of its own: whoever takes them may be slow, and
no transaction stays open for them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_

from app.db.samples.store import SampleStore
from app.db.samples.tables import RAW, Kind, Resolution, series, table

_ROWS = 2_000
NAMES = ("node", "key", "model", "queue", "task")
"""What each row says of its series, before its time and its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows, in ``[start_ms, end_ms)``. ``node``, ``key`` and ``task``: of these only; None
    for all."""

    kind: Kind
    resolution: Resolution
    start_ms: int
    end_ms: int
    node: str | None = None
    key: str | None = None
    task: str | None = None

    @property
    def is_narrow(self) -> bool:
        return (self.node, self.key, self.task) != (None, None, None)

    def of_series(self) -> list[ColumnElement[bool]]:
        wanted = (("node", self.node), ("key", self.key), ("task", self.task))
        return [
            series.c.kind == str(self.kind),
            *(series.c[name] == value for name, value in wanted if value is not None),
        ]


async def has_series(store: SampleStore, selection: Selection) -> bool:
    """Whether anything like that was ever measured."""
    async with store.read() as session:
        query = select(series.c.id).where(*selection.of_series()).limit(1)
        return await session.scalar(query) is not None


async def pages(store: SampleStore, selection: Selection) -> AsyncIterator[Sequence[Any]]:
    """Rows in the order of the table's key: :data:`NAMES`, then its columns but for the series."""
    after: tuple[int, int] | None = None
    while True:
        async with store.read() as session:
            result = await session.execute(_page(store, selection, after))
            found: list[Sequence[Any]] = [tuple(row) for row in result]
        if found:
            yield [row[2:] for row in found]
        if len(found) < _ROWS:
            return
        after = (found[-1][0], found[-1][1])


def _page(store: SampleStore, selection: Selection, after: tuple[int, int] | None) -> Select[Any]:
    of = table(selection.kind, selection.resolution)
    key = [of.c.series_id, of.c.taken_at_ms]
    if store.is_sqlite and selection.resolution is RAW:
        key.reverse()
    rest = [column for column in of.columns if column.name not in {"series_id", "taken_at_ms"}]
    query = (
        select(*key, *(series.c[name] for name in NAMES), of.c.taken_at_ms, *rest)
        .join(series, series.c.id == of.c.series_id)
        .where(
            of.c.taken_at_ms >= selection.start_ms,
            of.c.taken_at_ms < selection.end_ms,
        )
        .order_by(*key)
        .limit(_ROWS)
    )
    if selection.is_narrow:
        query = query.where(of.c.series_id.in_(select(series.c.id).where(*selection.of_series())))
    return query if after is None else query.where(tuple_(*key) > tuple_(*after))


def column_names(kind: Kind, resolution: Resolution) -> tuple[str, ...]:
    """Of the rows that :func:`pages` gives."""
    rest = [column.name for column in table(kind, resolution).columns]
    return (*NAMES, "taken_at_ms", *(n for n in rest if n not in {"series_id", "taken_at_ms"}))
