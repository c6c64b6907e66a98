"""Forgetting ten million rows, and how long the next report's rows wait for it meanwhile."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import func, select, text

from app.db.samples import retention
from app.db.samples.store import Row, SampleStore, Writing
from app.db.samples.tables import RAW, Kind, table
from app.loops.retention import ROWS_A_STEP
from benchmarks.databases import postgresql
from benchmarks.harness import Case
from telemetry.columns import Column
from telemetry.stats import quantile

SERIES = 800
"""Devices: a batch to write has a row of each."""
_AT_ONCE = 400_000
"""Rows a transaction while the store is filled."""
_ALONE_WRITES = 50
_DAY_MS = 86_400_000


def run(*, rows: int | None = None) -> Iterator[Case]:
    """``rows`` None: as ``BENCH_RETENTION_ROWS`` says, or ten million. SQLite, then PostgreSQL."""
    if rows is None:
        rows = int(os.environ.get("BENCH_RETENTION_ROWS", "10000000"))
    with tempfile.TemporaryDirectory(prefix="retention-") as folder:
        yield from asyncio.run(_measure("SQLite", f"sqlite:///{Path(folder) / 'bench.db'}", rows))
    with postgresql() as url:
        yield from asyncio.run(_measure("PostgreSQL", url, rows))


async def _measure(database: str, url: str, rows: int) -> list[Case]:
    store = SampleStore(url)
    await store.open()
    try:
        now_ms = time.time_ns() // 1_000_000
        day_ms = now_ms // _DAY_MS * _DAY_MS - 3 * _DAY_MS
        filled = await _fill(store, day_ms, rows, now_ms)
        ingest = _Ingest(store, now_ms)
        for _ in range(_ALONE_WRITES):
            await ingest.write()
        alone, ingest.seconds = ingest.seconds, []
        writing = asyncio.create_task(ingest.go_on())
        start = time.perf_counter()
        steps = await _forget(store, before_ms=day_ms + _DAY_MS)
        took = time.perf_counter() - start
        ingest.done = True
        await writing
        left = await _count(store)
    finally:
        await store.close()
    if left != ingest.rows:
        raise RuntimeError(f"{left} rows are left, and {ingest.rows} are to be kept")
    note = (
        f"{steps} steps in {took:.1f} s; {len(ingest.seconds)} writes of {SERIES} rows, p50 "
        f"{quantile(ingest.seconds, 0.5):.4f} s; the longest without it {max(alone):.4f} s"
    )
    return [
        Case(
            case=f"forgetting {filled:,} rows on {database}: the longest that a write took",
            value=max(ingest.seconds),
            unit="s",
            better="lower",
            must=1.0,
            aim=0.1,
            note=note,
        )
    ]


async def _forget(store: SampleStore, *, before_ms: int) -> int:
    """As the service's loop does, but without its pauses; the steps that it took."""
    taken_at_ms = table(Kind.DEVICE, RAW).c.taken_at_ms
    steps, old = 0, True
    while old:
        steps += 1
        if not await retention.drop_older(
            store, Kind.DEVICE, RAW, before_ms=before_ms, rows=ROWS_A_STEP
        ):
            # Nothing is left, or a write was in the way of a partition's end.
            query = select(taken_at_ms).where(taken_at_ms < before_ms).limit(1)
            async with store.read() as session:
                old = await session.scalar(query) is not None
    return steps


class _Ingest:
    """Writes a batch, and the next as soon as it's stored."""

    def __init__(self, store: SampleStore, now_ms: int) -> None:
        self.seconds: list[float] = []
        self.rows = 0
        self.done = False
        self._store = store
        self._now_ms = now_ms

    async def go_on(self) -> None:
        while not self.done:
            await self.write()

    async def write(self) -> None:
        at_ms = self._now_ms + len(self.seconds) + self.rows
        values = tuple(_plain(column) for column in Kind.DEVICE.columns)
        batch: list[Row] = [(at_ms, number, *values) for number in range(SERIES)]
        writing = Writing()
        writing.rows[Kind.DEVICE] = batch
        start = time.perf_counter()
        await self._store.write(writing, now_ms=self._now_ms)
        self.seconds.append(time.perf_counter() - start)
        self.rows += len(batch)


async def _fill(store: SampleStore, day_ms: int, rows: int, now_ms: int) -> int:
    """A day's rows of all series, by SQL; how many."""
    of = table(Kind.DEVICE, RAW)
    looks, at_once = max(1, rows // SERIES), _AT_ONCE // SERIES
    every_ms = _DAY_MS // looks
    values = ", ".join(str(_plain(column)) for column in Kind.DEVICE.columns)
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end),"
        " s(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM s WHERE id + 1 < :series)"
        if store.is_sqlite
        else "WITH n AS (SELECT generate_series(:first, :end - 1) AS i),"
        " s AS (SELECT generate_series(0, :series - 1) AS id)"
    )
    names = ", ".join(column.name for column in of.columns)
    query = text(
        f"INSERT INTO {of.name} ({names}) {numbers}"
        f" SELECT :day + n.i * :every, s.id, {values} FROM n CROSS JOIN s"
    )
    for first in range(0, looks, at_once):
        async with store.database.write() as session:
            if not store.is_sqlite:
                await store.partitions.ensure(session, [day_ms], now_ms=now_ms)
            end = min(looks, first + at_once)
            sizes = {"day": day_ms, "every": every_ms, "series": SERIES}
            await session.execute(query, {"first": first, "end": end, **sizes})
    return looks * SERIES


def _plain(column: Column) -> float:
    """A value of the width that a measured one has."""
    value = min(int(column.most), 12_345) // 2
    return value if column.whole else value + 0.25


async def _count(store: SampleStore) -> int:
    async with store.read() as session:
        query = select(func.count()).select_from(table(Kind.DEVICE, RAW))
        return await session.scalar(query) or 0
