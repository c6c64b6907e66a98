"""Keeps the databases from growing for ever: old measurements, plans, events and keys go."""

from datetime import timedelta

from sqlalchemy import delete, func, select

from app.clock import milliseconds
from app.db.samples import retention
from app.db.samples.store import SampleStore
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind
from app.db.tables import Event, IdempotencyKey
from app.deps import Context
from app.durations import history
from app.metrics.live import Live
from app.metrics.writer import Writer
from app.planning import service as planning

_EVERY_SECONDS = 300.0
ROWS_A_STEP = 20_000
"""Small enough that a report never waits for long behind a deletion."""
_KEYS_KEPT = timedelta(days=2)
_RUNS_KEPT = timedelta(days=7)
"""Far longer than any agent keeps what it couldn't send."""


class RetentionLoop:
    name = "retention"
    topic = "retention-loop"
    debounce_seconds = 0.0

    def __init__(self, ctx: Context, store: SampleStore, writer: Writer, live: Live) -> None:
        self._ctx = ctx
        self._store = store
        self._writer = writer
        self._live = live

    async def tick(self) -> float:
        settings = self._ctx.settings
        now = self._ctx.clock.now()
        now_ms = milliseconds(now)
        more = False
        for resolution, hours in (
            (RAW, settings.samples_keep_hours),
            (MINUTE, 24 * settings.minutes_keep_days),
            (HOUR, 24 * settings.hours_keep_days),
        ):
            before_ms = now_ms - round(hours * 3_600_000)
            for kind in Kind:
                more |= await retention.drop_older(
                    self._store, kind, resolution, before_ms=before_ms, rows=ROWS_A_STEP
                )
        before_ms = milliseconds(now - _RUNS_KEPT)
        if await retention.drop_received(self._store, before_ms=before_ms):
            self._writer.forget_received()
        self._live.forget_silent(now_ms=now_ms)
        async with self._ctx.database.write() as session:
            await planning.drop_oldest(session, keep=settings.plans_keep)
            await history.drop_oldest(session, keep=settings.runs_keep)
            newest = await session.scalar(select(func.max(Event.id))) or 0
            await session.execute(delete(Event).where(Event.id <= newest - settings.events_keep))
            await session.execute(
                delete(IdempotencyKey).where(IdempotencyKey.created_at < now - _KEYS_KEPT)
            )
        return 0.5 if more else _EVERY_SECONDS
