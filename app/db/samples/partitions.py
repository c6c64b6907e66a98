"""PostgreSQL's partitions by time: made when rows need them, dropped whole when they're old."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import Database
from app.db.samples.tables import RESOLUTIONS, Kind, Resolution, table

_PARTITION_LOCK = 0x57_0A_93
_AHEAD = 3
"""How many partitions beyond the present one there are always."""
_LOCK_TIMEOUT_MS = 100
"""How long dropping a partition may wait for readers: writers queue up behind it meanwhile."""


def name_of(kind: Kind, resolution: Resolution, start_ms: int) -> str:
    day = datetime.fromtimestamp(start_ms / 1000, UTC)
    return f"{table(kind, resolution).name}_{day:%Y%m%d}"


class Partitions:
    """Those that are known to be there."""

    def __init__(self) -> None:
        self._known: set[tuple[Kind, Resolution, int]] = set()

    async def ensure(
        self, session: AsyncSession, times_ms: Collection[int], *, now_ms: int
    ) -> None:
        """Make room for rows of these times at every resolution, and for the days to come."""
        for resolution in RESOLUTIONS:
            width = resolution.partition_ms
            present = now_ms // width * width
            starts = {at_ms // width * width for at_ms in times_ms}
            starts |= {present + ahead * width for ahead in range(_AHEAD + 1)}
            for kind in Kind:
                missing = [at for at in starts if (kind, resolution, at) not in self._known]
                if missing:
                    await _make(session, kind, resolution, sorted(missing))
                    self._known |= {(kind, resolution, at) for at in missing}

    def forget_all(self) -> None:
        """After a transaction that failed: what it made isn't there."""
        self._known = set()

    def forget(self, name: str) -> None:
        self._known = {known for known in self._known if name_of(*known) != name}


async def _make(
    session: AsyncSession, kind: Kind, resolution: Resolution, starts: Sequence[int]
) -> None:
    """Make the partitions that begin at these times, where they aren't there yet.

    Attached rather than created in place: that needs no lock that keeps readers or writers out.
    """
    await session.execute(text(f"SELECT pg_advisory_xact_lock({_PARTITION_LOCK})"))
    parent = table(kind, resolution).name
    for start in starts:
        name = name_of(kind, resolution, start)
        if await session.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None:
            continue
        bounds = f"FROM ({start}) TO ({start + resolution.partition_ms})"
        await session.execute(
            text(f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
        )
        await session.execute(
            text(f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES {bounds}")
        )


async def ending_before(
    session: AsyncSession, kind: Kind, resolution: Resolution, before_ms: int
) -> list[str]:
    """The partitions in which nothing is as new as this, oldest first."""
    parent = table(kind, resolution).name
    found = await session.scalars(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass(:parent) ORDER BY c.relname"
        ),
        {"parent": parent},
    )
    width = resolution.partition_ms
    last = name_of(kind, resolution, before_ms // width * width)
    return [name for name in found if name < last]


async def drop(database: Database, name: str) -> bool:
    """Drop one partition; False when a reader is in the way: ask again later."""
    try:
        async with database.write() as session:
            await session.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
            await session.execute(text(f"DROP TABLE IF EXISTS {name}"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            return False
        raise
    return True


async def sizes(session: AsyncSession) -> dict[str, int]:
    """Bytes of each table, its indexes and partitions included."""
    found = {}
    for kind in Kind:
        for resolution in RESOLUTIONS:
            parent = table(kind, resolution).name
            found[parent] = await session.scalar(
                text(
                    "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint "
                    "FROM pg_inherits WHERE inhparent = to_regclass(:parent)"
                ),
                {"parent": parent},
            )
    return found
