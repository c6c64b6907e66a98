"""What the windows of bookings do to nodes and to what runs there. Never commits: the caller owns
the transaction.

When a window begins, its nodes hold tasks of its queue only, and none at all without one. So who
may be preempted is asked to leave early enough for the longest that its stop may take; who may not
has until the beginning to end by itself, and is asked then. While nobody has a node its silence
means nothing, as in maintenance by hand; but the node isn't cordoned: plans keep tasks off it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app import signals
from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Booking, Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.queues import bookings, service
from app.queues.schemas import BookingState
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.desired import StopCause
from protocol.task import TaskSpec

_MOVABLE = (TaskState.STARTING, TaskState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be done now, and when there is more to do at the latest."""

    leave: Sequence[tuple[Task, Booking]]
    close: Sequence[tuple[Node, Booking]]
    """Nobody has them from now on."""
    open: Sequence[Node]
    next_at: datetime | None

    @property
    def is_nothing(self) -> bool:
        return not (self.leave or self.close or self.open)


def leaves_at(task: Task, booking: Booking) -> datetime:
    """When a task that may not be there is asked to leave."""
    spec = TaskSpec.model_validate(task.spec, strict=False)
    if not spec.preemptible:
        return booking.starts_at
    return booking.starts_at - timedelta(seconds=spec.stop_seconds_max)


async def look(session: AsyncSession, now: datetime) -> Due:
    """What bookings ask for now."""
    found = await bookings.upcoming(session, now)
    in_maintenance = (
        await session.scalars(select(Node).where(Node.maintenance_since.is_not(None)))
    ).all()
    if not found:
        return Due(leave=(), close=(), open=_by_window(in_maintenance), next_at=None)
    tree = await service.tree(session)
    of_node: dict[str, list[Booking]] = defaultdict(list)
    for booking in found:
        for node in booking.nodes:
            of_node[node].append(booking)
    changes = [at for one in found for at in (one.starts_at, one.ends_at)]
    leave: dict[str, tuple[Task, Booking]] = {}
    for task, nodes in await _on(session, list(of_node)):
        for booking in dict.fromkeys(one for node in nodes for one in of_node[node]):
            if booking.queue is not None and tree.within(task.queue, booking.queue):
                continue
            at = leaves_at(task, booking)
            changes.append(at)
            if at <= now:
                leave.setdefault(task.id, (task, booking))
    closed = {
        node: booking
        for booking in found
        if booking.queue is None and bookings.state(booking, now) is BookingState.ACTIVE
        for node in booking.nodes
    }
    close = select(Node).where(Node.name.in_(list(closed)), Node.maintenance_since.is_(None))
    return Due(
        leave=list(leave.values()),
        close=[(node, closed[node.name]) for node in await session.scalars(close)],
        open=[node for node in _by_window(in_maintenance) if node.name not in closed],
        next_at=min((at for at in changes if at > now), default=None),
    )


async def carry_out(ctx: Context, session: AsyncSession, due: Due) -> set[str]:
    """Do it. Gives whom to wake."""
    topics: set[str] = set()
    for task, booking in due.leave:
        why = f": {booking.reason}" if booking.reason else ""
        reason = f"booking {booking.name}{why}"
        changed = await tasks.displace(ctx, session, task, cause=StopCause.DRAINED, reason=reason)
        topics |= {signals.node_topic(node) for node in changed}
    for node, booking in due.close:
        node.maintenance_since = booking.starts_at
        _tell(ctx, session, node, EventKind.NODE_MAINTENANCE, f"booking {booking.name} begins")
    for node in due.open:
        node.maintenance_since = None
        _tell(ctx, session, node, EventKind.NODE_UNCORDONED, "its booking is over")
    if topics or due.close or due.open:
        topics |= {signals.PLANNING, signals.TASKS, signals.EVENTS}
    return topics


def _by_window(nodes: Sequence[Node]) -> list[Node]:
    """Maintenance by hand cordons its node, and ends together with that: the rest is of windows."""
    return [node for node in nodes if node.schedulable]


async def _on(session: AsyncSession, nodes: Sequence[str]) -> list[tuple[Task, list[str]]]:
    """Tasks that hold something on these nodes and aren't leaving, oldest first, and on which."""
    query = (
        select(Task, Node.name)
        .join(Allocation, Allocation.task_id == Task.id)
        .join(Node, Node.id == Allocation.node_id)
        .where(Node.name.in_(nodes), Allocation.state.in_(LIVE_STATES), Task.state.in_(_MOVABLE))
        .options(selectinload(Task.allocations))
        .order_by(Task.id, Node.name)
    )
    found: dict[str, tuple[Task, list[str]]] = {}
    for task, node in await session.execute(query):
        found.setdefault(task.id, (task, []))[1].append(node)
    return list(found.values())


def _tell(ctx: Context, session: AsyncSession, node: Node, kind: EventKind, message: str) -> None:
    record(session, at=ctx.clock.now(), kind=kind, node=node.name, message=message)
