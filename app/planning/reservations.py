"""Room that is kept for a task until what leaves it has left.

A reservation is the second half of a preemption or a move: it makes sure that whoever was to have
the room gets it, however long leaving takes. It holds nothing that another task could miss: what is
there stays until it's gone. It becomes an allocation when the specification finds nothing against
it, and ends when its room can't be had any more: then the task is planned anew.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.service import bump_revision
from app.db.tables import Task
from app.deps import Context
from app.events.service import EventKind, record
from app.planning.placing import place, places
from app.planning.room import Room
from app.planning.snapshot import Snapshot, reserved_slots
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.desired import StopCause
from solver.problem import Slot

REASON_CODE = "reserved"
"""Beside the plan's own reasons for waiting (``solver.plan.ReasonCode``): its place is settled."""
_NAMED = 3
"""So many tasks that have to leave first are named; of more it's told how many."""


@dataclass(slots=True, kw_only=True)
class Verdicts:
    """What has become of the reservations."""

    start: list[tuple[Task, tuple[Slot, ...]]] = field(default_factory=list)
    drop: list[tuple[Task, str]] = field(default_factory=list)
    """With what is wrong."""
    wait: list[tuple[Task, dict[str, Any]]] = field(default_factory=list)
    """Who are told something else than before."""

    def __bool__(self) -> bool:
        return bool(self.start or self.drop or self.wait)


def judge(look: Snapshot) -> Verdicts:
    """Of each reservation whether its room is free, will be, or won't."""
    verdicts = Verdicts()
    if not look.reserved:
        return verdicts
    where = {slot.node for slots in look.reserved.values() for slot in slots}
    later = Room(
        look.problem.nodes,
        (
            task
            for task in look.problem.tasks
            if task.id not in look.kept and any(slot.node in where for slot in task.placed)
        ),
    )
    now = room_now(look, where)
    leavers = leaving(look)
    for task in sorted((look.tasks[t] for t in look.reserved), key=look.most_urgent):
        slots, wish = look.reserved[task.id], look.wish(task)
        is_gone = not tasks.live(task)
        if not is_gone and task.id not in look.leaving:
            verdicts.drop.append((task, "it doesn't end where it is"))
            continue
        faults = later.hindrances(wish, slots)
        if faults:
            verdicts.drop.append((task, faults[0].text))
            continue
        later.add(wish, slots)
        if task.state != TaskState.PENDING or not is_gone:
            continue
        faults = now.hindrances(wish, slots)
        if not faults:
            now.add(wish, slots)
            verdicts.start.append((task, slots))
        elif task.waiting != (
            waiting := waits_for(look, now, leavers, slots) or reason(faults[0].text)
        ):
            verdicts.wait.append((task, waiting))
    return verdicts


async def carry_out(
    ctx: Context, session: AsyncSession, look: Snapshot, verdicts: Verdicts
) -> set[int]:
    """In a plan commit's transaction, of which ``look`` is a fresh one. Gives the nodes whose
    desired set has changed."""
    nodes: set[int] = set()
    for task, slots in verdicts.start:
        nodes |= place(ctx, session, look, task, slots, task.plan_id)
    for task, fault in verdicts.drop:
        release(ctx, session, task, fault)
    for task, waiting in verdicts.wait:
        task.waiting = waiting
    await bump_revision(session, nodes)
    return nodes


def reserve(
    ctx: Context,
    session: AsyncSession,
    task: Task,
    slots: tuple[Slot, ...],
    waiting: dict[str, Any] | None,
    plan_id: str,
) -> None:
    """Keep this room for the task."""
    task.reserved = [{"node": slot.node, "devices": list(slot.devices)} for slot in slots]
    task.waiting = waiting
    task.plan_id = plan_id
    first = f": {waiting['reasons'][0]['text']}" if waiting else ""
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.TASK_RESERVED,
        task_id=task.id,
        message=f"{task.name} is to start on {places(slots)}{first}",
    )


def release(ctx: Context, session: AsyncSession, task: Task, why: str) -> None:
    """Keep no room for the task any more."""
    where = places(reserved_slots(task))
    task.reserved = None
    task.waiting = None
    record(
        session,
        at=ctx.clock.now(),
        kind=EventKind.TASK_UNRESERVED,
        task_id=task.id,
        message=f"{task.name} won't start on {where} after all, and is planned anew: {why}",
    )


def room_now(look: Snapshot, where: Set[str]) -> Room:
    """What holds room on these nodes at this moment, also what is on its way out."""
    ids = {look.nodes[name].id for name in where if name in look.nodes}
    held = (
        task
        for task in look.tasks.values()
        if any(allocation.node_id in ids for allocation in tasks.live(task))
    )
    return Room(look.problem.nodes, (look.where_it_is(task) for task in held))


def leaving(look: Snapshot) -> dict[str, set[str]]:
    """Who is being stopped, and the nodes that it still holds room on."""
    return {
        task.id: {slot.node for slot in look.where_it_is(task).placed}
        for task in look.tasks.values()
        if task.state == TaskState.STOPPING and tasks.live(task)
    }


def waits_for(
    look: Snapshot, now: Room, leavers: Iterable[str], slots: tuple[Slot, ...]
) -> dict[str, Any] | None:
    """Whom a task with a reservation waits for; None when nobody leaves its room."""
    first = now.in_the_way(slots, leavers)
    if not first:
        return None
    named = [_leaves(look, look.tasks[task], node) for task, node in first[:_NAMED]]
    rest = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
    return reason("; ".join(named) + rest, nodes=len({node for _, node in first}))


def reason(text: str, nodes: int = 1) -> dict[str, Any]:
    """As the plan's own reasons are kept."""
    return {"reasons": [{"code": REASON_CODE, "text": text, "nodes": nodes}], "fixes": []}


def _leaves(look: Snapshot, task: Task, node: str) -> str:
    saves = "save its work and " if look.specs[task.id].checkpoint is not None else ""
    why = "stopping" if task.stop_cause in {"", StopCause.GANG} else task.stop_cause
    return f"{task.name} has to {saves}leave {node} first ({why})"
