"""Silent nodes: what of theirs is over for certain, and what a person says is.

Nothing is ever placed anew while it may still run. A task that its node fences (``fence``) is over
once the node must have stopped it; one that its node keeps (``keep``) is over when the node says
so, when its machine has started anew, or when a person says that the node is gone for good.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app import signals
from app.allocations.service import bump_revision
from app.allocations.states import LIVE_STATES, AllocationState
from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.errors import ConflictError
from app.events.service import EventKind, record
from app.nodes.states import NodeState, fenced_after_seconds
from app.settings import Settings
from app.tasks import service as tasks
from protocol import report as wire
from protocol.desired import Phase
from protocol.task import LeasePolicy, TaskSpec

_SEEN_RUNNING = {AllocationState.RUNNING, AllocationState.STOPPING}


async def held_by(session: AsyncSession, node_ids: Sequence[int]) -> Sequence[Allocation]:
    """What these nodes hold, with its tasks and their other replicas."""
    query = (
        select(Allocation)
        .where(Allocation.node_id.in_(node_ids), Allocation.state.in_(LIVE_STATES))
        .options(selectinload(Allocation.task).selectinload(Task.allocations))
        .order_by(Allocation.id)
    )
    return (await session.scalars(query)).all()


def over_after_seconds(allocation: Allocation, settings: Settings) -> float | None:
    """The silence of its node after which it's over for certain; None: silence proves nothing."""
    spec = TaskSpec.model_validate(allocation.task.spec, strict=False)
    stop_seconds = spec.stop_seconds_max
    if allocation.phase == Phase.PREPARE:
        stop_seconds = 0.0  # it was never told to start
    elif spec.on_lease_lost is LeasePolicy.KEEP:
        return None
    return fenced_after_seconds(
        lease_seconds=settings.lease_seconds,
        stop_seconds=stop_seconds,
        margin_seconds=settings.lease_margin_seconds,
    )


async def lose(
    ctx: Context, session: AsyncSession, node: Node, rows: Sequence[Allocation], reason: str
) -> set[str]:
    """These allocations of the node are over, and nobody saw how: their tasks may be placed
    elsewhere. Gives whom to wake."""
    if not rows:
        return set()
    topics = {signals.PLANNING, signals.TASKS, signals.EVENTS, signals.node_topic(node.id)}
    touched: dict[str, Task] = {}
    for row in rows:
        row.state = AllocationState.LOST
        row.ended_at = ctx.clock.now()
        row.reason = reason
        touched[row.task_id] = row.task
        topics.add(signals.log_topic(row.id))
    for task in touched.values():
        topics |= {signals.node_topic(n) for n in await tasks.settle(ctx, session, task)}
    # Should the node come back, it's to hear at once that it has nothing of this any more.
    await bump_revision(session, [node.id])
    return topics


def mark_lost(ctx: Context, session: AsyncSession, node: Node, message: str) -> set[str]:
    """The node is lost. Of one in maintenance nobody is told: its silence means nothing."""
    node.state = NodeState.LOST
    if node.maintenance_since is None:
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.NODE_LOST,
            node=node.name,
            message=message,
        )
    return {signals.PLANNING, signals.TASKS, signals.EVENTS}


async def declare_lost(ctx: Context, session: AsyncSession, node: Node) -> set[str]:
    """A person says that the node is gone: all that it held is over.

    Raises:
        ConflictError: it isn't silent.
    """
    if node.state == NodeState.READY:
        raise ConflictError(
            f"node {node.name!r} is alive: drain it, or stop its agent and wait until it is silent"
        )
    rows = await held_by(session, [node.id])
    tasks_ = len({row.task_id for row in rows})
    topics = await lose(ctx, session, node, rows, f"node {node.name} was declared lost by a user")
    ends = f"its {tasks_} task{'' if tasks_ == 1 else 's'} may be placed elsewhere"
    node.state = NodeState.LOST
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.NODE_LOST,
        node=node.name,
        message=f"declared lost by a user; {ends if tasks_ else 'it held no task'}",
    )
    return topics | {signals.PLANNING, signals.TASKS, signals.EVENTS}


async def note_boot(
    ctx: Context, session: AsyncSession, node: Node, report: wire.Report
) -> set[str]:
    """Its machine has started anew since the last report: what ran then and isn't spoken of any
    more (the agent has lost its state directory) is gone. To be called once the report's own words
    are recorded: they know better.
    """
    if report.boot_id == node.boot_id:
        return set()
    node.boot_id = report.boot_id
    told = {(one.id, one.generation) for one in report.allocations}
    gone = [
        row
        for row in await held_by(session, [node.id])
        if row.state in _SEEN_RUNNING and (row.id, row.generation) not in told
    ]
    return await lose(
        ctx, session, node, gone, f"node {node.name} was rebooted and knows nothing of it any more"
    )
