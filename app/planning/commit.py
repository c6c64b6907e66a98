"""A plan to rows: what still holds against fresh rows is committed, a gang whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.service import bump_revision
from app.allocations.states import AllocationState
from app.db.tables import Allocation, Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.planning.snapshot import Snapshot, take
from app.tasks.states import TaskState
from protocol.desired import Phase
from solver.check import slot_violations
from solver.plan import Fix, Plan
from solver.problem import Problem, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What became of a plan's new placements."""

    placed: tuple[str, ...]
    rejected: tuple[str, ...]
    """Tasks whose placement no longer held; the next round places them anew."""
    nodes: frozenset[int]


async def commit(
    ctx: Context, session: AsyncSession, *, problem: Problem, plan: Plan, plan_id: str
) -> Committed:
    """Commit in a transaction of its own (``write(plan_commit=True)``), beside which no other
    commit runs."""
    fresh = await take(session, problem.budget)
    wanted = _wanted(plan, fresh)
    holds = still_valid(fresh, wanted)
    nodes: set[int] = set()
    for task_id, slots in holds.items():
        nodes |= _place(ctx, session, fresh, fresh.pending[task_id], slots, plan_id)
    _explain(fresh, plan, plan_id)
    rejected = tuple(task_id for task_id in wanted if task_id not in holds)
    for task_id in rejected:
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.PLAN_REJECTED,
            task_id=task_id,
            message=f"plan {plan_id} came too late for {fresh.pending[task_id].name}: plan again",
        )
    await bump_revision(session, nodes)
    return Committed(placed=tuple(holds), rejected=rejected, nodes=frozenset(nodes))


def _wanted(plan: Plan, fresh: Snapshot) -> dict[str, tuple[Slot, ...]]:
    """The plan's placements of tasks that wait still: one cancelled meanwhile is none of them."""
    return {
        placement.task: placement.replicas
        for placement in plan.placements
        if placement.task in fresh.pending and placement.replicas
    }


def still_valid(
    fresh: Snapshot, wanted: Mapping[str, tuple[Slot, ...]]
) -> dict[str, tuple[Slot, ...]]:
    """The wanted placements that break no rule of the fresh problem, by the specification alone.

    They are added one task at a time in the plan's order, so that one stale placement costs no
    other its
    place; usually the plan holds as a whole, which one check tells.
    """
    problem = fresh.problem
    devices = {node.id: {device.id for device in node.devices} for node in problem.nodes}
    real = {
        task: slots
        for task, slots in wanted.items()
        if all(set(slot.devices) <= devices.get(slot.node, set()) for slot in slots)
        and all(slot.node in devices for slot in slots)
    }
    running = {task.id: task.placed for task in problem.tasks if task.placed}
    before = set(slot_violations(problem, running))
    if not set(slot_violations(problem, {**running, **real})) - before:
        return real
    holds: dict[str, tuple[Slot, ...]] = {}
    for task, slots in real.items():
        trial = {**running, **holds, task: slots}
        if not set(slot_violations(problem, trial)) - before:
            holds[task] = slots
    return holds


def _place(
    ctx: Context,
    session: AsyncSession,
    fresh: Snapshot,
    task: Task,
    slots: tuple[Slot, ...],
    plan_id: str,
) -> set[int]:
    now = ctx.clock.now()
    task.generation += 1
    task.state = TaskState.STARTING
    task.plan_id = plan_id
    task.waiting = None
    task.reason = ""
    task.stop_cause = ""
    # A gang starts in two phases: everybody ready, then go. One that is alone is ready by itself.
    phase = Phase.RUN if len(slots) == 1 else Phase.PREPARE
    nodes: set[int] = set()
    for rank, slot in enumerate(slots):
        node = fresh.nodes[slot.node]
        nodes.add(node.id)
        session.add(
            Allocation(
                id=ctx.ids.new("a"),
                task_id=task.id,
                replica=rank,
                generation=task.generation,
                node_id=node.id,
                devices=_in_index_order(node, slot.devices),
                rank=rank,
                phase=phase,
                state=AllocationState.ASSIGNED,
                reason="",
                assigned_at=now,
                log_start=0,
                log_end=0,
            )
        )
    places = ", ".join(sorted({slot.node for slot in slots}))
    record(
        session,
        at=now,
        kind=EventKind.TASK_PLACED,
        task_id=task.id,
        message=f"{task.name} placed on {places} by plan {plan_id}",
    )
    return nodes


def _in_index_order(node: Node, uuids: tuple[str, ...]) -> list[str]:
    """CUDA numbers devices in the order given: the order of the bus is the one that people
    expect."""
    index = {device.uuid: device.index for device in node.devices}
    return sorted(uuids, key=lambda uuid: (index[uuid], uuid))


def _fix(fix: Fix) -> dict[str, object]:
    """As JSON reads it back, so that an answer that hasn't changed is seen to be the same."""
    return {
        "kind": fix.kind.value,
        "text": fix.text,
        "cost": fix.cost,
        "task": fix.task,
        "tasks": list(fix.tasks),
        "node": fix.node,
        "nodes": list(fix.nodes),
        "queue": fix.queue,
        "dimension": fix.dimension,
        "quantity": fix.quantity,
        "value": fix.value,
    }


def _explain(fresh: Snapshot, plan: Plan, plan_id: str) -> None:
    for unplaced in plan.unplaced:
        task = fresh.pending.get(unplaced.task)
        if task is None or task.state != TaskState.PENDING:
            continue
        waiting = {
            "reasons": [
                {"code": reason.code.value, "text": reason.text, "nodes": reason.nodes}
                for reason in unplaced.reasons
            ],
            "fixes": [_fix(fix) for fix in unplaced.fixes],
        }
        if task.waiting != waiting:
            task.waiting = waiting
            task.plan_id = plan_id
