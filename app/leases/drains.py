"""Drains: what runs on a node leaves it by a time, checkpoint first. Never commits: the caller owns
the transaction.

A task that may be preempted is asked to leave at once, a gang as a whole; one that may not has
until the deadline to end by itself. At the deadline what was asked and still runs is killed, and
the others are asked; they have the time that they always have to stop.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app import signals
from app.allocations.service import bump_revision
from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.nodes.schemas import DrainForm, MaintenanceForm
from app.nodes.service import get
from app.tasks import service as tasks
from protocol.desired import StopCause


async def drain(
    ctx: Context,
    session: AsyncSession,
    name: str,
    form: DrainForm | MaintenanceForm,
    *,
    maintenance: bool,
) -> tuple[Node, set[str]]:
    """Cordon a node and have its tasks leave; one that is drained already gets the new deadline.
    Gives whom to wake."""
    node = await get(session, name)
    now = ctx.clock.now()
    node.schedulable = False
    node.drain_until = now + timedelta(seconds=form.deadline_seconds)
    node.drain_reason = form.reason
    if maintenance:
        node.maintenance_since = node.maintenance_since or now
    held = await tasks_on(session, node.id)
    stay = sum(not _preemptible(task) for task in held)
    said = f": {form.reason}" if form.reason else ""
    waits = f", {stay} of them may end by themselves until then" if stay else ""
    record(
        session,
        at=now,
        kind=EventKind.NODE_MAINTENANCE if maintenance else EventKind.NODE_DRAINING,
        node=name,
        message=f"{_counted(len(held))} to leave within {form.deadline_seconds:g} s{waits}{said}",
    )
    topics = await advance(ctx, session, node, held)
    return node, topics | {signals.PLANNING, signals.TASKS, signals.EVENTS}


async def advance(
    ctx: Context, session: AsyncSession, node: Node, held: Sequence[Task]
) -> set[str]:
    """Ask to leave whoever is to be asked now, and note when the last has left. ``held`` are the
    tasks on the node. Gives whom to wake."""
    assert node.drain_until is not None, node.name  # noqa: S101 - the caller looked
    if not held:
        node.drain_until = None
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.NODE_DRAINED,
            node=node.name,
            message="no task is left on it",
        )
        return {signals.EVENTS}
    overdue = is_overdue(ctx, node)
    reason = f"node {node.name} is drained" + (
        f": {node.drain_reason}" if node.drain_reason else ""
    )
    changed: set[int] = set()
    for task in held:
        if overdue or _preemptible(task):
            changed |= await tasks.displace(
                ctx, session, task, cause=StopCause.DRAINED, reason=reason
            )
    if not changed:
        return set()
    return {signals.node_topic(n) for n in changed} | {signals.TASKS, signals.EVENTS}


async def kill_rest(session: AsyncSession, node: Node) -> set[str]:
    """Tell the node that the time of what it's stopping is up (app/leases/desired.py says of
    which)."""
    await bump_revision(session, [node.id])
    return {signals.node_topic(node.id)}


def is_overdue(ctx: Context, node: Node) -> bool:
    return node.drain_until is not None and node.drain_until <= ctx.clock.now()


async def draining(session: AsyncSession) -> Sequence[Node]:
    """The nodes that tasks are leaving."""
    return (await session.scalars(select(Node).where(Node.drain_until.is_not(None)))).all()


async def tasks_on(session: AsyncSession, node_id: int) -> Sequence[Task]:
    """Whatever holds something on the node, oldest first."""
    holds = select(Allocation.task_id).where(
        Allocation.node_id == node_id, Allocation.state.in_(LIVE_STATES)
    )
    query = (
        select(Task)
        .where(Task.id.in_(holds))
        .options(selectinload(Task.allocations))
        .order_by(Task.id)
    )
    return (await session.scalars(query)).all()


def _preemptible(task: Task) -> bool:
    return task.spec.get("preemptible", True)


def _counted(count: int) -> str:
    return "1 task is" if count == 1 else f"{count} tasks are" if count else "no task is"
