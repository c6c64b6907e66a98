"""Usage and advice of tasks, from the rows of their last attempt."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.advice.sizing import Advice, Asked, advise
from app.advice.usage import Row, Usage, usage
from app.db.samples.store import SampleStore
from app.db.samples.tables import HOUR, MINUTE, Kind, Resolution, series, table
from app.db.tables import Allocation, Task
from app.tasks.service import WITH_PLACES, current
from app.tasks.states import TaskState
from protocol.task import Kind as TaskKind

_ROWS_MAX = 20_000
"""More minutes than this, and hours are read instead."""
_REPLICAS_MAX = 256
"""Of a larger gang the first ones speak for all."""
_COLUMNS = [field.name for field in fields(Row)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The last attempt of a task, and what it used."""

    task: Task
    replicas: Sequence[Allocation]
    held_seconds: float
    usage: Usage
    resolution: Resolution

    @property
    def advice(self) -> list[Advice]:
        request = self.task.spec["request"]
        return advise(
            Asked(
                request=request,
                replicas=len(self.replicas),
                is_service=self.task.kind == TaskKind.SERVICE,
                held_hours=self.held_seconds / 3_600,
                gpu_memory_of_device_mib=_smallest_device_mib(self.replicas),
            ),
            self.usage,
        )


async def last_attempt(store: SampleStore, task: Task, now: datetime) -> Attempt:
    """What is known of a task's last attempt; of one that never ran, nothing."""
    replicas = current(task)
    held_seconds = max(
        (((one.ended_at or now) - one.assigned_at).total_seconds() for one in replicas), default=0.0
    )
    read = replicas[:_REPLICAS_MAX]
    resolution = MINUTE if held_seconds / 60 * len(read) <= _ROWS_MAX else HOUR
    rows = await _rows(store, task.id, [one.id for one in read], resolution)
    return Attempt(
        task=task,
        replicas=replicas,
        held_seconds=max(held_seconds, 0.0),
        usage=usage(rows, width_ms=resolution.width_ms),
        resolution=resolution,
    )


async def _rows(
    store: SampleStore, task: str, allocations: Sequence[str], resolution: Resolution
) -> list[list[Row]]:
    if not allocations:
        return []
    of = table(Kind.TASK, resolution)
    query = (
        select(of.c.series_id, *(of.c[name] for name in _COLUMNS))
        .join(series, series.c.id == of.c.series_id)
        .where(
            series.c.kind == Kind.TASK, series.c.task == task, series.c.key.in_(list(allocations))
        )
        .order_by(of.c.series_id, of.c.taken_at_ms)
    )
    found: dict[int, list[Row]] = defaultdict(list)
    async with store.read() as session:
        for row in await session.execute(query):
            of_series, *values = tuple(row)
            found[of_series].append(Row(**dict(zip(_COLUMNS, values, strict=True))))
    return list(found.values())


def _smallest_device_mib(replicas: Sequence[Allocation]) -> int | None:
    sizes = [
        device.memory_mib
        for one in replicas
        for device in one.node.devices
        if device.uuid in one.devices
    ]
    return min(sizes, default=None)


async def page(
    session: AsyncSession, *, since: datetime, before: str | None, limit: int
) -> Sequence[Task]:
    """Tasks that run, or have ended since, newest first."""
    query = (
        select(Task)
        .options(WITH_PLACES)
        .where(or_(Task.state == TaskState.RUNNING, Task.finished_at >= since))
        .order_by(Task.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(Task.id < before)
    return (await session.scalars(query)).all()
