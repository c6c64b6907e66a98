"""Forgetting: whole partitions on PostgreSQL, bounded steps on SQLite; ingest never waits for
more than one such step."""

from sqlalchemy import Select, Table, delete, select, text

from app.db.samples import partitions
from app.db.samples.store import SampleStore
from app.db.samples.tables import RAW, Kind, Resolution, received, series, table

_VACUUM_PAGES = 2_000
_SERIES_A_STEP = 200


async def drop_older(
    store: SampleStore, kind: Kind, resolution: Resolution, *, before_ms: int, rows: int
) -> bool:
    """Forget rows from before a time, in one step of about so many rows; whether there's more."""
    if store.is_sqlite:
        return await _delete_older(store, kind, resolution, before_ms, rows)
    async with store.read() as session:
        old = await partitions.ending_before(session, kind, resolution, before_ms)
    if not old or not await partitions.drop(store.database, old[0]):
        return False
    store.partitions.forget(old[0])
    return len(old) > 1


async def _delete_older(
    store: SampleStore, kind: Kind, resolution: Resolution, before_ms: int, rows: int
) -> bool:
    of = table(kind, resolution)
    async with store.database.write() as session:
        if resolution is RAW:
            at = of.c.taken_at_ms
            # A bound in time instead of keys: the key begins with the time.
            nth = await session.scalar(
                select(at).where(at < before_ms).order_by(at).offset(rows).limit(1)
            )
            await session.execute(delete(of).where(at < (before_ms if nth is None else nth)))
            more = nth is not None
        else:
            oldest = list(await session.scalars(_with_older(of, before_ms)))
            await session.execute(
                delete(of).where(of.c.series_id.in_(oldest), of.c.taken_at_ms < before_ms)
            )
            more = len(oldest) == _SERIES_A_STEP
        await session.execute(text(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})"))
    return more


def _with_older(of: Table, before_ms: int) -> Select[tuple[int]]:
    """Series that have rows from before a time: the key begins with the series."""
    older = select(of.c.taken_at_ms).where(
        of.c.series_id == series.c.id, of.c.taken_at_ms < before_ms
    )
    return select(series.c.id).where(older.exists()).limit(_SERIES_A_STEP)


async def drop_received(store: SampleStore, *, before_ms: int) -> bool:
    """Forget the numbers of runs that can't come back (no spool keeps batches that long); whether
    there were any."""
    old = received.c.touched_ms < before_ms
    async with store.read() as session:
        if await session.scalar(select(received.c.node).where(old).limit(1)) is None:
            return False
    async with store.database.write() as session:
        await session.execute(delete(received).where(old))
    return True
