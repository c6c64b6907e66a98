"""What happened to tasks and nodes: one row each, in order, for people."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Event


class EventKind(StrEnum):
    TASK_SUBMITTED = "task_submitted"
    TASK_PLACED = "task_placed"
    TASK_RUNNING = "task_running"
    TASK_SUCCEEDED = "task_succeeded"
    TASK_FAILED = "task_failed"
    TASK_CANCELLED = "task_cancelled"
    TASK_REQUEUED = "task_requeued"
    TASK_STOPPING = "task_stopping"
    TASK_PREEMPTED = "task_preempted"
    TASK_MOVED = "task_moved"
    TASK_WARNED = "task_warned"
    TASK_RESERVED = "task_reserved"
    TASK_UNRESERVED = "task_unreserved"
    NODE_JOINED = "node_joined"
    NODE_CHANGED = "node_changed"
    NODE_UNREACHABLE = "node_unreachable"
    NODE_READY = "node_ready"
    NODE_LOST = "node_lost"
    NODE_REMOVED = "node_removed"
    NODE_CORDONED = "node_cordoned"
    NODE_UNCORDONED = "node_uncordoned"
    NODE_DRAINING = "node_draining"
    NODE_DRAINED = "node_drained"
    NODE_MAINTENANCE = "node_maintenance"
    DEVICE_EVENT = "device_event"
    DEVICE_QUARANTINED = "device_quarantined"
    DEVICE_RELEASED = "device_released"
    TASK_HELD_BUT_IDLE = "task_held_but_idle"
    TASK_GONE_IDLE = "task_gone_idle"
    TASK_WORKS_AGAIN = "task_works_again"
    QUEUE_CREATED = "queue_created"
    QUEUE_CHANGED = "queue_changed"
    QUEUE_REMOVED = "queue_removed"
    BOOKING_MADE = "booking_made"
    BOOKING_ENDED = "booking_ended"
    PLAN_REJECTED = "plan_rejected"


def record(
    session: AsyncSession,
    *,
    at: datetime,
    kind: EventKind,
    message: str,
    task_id: str | None = None,
    node: str | None = None,
) -> None:
    """Add an event to the transaction of what it tells of: neither is ever there without the
    other."""
    session.add(Event(at=at, kind=kind.value, message=message, task_id=task_id, node=node))


async def after_id(
    session: AsyncSession, *, after: int, limit: int, task: str | None, node: str | None
) -> Sequence[Event]:
    """What happened after an event's id, in order."""
    query = select(Event).where(Event.id > after).order_by(Event.id).limit(limit)
    if task is not None:
        query = query.where(Event.task_id == task)
    if node is not None:
        query = query.where(Event.node == node)
    return (await session.scalars(query)).all()
