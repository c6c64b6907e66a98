"""The telemetry store on either database: series, and the way in.

What it does by the row it does without the ORM and without a check of each row (executemany of
tuples on SQLite, COPY on PostgreSQL): a batch is known by its number.
"""

import asyncio
import json
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import REAL, BigInteger, Double, SmallInteger, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import Database
from app.db.migrate import Branch, upgrade
from app.db.samples import partitions
from app.db.samples.partitions import Partitions
from app.db.samples.tables import MINUTE, RAW, Kind, late_stretches, received, series, table
from app.db.upsert import insert_into, or_renew
from app.ranges import Ranges

_PRAGMAS = ("auto_vacuum=INCREMENTAL", "cache_size=-65536", "wal_autocheckpoint=4000")

Row = tuple[Any, ...]
"""``(taken_at_ms, series_id, *columns)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a series is of, and what it's grouped by (see ``tables.series``)."""

    kind: Kind
    key: str
    node: str
    model: str = ""
    queue: str = ""
    task: str = ""
    devices: int = 0
    gpu_milli: int = 0


@dataclass(slots=True)
class Writing:
    """What one transaction adds."""

    rows: dict[Kind, list[Row]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    received: dict[tuple[str, str], Ranges] = field(default_factory=dict)
    """By node and epoch: all that is stored once this is."""


class SampleStore:
    """One telemetry store. ``is_sqlite`` is nobody's business outside of :mod:`app.db`."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, pragmas=_PRAGMAS, pool_size=6)
        self.is_sqlite = self.database.is_sqlite
        self.partitions = Partitions()
        self._writing = asyncio.Lock()
        self._closed_until: dict[Kind, int] = {}

    async def open(self) -> None:
        """Bring the tables to this version."""
        await upgrade(self.database, Branch.SAMPLES)

    async def close_until(self, kind: Kind, until_ms: int) -> None:
        """From now on, rows from before this are late, and noted as such.

        Nobody is writing at that moment: what is there already is no later than it may be.
        """
        async with self._writing:
            self._closed_until[kind] = max(until_ms, self._closed_until.get(kind, 0))

    async def close(self) -> None:
        await self.database.close()

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session for statements over the tables. Never held over network or sleep."""
        return self.database.read()

    # Writing.

    async def ensure_series(self, subjects: Collection[Subject]) -> dict[Subject, int]:
        """The ids of these series, made where they're new; what they're grouped by is renewed."""
        named, groups = ("kind", "key", "node"), ("model", "queue", "task", "devices", "gpu_milli")
        insert = insert_into(series, is_sqlite=self.is_sqlite)
        query = or_renew(insert, key=named, columns=groups).returning(
            series.c.id, *(series.c[name] for name in named)
        )
        # Each once, though what it's grouped by may have changed meanwhile; and in one order, so
        # that two writers never wait for each other's rows.
        rows = {(one.kind, one.key, one.node): asdict(one) for one in subjects}
        async with self.database.write() as session:
            found = await session.execute(query, [rows[key] for key in sorted(rows)])
            ids = {(row.kind, row.key, row.node): row.id for row in found}
        return {one: ids[one.kind, one.key, one.node] for one in subjects}

    async def write(self, writing: Writing, *, now_ms: int) -> None:
        """All of it, or nothing."""
        try:
            async with self._writing, self.database.write() as session:
                if not self.is_sqlite:
                    times = {row[0] for rows in writing.rows.values() for row in rows}
                    await self.partitions.ensure(session, times, now_ms=now_ms)
                for kind, rows in writing.rows.items():
                    if rows:
                        await self._insert(session, kind, rows)
                await self._note_received(session, writing, now_ms)
                await self._note_late(session, writing, now_ms)
        except BaseException:
            self.partitions.forget_all()
            raise

    async def _insert(self, session: AsyncSession, kind: Kind, rows: Sequence[Row]) -> None:
        into = table(kind, RAW)
        connection = await session.connection()
        if self.is_sqlite:
            marks = ",".join("?" * len(into.columns))
            await connection.exec_driver_sql(
                f"INSERT OR IGNORE INTO {into.name} VALUES ({marks})",  # noqa: S608  our own names
                list(rows),
            )
            return
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101  the one driver we support
        names = ", ".join(column.name for column in into.columns)
        types = [_COPY_TYPES.get(type(column.type), "int4") for column in into.columns]
        statement = f"COPY {into.name} ({names}) FROM STDIN (FORMAT BINARY)"
        try:
            async with (
                driver.cursor() as cursor,
                cursor.copy(statement) as copy,  # pyright: ignore[reportArgumentType]  our own names
            ):
                copy.set_types(types)
                for row in rows:
                    await copy.write_row(row)
        except psycopg.Error as error:
            # This goes past SQLAlchemy; whoever writes is to see errors of one family only.
            raise DBAPIError.instance(statement, None, error, psycopg.Error) from error

    async def _note_received(self, session: AsyncSession, writing: Writing, now_ms: int) -> None:
        if not writing.received:
            return
        insert = insert_into(received, is_sqlite=self.is_sqlite)
        await session.execute(
            or_renew(insert, key=("node", "epoch"), columns=("ranges", "touched_ms")),
            [
                {
                    "node": node,
                    "epoch": epoch,
                    "ranges": json.dumps(ranges.pairs, separators=(",", ":")),
                    "touched_ms": now_ms,
                }
                for (node, epoch), ranges in writing.received.items()
            ],
        )

    async def _note_late(self, session: AsyncSession, writing: Writing, now_ms: int) -> None:
        width = MINUTE.width_ms
        late = set()
        for kind, rows in writing.rows.items():
            closed_until = self._closed_until.get(kind, 0)
            late |= {(kind, row[0] // width * width) for row in rows if row[0] < closed_until}
        if not late:
            return
        insert = insert_into(late_stretches, is_sqlite=self.is_sqlite)
        await session.execute(
            or_renew(insert, key=("kind", "minute_ms"), columns=("touched_ms",)),
            [
                {"kind": kind, "minute_ms": minute, "touched_ms": now_ms}
                for kind, minute in sorted(late)
            ],
        )

    async def received_batches(self) -> dict[tuple[str, str], Ranges]:
        """What is stored of every agent's runs."""
        async with self.read() as session:
            rows = await session.execute(select(received).order_by(received.c.touched_ms))
            return {(row.node, row.epoch): Ranges(json.loads(row.ranges)) for row in rows}

    # Sizes.

    async def sizes(self) -> dict[str, int]:
        """Bytes of each table; on SQLite of the whole file, as ``file``."""
        async with self.read() as session:
            if not self.is_sqlite:
                return await partitions.sizes(session)
            pages = await session.scalar(text("PRAGMA page_count")) or 0
            return {"file": pages * (await session.scalar(text("PRAGMA page_size")) or 0)}

    def disk_free_bytes(self) -> int | None:
        """Where the store's file is; None when that's another machine's business."""
        database = self.database.url.database
        if not self.is_sqlite or not database:
            return None
        return shutil.disk_usage(Path(database).parent).free


_COPY_TYPES = {SmallInteger: "int2", BigInteger: "int8", Double: "float8", REAL: "float4"}
