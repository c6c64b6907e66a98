"""Connections and transactions.

A writer says so before it reads: on SQLite its transaction begins IMMEDIATE, because one that
starts as a
reader and turns into a writer fails or overwrites (in a measurement the driver's default handling
lost 52 of
80 concurrent updates, BEGIN IMMEDIATE none).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}
_BUSY_TIMEOUT_MS = 10_000
_CONNECTION_WAIT_SECONDS = 10.0
"""Less than an agent's patience: better that it hears to come again than nothing."""
_PLAN_LOCK = 0x57_0A_91
"""Key of the advisory lock that makes one plan commit follow another on PostgreSQL."""


class Database:
    """One database: short read transactions beside each other, write transactions as the dialect
    allows."""

    def __init__(self, url: str, *, pragmas: Sequence[str] = (), pool_size: int = 10) -> None:
        """``pragmas`` are SQLite's, before the usual ones; ``pool_size`` is PostgreSQL's."""
        self.url = with_driver(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            _sqlite_engine(self.url, pragmas)
            if self.is_sqlite
            else create_async_engine(
                self.url,
                pool_pre_ping=True,
                pool_size=pool_size,
                pool_timeout=_CONNECTION_WAIT_SECONDS,
            )
        )
        self._reader = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writer = async_sessionmaker(
            self.engine.execution_options(begin="IMMEDIATE"), expire_on_commit=False
        )
        # SQLite lets one writer in at a time and makes the others poll; queueing here is fair and
        # costs nothing.
        self._one_writer = asyncio.Lock() if self.is_sqlite else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database. Never held over network, solve or
        sleep."""
        async with self._reader() as session:
            if not self.is_sqlite:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @asynccontextmanager
    async def write(self, *, plan_commit: bool = False) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends well and rolls back when it doesn't.

        ``plan_commit``: this transaction re-checks a plan against what it reads, so no other may do
        the same
        at the same time (SQLite's writers are alone anyway).
        """
        async with self._one_writer or nullcontext(), self._writer() as session, session.begin():
            if plan_commit and not self.is_sqlite:
                await session.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PLAN_LOCK}
                )
            yield session

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


def with_driver(url: str) -> URL:
    """The URL with the one driver we support for its database filled in.

    Raises ValueError for a URL that is none, or names another database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(
            "the database URL is none: expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
        ) from error
    driver = _DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ValueError(
            f"database {parsed.get_backend_name()!r} isn't supported: use sqlite or postgresql"
        )
    return parsed.set(drivername=driver)


def _sqlite_engine(url: URL, pragmas: Sequence[str]) -> AsyncEngine:
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself
        cursor = connection.cursor()
        for pragma in (
            *pragmas,
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged submission survives a power cut
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            "journal_size_limit=67108864",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}"
        )

    return engine
