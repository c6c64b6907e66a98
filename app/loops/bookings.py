"""Watches the windows of bookings: who may not be on their nodes leaves in time, and planning hears
when one begins or ends.
"""

from datetime import datetime

from app import signals
from app.deps import Context
from app.leases import bookings

_LOOK_AGAIN_SECONDS = 60.0


class BookingLoop:
    name = "bookings"
    topic = signals.TASKS
    debounce_seconds = 0.5

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._next_at: datetime | None = None

    async def tick(self) -> float:
        now = self._ctx.clock.now()
        topics = {signals.PLANNING} if self._next_at is not None and self._next_at <= now else set()
        async with self._ctx.database.read() as session:
            due = await bookings.look(session, now)
        if not due.is_nothing:
            async with self._ctx.database.write() as session:
                due = await bookings.look(session, now)
                topics |= await bookings.carry_out(self._ctx, session, due)
        self._next_at = due.next_at
        self._ctx.signals.notify(*topics)
        if due.next_at is None:
            return _LOOK_AGAIN_SECONDS
        return min(_LOOK_AGAIN_SECONDS, (due.next_at - now).total_seconds())
