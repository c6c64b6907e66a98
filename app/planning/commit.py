"""A plan to rows: what still holds against fresh rows is committed, a gang whole or not at all.

What is placed where nothing is becomes allocations at once. Where somebody has to leave first, who
leaves is told to stop, and who is to come has the room reserved until it's free.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.service import bump_revision
from app.db.tables import Node, Task
from app.deps import Context
from app.events.service import EventKind, record
from app.planning import words
from app.planning.changes import Slots, changes_of, still_valid
from app.planning.placing import place, places
from app.planning.reservations import (
    leaving,
    reason,
    release,
    reserve,
    room_now,
    waits_for,
)
from app.planning.snapshot import Snapshot, take
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.desired import StopCause
from solver.plan import Fix, Plan
from solver.problem import Problem


@dataclass(slots=True, kw_only=True)
class Committed:
    """What became of a plan's changes, by the tasks' ids."""

    placed: list[str] = field(default_factory=list)
    reserved: list[str] = field(default_factory=list)
    """They wait for their room to be left."""
    displaced: list[str] = field(default_factory=list)
    """They ran, and were told to stop: evicted or moved."""
    rejected: list[str] = field(default_factory=list)
    """Their placement no longer held; the next round places them anew."""
    nodes: set[int] = field(default_factory=set)
    """Whose desired set has changed."""


async def commit(
    ctx: Context,
    session: AsyncSession,
    *,
    problem: Problem,
    plan: Plan,
    plan_id: str,
    kept_out: Mapping[str, Sequence[tuple[str, float]]] | None = None,
) -> Committed:
    """Commit in a transaction of its own (``write(plan_commit=True)``), beside which no other
    commit runs. ``kept_out``: by waiting task, the gangs whose held room it could have, and in how
    many seconds they start."""
    fresh = await take(ctx, session, problem.budget)
    changes = changes_of(problem, plan)
    holds = still_valid(fresh.problem, changes)
    carrier = _Carrier(ctx, session, fresh, holds, plan_id)
    await carrier.lock_who_leaves()
    for task_id in holds:
        await carrier.make_room(fresh.tasks[task_id])
    carrier.fill_room()
    done = carrier.done
    done.rejected = [task for task in changes.after if task in fresh.pending and task not in holds]
    for task_id in done.rejected:
        record(
            session,
            at=ctx.clock.now(),
            kind=EventKind.PLAN_REJECTED,
            task_id=task_id,
            message=f"plan {plan_id} came too late for {fresh.pending[task_id].name}: plan again",
        )
    _explain(fresh, plan, plan_id, kept_out or {})
    await bump_revision(session, done.nodes)
    return done


class _Carrier:
    """Carries changes out that hold: who has to go is told first."""

    def __init__(
        self,
        ctx: Context,
        session: AsyncSession,
        fresh: Snapshot,
        holds: Mapping[str, Slots],
        plan_id: str,
    ) -> None:
        self._ctx = ctx
        self._session = session
        self._fresh = fresh
        self._holds = holds
        self._plan_id = plan_id
        self._before = {task.id: task.placed for task in fresh.problem.tasks}
        self.done = Committed()

    async def lock_who_leaves(self) -> None:
        """Reports take their node's row first and their tasks' then. In the same order neither
        waits for the other for ever."""
        leavers = [self._fresh.tasks[task] for task in self._holds if self._before[task]]
        ids = sorted({held.node_id for task in leavers for held in tasks.live(task)})
        if ids:
            rows = select(Node.id).where(Node.id.in_(ids)).order_by(Node.id).with_for_update()
            await self._session.execute(rows)

    async def make_room(self, task: Task) -> None:
        """Have the task go from where it is: what runs is told to stop, a reservation ends."""
        slots = self._holds[task.id]
        if not self._before[task.id]:
            return
        if task.id in self._fresh.reserved:
            rival = self._rival(task)
            why = f"{rival.name} is to have its room" if rival else "it has a better place"
            release(self._ctx, self._session, task, why)
            return
        cause = StopCause.MOVED if slots else StopCause.PREEMPTED
        self.done.nodes |= await tasks.displace(
            self._ctx, self._session, task, cause=cause, reason=self._in_words(task, slots)
        )
        self.done.displaced.append(task.id)

    def fill_room(self) -> None:
        """Place what can start at once, and keep room for the rest."""
        look = self._fresh
        leavers = leaving(look)
        left = {node for places in leavers.values() for node in places}
        now = room_now(look, {slot.node for slots in self._holds.values() for slot in slots} & left)
        for task_id, slots in self._holds.items():
            if not slots:
                continue
            task, wish = look.tasks[task_id], look.wish(look.tasks[task_id])
            faults = ()
            if any(slot.node in left for slot in slots):
                faults = now.hindrances(wish, slots)
            if tasks.live(task):  # it's moved: it leaves first
                reserve(self._ctx, self._session, task, slots, None, self._plan_id)
            elif faults:
                waiting = waits_for(look, now, leavers, slots) or reason(faults[0].text)
                reserve(self._ctx, self._session, task, slots, waiting, self._plan_id)
                self.done.reserved.append(task_id)
            else:
                self.done.nodes |= place(self._ctx, self._session, look, task, slots, self._plan_id)
                now.add(wish, slots)
                self.done.placed.append(task_id)

    def _in_words(self, task: Task, slots: Slots) -> str:
        """Why the task is stopped, for its user."""
        rival = self._rival(task)
        if slots:
            return f"moved to {places(slots)}" + (f": makes room for {rival.name}" if rival else "")
        return words.preempted(self._fresh, task, rival)

    def _rival(self, task: Task) -> Task | None:
        """Who comes where the task goes: one that waited before one that moves, the most urgent of
        them."""
        left = {slot.node for slot in self._before[task.id]}
        is_evicted = not self._holds[task.id]
        comers: Iterable[Task] = (
            self._fresh.tasks[other]
            for other, slots in self._holds.items()
            if other != task.id
            and any(slot.node in left for slot in slots)
            and (
                not is_evicted
                or self._fresh.level(self._fresh.tasks[other]) > self._fresh.level(task)
            )
        )
        return min(
            comers,
            key=lambda t: (bool(self._before[t.id]), *self._fresh.most_urgent(t)),
            default=None,
        )


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


def _explain(
    fresh: Snapshot,
    plan: Plan,
    plan_id: str,
    kept_out: Mapping[str, Sequence[tuple[str, float]]],
) -> None:
    told = {
        unplaced.task: {
            "reasons": [
                *words.limit_reasons(fresh, task),
                *words.share_reasons(fresh, task),
                *words.hold_reasons(fresh, kept_out.get(unplaced.task, ())),
                *(words.reason(fresh, task, reason) for reason in unplaced.reasons),
            ],
            "fixes": [_fix(fix) for fix in unplaced.fixes],
        }
        for unplaced in plan.unplaced
        if (task := fresh.tasks.get(unplaced.task)) is not None
    } | {
        task: {"reasons": words.limit_reasons(fresh, fresh.tasks[task]), "fixes": []}
        for task, left in fresh.models.items()
        if not left.may
    }
    for task_id, waiting in told.items():
        task = fresh.tasks[task_id]
        if task.state != TaskState.PENDING or task.reserved:
            continue
        if task.waiting != waiting:
            task.waiting = waiting
            task.plan_id = plan_id
