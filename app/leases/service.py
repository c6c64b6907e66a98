"""What a report changes. Everything in it is in one transaction: applied once, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app import signals
from app.allocations.states import AllocationState
from app.clock import moment
from app.db.tables import Allocation, Node, Task
from app.deps import Context, NodePrincipal
from app.events.service import EventKind, record
from app.leases import leftovers, losing
from app.leases.events import events_settled, note_events
from app.nodes.service import apply_inventory
from app.nodes.states import NodeState
from app.quarantine import service as quarantines
from app.tasks import service as tasks
from protocol import report as wire


@dataclass(slots=True)
class Applied:
    """What a report has come to: the answer's parts, and whom to wake once it's committed."""

    duplicate: bool = False
    revision: int = 0
    settled: list[str] = field(default_factory=list)
    events_settled: int = 0
    topics: set[str] = field(default_factory=set)
    own: tuple[str, ...] = ()
    """The allocations in it that are the node's."""


async def apply_report(
    ctx: Context, session: AsyncSession, principal: NodePrincipal, report: wire.Report
) -> Applied:
    applied = Applied()
    # Not read for all: after a restart every node's report is recorded, within seconds.
    about_devices = report.inventory is not None or report.events
    options = [selectinload(Node.devices)] if about_devices else []
    node = await session.get_one(Node, principal.id, options=options)
    applied.duplicate = not await _is_news(ctx, session, node.id, report)
    rows = await _rows(session, node.id, report.allocations)
    applied.own = tuple(rows)
    if not applied.duplicate:
        _greet(ctx, session, node, applied)
        if report.inventory is not None:
            _note_inventory(ctx, session, node, report, applied)
        not_over = _not_over(rows, report.allocations)
        applied.topics |= await leftovers.note_boot(ctx, session, node, report.boot_id)
        await _apply_allocations(ctx, session, rows, report.allocations, applied)
        applied.topics |= await leftovers.note_leftovers(ctx, session, node, not_over)
        applied.topics |= await losing.note_boot(ctx, session, node, report)
        if news := note_events(ctx, session, node, report):
            applied.topics.add(signals.EVENTS)
            if await quarantines.note_events(ctx, session, node, news):
                applied.topics.add(signals.PLANNING)
        await session.flush()
    applied.settled = _settled(rows, report.allocations)
    applied.events_settled = events_settled(node, report)
    applied.revision = await session.scalar(select(Node.revision).where(Node.id == node.id)) or 0
    return applied


async def _is_news(ctx: Context, session: AsyncSession, node_id: int, report: wire.Report) -> bool:
    """Advance the node's (epoch, seq); False for a report that was seen, or overtaken, before."""
    result = await session.execute(
        update(Node)
        .where(
            Node.id == node_id,
            or_(Node.epoch.is_(None), Node.epoch != report.epoch, Node.seq < report.seq),
        )
        .values(epoch=report.epoch, seq=report.seq, last_seen_at=ctx.clock.now())
        .execution_options(synchronize_session=False)
    )
    return result.rowcount == 1  # pyright: ignore[reportAttributeAccessIssue]


def _greet(ctx: Context, session: AsyncSession, node: Node, applied: Applied) -> None:
    if node.state != NodeState.READY:
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.NODE_READY,
            node=node.name,
            message=f"speaks again (was {node.state})",
        )
        node.state = NodeState.READY
        applied.topics |= {signals.PLANNING, signals.EVENTS}


def _note_inventory(
    ctx: Context, session: AsyncSession, node: Node, report: wire.Report, applied: Applied
) -> None:
    assert report.inventory is not None  # noqa: S101 - the caller looked
    before = {device.uuid: device.fault for device in node.devices}
    apply_inventory(node, report.inventory)
    changed = [
        f"GPU {device.index} {device.fault or 'is healthy'}"
        for device in node.devices
        if before.get(device.uuid, "") != device.fault
    ]
    if changed:
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.NODE_CHANGED,
            node=node.name,
            message="; ".join(changed),
        )
    applied.topics |= {signals.PLANNING, signals.EVENTS}


async def _rows(
    session: AsyncSession, node_id: int, reports: Sequence[wire.AllocationReport]
) -> dict[str, Allocation]:
    """The node's own allocations among those reported: of others it may not speak."""
    if not reports:
        return {}
    query = (
        select(Allocation)
        .where(Allocation.id.in_([r.id for r in reports]), Allocation.node_id == node_id)
        .options(selectinload(Allocation.task).selectinload(Task.allocations))
    )
    return {row.id: row for row in await session.scalars(query)}


def _not_over(
    rows: dict[str, Allocation], reports: Sequence[wire.AllocationReport]
) -> list[tuple[Allocation, wire.AllocationReport]]:
    """What is spoken of, as far as it counts."""
    return [
        (row, report)
        for report in reports
        if (row := rows.get(report.id)) is not None
        and row.generation == report.generation
        and not AllocationState(row.state).final
    ]


async def _apply_allocations(
    ctx: Context,
    session: AsyncSession,
    rows: dict[str, Allocation],
    reports: Sequence[wire.AllocationReport],
    applied: Applied,
) -> None:
    touched: dict[str, Task] = {}
    for report in reports:
        row = rows.get(report.id)
        if row is None or row.generation != report.generation:
            continue  # it was given up: absent from the desired set, the agent stops and forgets it
        if AllocationState(row.state).final:
            continue
        note = row.note
        if _apply(row, report):
            touched[row.task_id] = row.task
            applied.topics.add(signals.log_topic(row.id))
            if row.note and not note:  # its numbers may change with each look
                _warn(ctx, session, row)
    for task in touched.values():
        nodes = await tasks.settle(ctx, session, task)
        applied.topics |= {signals.node_topic(node) for node in nodes}
    if touched:
        applied.topics |= {signals.PLANNING, signals.TASKS, signals.EVENTS}


def _apply(row: Allocation, report: wire.AllocationReport) -> bool:
    """Take over what the agent saw; False when nothing is new."""
    state = _state(report)
    if state.rank < AllocationState(row.state).rank:
        return False
    before = (row.state, row.port, row.pid, row.ready, row.note)
    row.state = state
    row.ready = report.ready
    row.note = report.note
    row.port = report.port or row.port
    row.pid = report.pid or row.pid
    if report.started_at_ms is not None:
        row.started_at = moment(report.started_at_ms)
    if report.exit is not None and state.final:
        row.exit_code = report.exit.code
        row.exit_signal = report.exit.signal
        row.ended_at = moment(report.exit.at_ms)
        row.stop_cause = report.exit.cause or ""
        row.checkpoint = report.exit.checkpoint
        row.error = report.exit.error
        failed_at_ms = report.exit.failed_at_ms
        row.failed_at = None if failed_at_ms is None else moment(failed_at_ms)
        row.reason = report.exit.reason or _exit_in_words(report.exit)
    return before != (row.state, row.port, row.pid, row.ready, row.note)


def _warn(ctx: Context, session: AsyncSession, row: Allocation) -> None:
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.TASK_WARNED,
        task_id=row.task_id,
        message=f"{row.task.name}, replica {row.replica}: {row.note}",
    )


def _state(report: wire.AllocationReport) -> AllocationState:
    match report.state:
        case wire.AllocationState.READY:
            return AllocationState.READY
        case wire.AllocationState.RUNNING:
            return AllocationState.RUNNING
        case wire.AllocationState.STOPPING:
            return AllocationState.STOPPING
        case wire.AllocationState.EXITED:
            return _outcome(report.exit)


def _outcome(end: wire.Exit | None) -> AllocationState:
    if end is None or end.lost:
        return AllocationState.LOST
    if end.stopped:
        # Also with exit code 0: a task that saved its checkpoint when told to stop hasn't finished
        # its work.
        return AllocationState.STOPPED
    return AllocationState.SUCCEEDED if end.code == 0 else AllocationState.FAILED


def _exit_in_words(end: wire.Exit) -> str:
    if end.signal is not None:
        return f"ended by signal {end.signal}"
    return "" if end.code in {0, None} else f"exit code {end.code}"


def _settled(rows: dict[str, Allocation], reports: Sequence[wire.AllocationReport]) -> list[str]:
    """Exits that are recorded for good, or that nobody waits for any more."""
    return [
        report.id
        for report in reports
        if report.state is wire.AllocationState.EXITED
        and (
            (row := rows.get(report.id)) is None
            or row.generation != report.generation
            or AllocationState(row.state).final
        )
    ]
