"""Tasks: submitting, finding, cancelling, and moving on when their replicas do."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import assert_never

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.allocations.service import bump_revision, running_seconds
from app.allocations.states import AllocationState
from app.db.tables import Allocation, IdempotencyKey, Node, Task
from app.deps import Context
from app.durations import history
from app.errors import Fault, InvalidInputError, NotFoundError
from app.events.service import EventKind, record
from app.tasks.admission import admission_faults
from app.tasks.states import (
    DISPLACED,
    FINAL_TASK_STATES,
    Gang,
    Step,
    TaskState,
    back_off_seconds,
    next_step,
)
from protocol.desired import Phase, StopCause
from protocol.report import Saved
from protocol.task import RESTART_DELAY_MAX_SECONDS, Kind, TaskSpec

WITH_PLACES = (
    selectinload(Task.allocations).selectinload(Allocation.node).selectinload(Node.devices)
)


async def submit(
    ctx: Context, session: AsyncSession, spec: TaskSpec, idempotency_key: str | None
) -> tuple[Task, bool]:
    """The new task and True; or, for a key seen before, the task it made and False."""
    request_digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
    if idempotency_key is not None:
        seen = await session.get(IdempotencyKey, idempotency_key)
        if seen is not None:
            if seen.request_digest != request_digest:
                raise InvalidInputError(
                    f"this Idempotency-Key belongs to another submission: task {seen.task_id}",
                    faults=(
                        Fault(
                            path="Idempotency-Key",
                            value=idempotency_key,
                            reason="use a new key for a new task",
                        ),
                    ),
                )
            return await get(session, seen.task_id), False
    faults = await admission_faults(ctx, session, spec)
    if faults:
        raise InvalidInputError(
            f"{len(faults)} fault(s) in the task; nothing was stored", faults=tuple(faults)
        )
    now = ctx.clock.now()
    task = Task(
        id=ctx.ids.new("t"),
        name=spec.name or name_from(spec.argv),
        kind=spec.kind.value,
        queue=spec.queue,
        priority=spec.priority,
        state=TaskState.PENDING,
        spec=spec.model_dump(mode="json"),
        generation=0,
        failures=0,
        cancelled=False,
        reason="",
        submitted_at=now,
        allocations=[],
    )
    session.add(task)
    await session.flush()
    if idempotency_key is not None:
        session.add(
            IdempotencyKey(
                key=idempotency_key, request_digest=request_digest, task_id=task.id, created_at=now
            )
        )
    _tell(
        ctx, session, task, EventKind.TASK_SUBMITTED, f"{task.name} submitted to queue {task.queue}"
    )
    return task, True


def name_from(argv: Sequence[str]) -> str:
    """A name for a task that was given none: its script's, or its program's."""
    script = next((word for word in argv[1:] if word.endswith((".py", ".sh"))), argv[0])
    stem = PurePosixPath(script).stem
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem)
    return cleaned.lstrip("._-")[:63] or "task"


async def get(session: AsyncSession, reference: str) -> Task:
    """The task with this id, or else the newest one of this name."""
    task = await session.scalar(select(Task).where(Task.id == reference).options(WITH_PLACES))
    if task is None:
        task = await session.scalar(
            select(Task)
            .where(Task.name == reference)
            .order_by(Task.id.desc())
            .limit(1)
            .options(WITH_PLACES)
        )
    if task is None:
        raise NotFoundError(f"no task has the id or name {reference!r}: see stowplan ps --all")
    return task


async def page(
    session: AsyncSession,
    *,
    before: str | None,
    limit: int,
    states: Sequence[str],
    queue: str | None,
    name: str | None,
) -> Sequence[Task]:
    """Newest first."""
    query = select(Task).options(WITH_PLACES).order_by(Task.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Task.id < before)
    if states:
        query = query.where(Task.state.in_(states))
    if queue is not None:
        query = query.where(Task.queue == queue)
    if name is not None:
        query = query.where(Task.name == name)
    return (await session.scalars(query)).all()


async def unfinished(session: AsyncSession) -> Sequence[Task]:
    """All tasks that wait or hold something, oldest first: what planning is about."""
    query = (
        select(Task)
        .where(Task.state.not_in(FINAL_TASK_STATES))
        .options(selectinload(Task.allocations))
        .order_by(Task.id)
    )
    return (await session.scalars(query)).all()


async def any_waits(session: AsyncSession) -> bool:
    """Whether there is a task that may be waiting to be placed."""
    query = select(Task.id).where(Task.state == TaskState.PENDING, ~Task.cancelled).limit(1)
    return await session.scalar(query) is not None


async def cancel(ctx: Context, session: AsyncSession, reference: str) -> tuple[Task, set[int]]:
    """Stop a task for good; gives the nodes whose desired set has changed."""
    task = await get(session, reference)
    if TaskState(task.state).final or task.cancelled:
        return task, set()
    task.cancelled = True
    task.reserved = None
    task.reason = "cancelled by a user"
    if not live(task):
        await _end(ctx, session, task, TaskState.CANCELLED, EventKind.TASK_CANCELLED)
        return task, set()
    return task, await settle(ctx, session, task)


async def displace(
    ctx: Context, session: AsyncSession, task: Task, *, cause: StopCause, reason: str
) -> set[int]:
    """End the task's attempt for the sake of others, checkpoint first: it waits again once it's
    gone. Gives the nodes whose desired set has changed; none when it's ending already.
    """
    if TaskState(task.state) not in {TaskState.STARTING, TaskState.RUNNING}:
        return set()
    _stop(ctx, task, cause)
    task.reason = reason
    task.preemptions += 1
    nodes = _want(live(task), Phase.STOP)
    kind = _TOLD_AS.get(cause, EventKind.TASK_STOPPING)
    _tell(ctx, session, task, kind, f"{task.name} stops: {reason}")
    await bump_revision(session, nodes)
    return nodes


_TOLD_AS = {
    StopCause.PREEMPTED: EventKind.TASK_PREEMPTED,
    StopCause.MOVED: EventKind.TASK_MOVED,
}


def _stop(ctx: Context, task: Task, cause: StopCause) -> None:
    task.state = TaskState.STOPPING
    task.stop_cause = cause
    task.stop_ordered_at = ctx.clock.now()


def current(task: Task) -> list[Allocation]:
    """The replicas of the task's latest attempt."""
    return [a for a in task.allocations if a.generation == task.generation]


def live(task: Task) -> list[Allocation]:
    """What the task holds: allocations of any attempt that aren't over."""
    return [a for a in task.allocations if not AllocationState(a.state).final]


async def settle(ctx: Context, session: AsyncSession, task: Task) -> set[int]:
    """Let the task take its next step, after a change to its replicas. Gives the nodes
    concerned."""
    replicas = current(task)
    spec = TaskSpec.model_validate(task.spec, strict=False)
    step = next_step(
        Gang(
            state=TaskState(task.state),
            replicas=[AllocationState(a.state) for a in replicas],
            cancelled=task.cancelled,
            failures=task.failures,
            restarts_max=spec.restarts_max,
            service=spec.kind is Kind.SERVICE,
            causes=_causes(task, replicas),
        )
    )
    ran = running_seconds(replicas, ctx.clock.now()) or 0.0
    nodes: set[int] = set()
    match step:
        case Step.NOTHING:
            pass
        case Step.GO:
            nodes = _want(replicas, Phase.RUN)
        case Step.RUN:
            await _run(ctx, session, task, spec, ctx.clock.now())
        case Step.STOP_REST:
            task.reason = task.reason or _first_failure(replicas)
            _stop(ctx, task, StopCause.CANCELLED if task.cancelled else StopCause.GANG)
            nodes = _want([a for a in replicas if not AllocationState(a.state).final], Phase.STOP)
            _tell(ctx, session, task, EventKind.TASK_STOPPING, f"{task.name} stops: {task.reason}")
        case Step.SUCCEED:
            task.reason = ""
            if (
                task.state == TaskState.STARTING
            ):  # it was over before the node could tell that it ran
                started = [a.started_at for a in replicas if a.started_at is not None]
                await _run(ctx, session, task, spec, min(started, default=ctx.clock.now()))
            await _end(ctx, session, task, TaskState.SUCCEEDED, EventKind.TASK_SUCCEEDED, ran)
        case Step.CANCEL:
            await _end(ctx, session, task, TaskState.CANCELLED, EventKind.TASK_CANCELLED, ran)
        case Step.FAIL:
            task.failures += 1
            task.reason = _first_failure(replicas) or _ENDED_BY_ITSELF
            await _end(ctx, session, task, TaskState.FAILED, EventKind.TASK_FAILED, ran)
        case Step.RESTART:
            task.failures += 1
            task.not_before = ctx.clock.now() + _back_off(ctx, task, spec)
            task.reserved = None  # others needn't wait with it
            await history.interrupt(session, task, spec, ran)
            _wait_again(ctx, session, task, _first_failure(replicas) or _ENDED_BY_ITSELF)
        case Step.REQUEUE:
            await history.interrupt(session, task, spec, ran)
            _wait_again(ctx, session, task, _why_requeued(task, replicas))
        case _:
            assert_never(step)
    await bump_revision(session, nodes)
    return nodes


_ENDED_BY_ITSELF = "it ended by itself, and a service ends only when it's told to"


def _causes(task: Task, replicas: Sequence[Allocation]) -> list[StopCause]:
    """Why replicas were stopped: their agents' word, or else our order."""
    causes = [
        a.stop_cause or task.stop_cause for a in replicas if a.state == AllocationState.STOPPED
    ]
    if task.kind == Kind.SERVICE and task.stop_cause in DISPLACED:
        causes.append(task.stop_cause)  # it may have ended before the order reached it
    return [StopCause(cause) for cause in causes if cause]


def _back_off(ctx: Context, task: Task, spec: TaskSpec) -> timedelta:
    """How long the task waits after this failure. One that ran for longer than the longest wait
    waits as after its first: what fails once a day is no task that can't start."""
    ran = ctx.clock.now() - (task.started_at or ctx.clock.now())
    in_a_row = 1 if ran.total_seconds() > RESTART_DELAY_MAX_SECONDS else task.failures
    return timedelta(
        seconds=back_off_seconds(spec.restart_delay_seconds, in_a_row, RESTART_DELAY_MAX_SECONDS)
    )


def _why_requeued(task: Task, replicas: Sequence[Allocation]) -> str:
    if task.stop_cause not in DISPLACED:
        return _first_failure(replicas, _LOSSES_FIRST)
    said = {a.checkpoint for a in replicas if a.checkpoint is not None}
    if not said:
        return task.reason
    saved = "was saved" if said == {Saved.SAVED} else "wasn't saved in time"
    return f"{task.reason}; its checkpoint {saved}"


async def _run(
    ctx: Context, session: AsyncSession, task: Task, spec: TaskSpec, since: datetime
) -> None:
    task.state = TaskState.RUNNING
    task.started_at = task.started_at or since
    await history.begin(ctx.durations, session, task, spec, ctx.clock.now())
    _tell(ctx, session, task, EventKind.TASK_RUNNING, f"{task.name} runs")


def _want(replicas: Sequence[Allocation], phase: Phase) -> set[int]:
    changed = [allocation for allocation in replicas if allocation.phase != phase]
    for allocation in changed:
        allocation.phase = phase
    return {allocation.node_id for allocation in changed}


_FAILURES_FIRST = (AllocationState.LOST, AllocationState.FAILED, AllocationState.STOPPED)
_LOSSES_FIRST = (AllocationState.LOST, AllocationState.STOPPED, AllocationState.FAILED)


def first_failed(
    replicas: Sequence[Allocation], order: Sequence[AllocationState] = _FAILURES_FIRST
) -> Allocation | None:
    """The root cause: what failed first, and not by our order, brought the others down."""
    ended = [
        a
        for a in replicas
        if AllocationState(a.state).final and a.state != AllocationState.SUCCEEDED
    ]
    ended.sort(
        key=lambda a: (
            order.index(AllocationState(a.state)),
            a.failed_at or a.ended_at or a.assigned_at,
            a.replica,
        )
    )
    return ended[0] if ended else None


def _first_failure(
    replicas: Sequence[Allocation], order: Sequence[AllocationState] = _FAILURES_FIRST
) -> str:
    first = first_failed(replicas, order)
    if first is None:
        return ""
    who = f"replica {first.replica}: " if len(replicas) > 1 else ""
    return f"{who}{first.reason or first.state}"


def _wait_again(ctx: Context, session: AsyncSession, task: Task, reason: str) -> None:
    task.state = TaskState.PENDING
    task.started_at = None
    task.waiting = None
    task.reason = f"waits again: {reason}"
    _tell(ctx, session, task, EventKind.TASK_REQUEUED, f"{task.name} {task.reason}")


async def _end(
    ctx: Context,
    session: AsyncSession,
    task: Task,
    state: TaskState,
    kind: EventKind,
    ran_seconds: float = 0.0,
) -> None:
    """``ran_seconds``: its last attempt."""
    now = ctx.clock.now()
    task.state = state
    task.waiting = None
    task.reserved = None
    task.not_before = None
    task.finished_at = now
    await history.end(ctx.durations, session, task, state, ran_seconds, now)
    _tell(
        ctx, session, task, kind, f"{task.name} {state}{f': {task.reason}' if task.reason else ''}"
    )


def _tell(ctx: Context, session: AsyncSession, task: Task, kind: EventKind, message: str) -> None:
    record(session, at=ctx.clock.now(), kind=kind, message=message, task_id=task.id)
