"""The rows of runs: written as tasks start and end, in the same transactions; read to forecast.

A run is a task that has begun to run, over all its attempts. Where it saves checkpoints an attempt
that is interrupted counts towards the whole; where it doesn't, the next one starts from nothing, so
the last attempt alone is how long it takes (docs/model.md, D7). A failure for good ends a run as
success does: its room is free then. One that a person cancels would have gone on.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Task, TaskRun
from app.durations.current import Durations
from app.durations.knowledge import Run
from app.durations.shapes import Shape, shape_of
from protocol.task import Kind, TaskSpec

ENDED = ("succeeded", "failed")
"""Outcomes by themselves."""


async def begin(
    durations: Durations, session: AsyncSession, task: Task, spec: TaskSpec, now: datetime
) -> None:
    """A task runs: keep what is expected of it, at its first attempt."""
    if spec.kind is Kind.SERVICE or await session.get(TaskRun, task.id) is not None:
        return
    shape = shape_of(spec)
    found = durations.model.forecast(spec)
    session.add(
        TaskRun(
            task_id=task.id,
            queue=shape.queue,
            exact=shape.exact,
            variant=shape.variant,
            command=shape.command,
            script=shape.script,
            numbers=dict(shape.numbers),
            started_at=task.started_at or now,
            carried_seconds=0.0,
            seconds=0.0,
            outcome="",
            over_at=None,
            forecast_source="" if found is None else found.source,
            forecast_p50=None if found is None else found.quantile(0.5),
            forecast_p90=None if found is None else found.quantile(0.9),
        )
    )


async def interrupt(session: AsyncSession, task: Task, spec: TaskSpec, ran_seconds: float) -> None:
    """An attempt is over and there will be another."""
    run = await session.get(TaskRun, task.id)
    if run is None:
        return
    run.seconds = max(run.seconds, run.carried_seconds + ran_seconds)
    if spec.checkpoint is not None:
        run.carried_seconds += ran_seconds


async def end(
    durations: Durations,
    session: AsyncSession,
    task: Task,
    outcome: str,
    ran_seconds: float,
    now: datetime,
) -> None:
    """The task has ended. ``ran_seconds``: its last attempt, 0 if it was waiting."""
    run = await session.get(TaskRun, task.id)
    if run is None:
        return
    total = run.carried_seconds + ran_seconds
    run.seconds = total if outcome in ENDED else max(run.seconds, total)
    run.outcome = outcome
    run.over_at = now
    durations.ended += 1


async def carried_seconds(session: AsyncSession) -> dict[str, float]:
    """Of unfinished tasks what earlier attempts have done already, where that is anything: to be
    added to how long the current attempt has run."""
    query = select(TaskRun.task_id, TaskRun.carried_seconds).where(
        TaskRun.over_at.is_(None), TaskRun.carried_seconds > 0
    )
    return {task: carried for task, carried in await session.execute(query)}  # noqa: C416 - rows


async def carried_of(session: AsyncSession, task: str) -> float:
    """The same, of one task."""
    query = select(TaskRun.carried_seconds).where(TaskRun.task_id == task)
    return await session.scalar(query) or 0.0


async def read(session: AsyncSession, *, keep: int, now: datetime) -> list[Run]:
    """The newest ``keep`` runs, and those that aren't over as they are now."""
    query = (
        select(*_COLUMNS, Task.started_at)
        .join(Task, Task.id == TaskRun.task_id)
        .order_by(TaskRun.started_at.desc(), TaskRun.task_id.desc())
        .limit(keep)
    )
    # Not streamed: a server's cursor would stay open where the loop that reads is cancelled.
    rows = (await session.execute(query)).all()
    return await asyncio.to_thread(lambda: list(_runs(rows, now)))


_COLUMNS = (
    TaskRun.exact, TaskRun.variant, TaskRun.command, TaskRun.script, TaskRun.queue, TaskRun.numbers,
    TaskRun.started_at, TaskRun.carried_seconds, TaskRun.seconds, TaskRun.outcome, TaskRun.over_at,
)  # fmt: skip


def _runs(rows: Iterable[Sequence[Any]], now: datetime) -> Iterator[Run]:
    for row in rows:
        keys, (numbers, started, carried, seconds, outcome, over, running_since) = row[:5], row[5:]
        exact, variant, command, script, queue = keys
        if over is None and running_since is not None:
            seconds = max(seconds, carried + (now - running_since).total_seconds())
        if seconds <= 0 and outcome not in ENDED:
            continue  # it says nothing
        yield Run(
            shape=Shape(
                exact=exact,
                variant=variant,
                command=command,
                script=script,
                queue=queue,
                numbers=tuple(sorted(numbers.items())),
            ),
            started_at=started.timestamp(),
            seconds=seconds,
            over_at=None if over is None else over.timestamp(),
            ended=outcome in ENDED,
        )


async def drop_oldest(session: AsyncSession, *, keep: int) -> None:
    """Rows beyond the newest ``keep``; what isn't over stays."""
    newest = await session.scalar(
        select(TaskRun.started_at).order_by(TaskRun.started_at.desc()).offset(keep).limit(1)
    )
    if newest is not None:
        await session.execute(
            delete(TaskRun).where(TaskRun.started_at <= newest, TaskRun.over_at.is_not(None))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Of runs that ended by themselves: how many within what was forecast at their start."""

    runs: int
    within_p50: int
    within_p90: int
    unforeseen: int
    """Ended too, but nothing had been known of them, or their limit alone."""


async def calibration(session: AsyncSession, *, last: int) -> Calibration:
    """Over the ``last`` that ended."""
    lately = (
        select(TaskRun)
        .where(TaskRun.outcome.in_(ENDED))
        .order_by(TaskRun.over_at.desc(), TaskRun.task_id.desc())
        .limit(last)
        .subquery()
    ).c
    foreseen = lately.forecast_source.not_in(("", "limit"))
    query = select(
        func.count(case((foreseen, 1))),
        func.count(case((foreseen & (lately.seconds <= lately.forecast_p50), 1))),
        func.count(case((foreseen & (lately.seconds <= lately.forecast_p90), 1))),
        func.count(case((~foreseen, 1))),
    )
    runs, p50, p90, unforeseen = (await session.execute(query)).one()
    return Calibration(runs=runs, within_p50=p50, within_p90=p90, unforeseen=unforeseen)
