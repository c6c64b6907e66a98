"""Keeps the database from growing for ever: old samples, plans, events and idempotency keys go."""

from datetime import timedelta

from sqlalchemy import delete, func, select

from app.db.tables import Event, IdempotencyKey
from app.deps import Context
from app.metrics import service as metrics
from app.planning import service as planning

_EVERY_SECONDS = 300.0
_ROWS_A_PASS = 20_000
"""Small enough that a report never waits for long behind a deletion."""
_KEYS_KEPT = timedelta(days=2)


class RetentionLoop:
    name = "retention"
    topic = "retention-loop"
    debounce_seconds = 0.0

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def tick(self) -> float:
        settings = self._ctx.settings
        now = self._ctx.clock.now()
        before_ms = round((now - timedelta(hours=settings.samples_keep_hours)).timestamp() * 1000)
        async with self._ctx.database.write() as session:
            dropped = await metrics.drop_older(session, before_ms, rows=_ROWS_A_PASS)
        async with self._ctx.database.write() as session:
            await planning.drop_oldest(session, keep=settings.plans_keep)
            newest = await session.scalar(select(func.max(Event.id))) or 0
            await session.execute(delete(Event).where(Event.id <= newest - settings.events_keep))
            await session.execute(
                delete(IdempotencyKey).where(IdempotencyKey.created_at < now - _KEYS_KEPT)
            )
        return 1.0 if dropped >= _ROWS_A_PASS else _EVERY_SECONDS
