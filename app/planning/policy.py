"""What operators have laid down about who may hold what, and when, as a round sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Booking
from app.db.tables import Queue as QueueRow
from app.deps import Context
from app.queues import usage
from app.queues.tree import Tree
from protocol.task import TaskSpec
from solver.problem import Queue

BOOKING_LABEL = "stowplan/booking"
"""Of a node: the bookings of it that are to come or under way. Only where there are any."""
_LEAD_SECONDS = 3_600.0
"""So long before a window, and for the time that it may take to stop, its nodes are closed also to
tasks that could be made to leave."""


def lead(stop_seconds_max: float) -> timedelta:
    """From when on a task of these stops no longer starts on a node with a window to come."""
    return timedelta(seconds=_LEAD_SECONDS + stop_seconds_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Empty where nobody has said anything."""

    queues: tuple[Queue, ...] = ()
    min_runtime_seconds: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    """By queue, GPU-seconds that its own tasks have held lately."""
    bookings: Sequence[Booking] = ()
    """To come or under way."""

    def booked(self, node: str) -> str:
        """The value of the node's label."""
        return ",".join(sorted(b.name for b in self.bookings if node in b.nodes))

    def may_use(self, queue: str, spec: TaskSpec, now: datetime) -> set[str]:
        """The names of the bookings beside which a task may start on their nodes.

        It may if it's of the booking's queue or of one below, or ends before the window by its
        user's word, or may be told to leave and there is time for that.
        """
        chain = Tree({one.id: one.parent for one in self.queues}).path(queue)
        gone_at: list[datetime] = []
        if spec.preemptible:
            gone_at.append(now + lead(spec.stop_seconds_max))
        if spec.duration_seconds is not None:
            gone_at.append(now + timedelta(seconds=spec.duration_seconds))
        return {
            booking.name
            for booking in self.bookings
            if booking.queue in chain or any(gone <= booking.starts_at for gone in gone_at)
        }


async def read(ctx: Context, session: AsyncSession) -> Policy:
    now = ctx.clock.now()
    rows = (await session.scalars(select(QueueRow).order_by(QueueRow.id))).all()
    known = {row.name for row in rows}
    return Policy(
        queues=tuple(
            Queue(
                id=row.name,
                parent=row.parent if row.parent in known else None,
                weight=row.weight,
                guaranteed=row.guaranteed,
                limit=row.limit,
            )
            for row in rows
        ),
        min_runtime_seconds={
            row.name: row.min_runtime_seconds for row in rows if row.min_runtime_seconds is not None
        },
        usage=await usage.written(
            session, now=now, half_life_seconds=ctx.settings.usage_half_life_seconds
        ),
        bookings=(
            await session.scalars(
                select(Booking).where(Booking.ends_at > now).order_by(Booking.starts_at)
            )
        ).all(),
    )
