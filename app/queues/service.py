"""Queues: made, changed, removed. Never commits: the caller owns the transaction.

A change is checked against the queues as it reads them, so its transaction has to be the only one
(``Database.write(plan_commit=True)``): two that are each right might make a ring together.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Queue, Task
from app.deps import Context
from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.events.service import EventKind, record
from app.queues import rules
from app.queues.schemas import QueueForm, QueuePatch
from app.queues.tree import Tree
from app.tasks.states import FINAL_TASK_STATES

_NAMED_MAX = 5
_FIELDS = ("parent", "weight", "guaranteed", "limit", "min_runtime_seconds", "comment")


async def all_queues(session: AsyncSession) -> Sequence[Queue]:
    """Every queue that somebody defined, by name."""
    return (await session.scalars(select(Queue).order_by(Queue.name))).all()


async def tree(session: AsyncSession) -> Tree:
    """What is above what; a queue that isn't there is at the top."""
    rows = await session.execute(select(Queue.name, Queue.parent))
    return Tree({row.name: row.parent for row in rows})


async def get(session: AsyncSession, name: str) -> Queue:
    """One that somebody defined.

    Raises:
        NotFoundError: nobody has.
    """
    queue = await session.scalar(select(Queue).where(Queue.name == name))
    if queue is None:
        raise NotFoundError(f"no queue {name!r} was created: see stowplan queue ls")
    return queue


async def create(ctx: Context, session: AsyncSession, form: QueueForm) -> tuple[Queue, bool]:
    """A new queue and True; or the one that's there just as it is asked for, and False: so the
    request may be repeated.

    Raises:
        InvalidInputError: with every fault.
        ConflictError: there is another one of this name.
    """
    queues = await all_queues(session)
    wanted = {name: _as_kept(getattr(form, name)) for name in _FIELDS}
    known = next((queue for queue in queues if queue.name == form.name), None)
    if known is not None:
        if all(getattr(known, name) == value for name, value in wanted.items()):
            return known, False
        raise ConflictError(
            f"a queue named {form.name!r} is there already, and is another: change it "
            f"(PATCH /api/v1/queues/{form.name}, stowplan queue set)"
        )
    queue = Queue(name=form.name, created_at=ctx.clock.now(), **wanted)
    _check(queue, queues)
    session.add(queue)
    _tell(ctx, session, EventKind.QUEUE_CREATED, f"{in_words(queue)} was created")
    await session.flush()
    return queue, True


async def change(ctx: Context, session: AsyncSession, name: str, patch: QueuePatch) -> Queue:
    """What the patch names is as it says from now on.

    Raises:
        NotFoundError: nobody created it.
        InvalidInputError: with every fault of what it would be.
    """
    queues = await all_queues(session)
    queue = await get(session, name)
    for field in _FIELDS:
        if field not in patch.model_fields_set:
            continue
        value = getattr(patch, field)
        if field in {"guaranteed", "limit"}:
            value = _merged(getattr(queue, field), value)
        if getattr(queue, field) != value:
            setattr(queue, field, value)
    if session.is_modified(queue):
        _check(queue, queues)
        _tell(ctx, session, EventKind.QUEUE_CHANGED, f"{in_words(queue)} was changed")
        await session.flush()
    return queue


async def remove(ctx: Context, session: AsyncSession, name: str) -> None:
    """Forget a queue.

    Raises:
        NotFoundError: nobody created it.
        ConflictError: others are below it, or tasks of it haven't ended.
    """
    queue = await get(session, name)
    below = (await tree(session)).children(name)
    unfinished = (Task.queue == name, Task.state.not_in(FINAL_TASK_STATES))
    count = await session.scalar(select(func.count()).select_from(Task).where(*unfinished)) or 0
    first = select(Task.id).where(*unfinished).order_by(Task.id).limit(_NAMED_MAX)
    tasks = list(await session.scalars(first))
    reasons = []
    if below:
        reasons.append(f"below it are {_some(below, len(below))}")
    if tasks:
        reasons.append(f"tasks of it haven't ended: {_some(tasks, count)}")
    if reasons:
        raise ConflictError(f"queue {name!r} can't be removed: {'; '.join(reasons)}")
    await session.delete(queue)
    _tell(ctx, session, EventKind.QUEUE_REMOVED, f"queue {name} was removed")


def in_words(queue: Queue) -> str:
    """A queue's shares in one line, for the events."""
    parts = [f"weight {queue.weight}"]
    parts += [f"below {queue.parent}"] if queue.parent else []
    for word, quantities in (("guaranteed", queue.guaranteed), ("limit", queue.limit)):
        if quantities:
            shown = ", ".join(f"{key}={value}" for key, value in sorted(quantities.items()))
            parts.append(f"{word} {shown}")
    return f"queue {queue.name} ({'; '.join(parts)})"


def _check(queue: Queue, queues: Sequence[Queue]) -> None:
    faults = rules.faults(queue, queues)
    if faults:
        raise InvalidInputError(
            f"{len(faults)} fault(s) in the queue; nothing was stored", faults=tuple(faults)
        )


def _as_kept(value: object) -> object:
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def _merged(before: Mapping[str, int], patch: Mapping[str, int | None]) -> dict[str, int]:
    merged = {**before, **patch}
    return {key: value for key, value in sorted(merged.items()) if value is not None}


def _some(names: Sequence[str], count: int) -> str:
    shown = ", ".join(names[:_NAMED_MAX])
    more = count - min(len(names), _NAMED_MAX)
    return f"{shown} and {more} more" if more > 0 else shown


def _tell(ctx: Context, session: AsyncSession, kind: EventKind, message: str) -> None:
    record(session, at=ctx.clock.now(), kind=kind, message=message)
