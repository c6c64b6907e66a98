"""What queues have used lately: the GPU time that their tasks held, computing or not, fading with a
half-life (docs/model.md, Q5).

The row of a queue is its usage as of one moment, the same for all queues. What has been held since
is in the allocations, with their beginnings and ends: a service that was down has missed nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, delete, func, insert, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import LIVE_STATES
from app.clock import milliseconds
from app.db.tables import Allocation, QueueUsage, Task

FORGOTTEN_GPU_SECONDS = 1e-3
"""Less than this is taken for nothing: who uses no more has no row."""
_HALF_LIVES_BACK = 32
"""So far the first look goes back: of what was held before, less than 2^-32 is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """``gpus`` devices held from one moment to another, in seconds on any one clock."""

    gpus: float
    since: float
    until: float


def faded(gpu_seconds: float, *, seconds: float, half_life_seconds: float) -> float:
    """What is left of a usage after a while."""
    return gpu_seconds * math.exp2(-seconds / half_life_seconds)


def usage(holds: Iterable[Hold], *, now: float, half_life_seconds: float) -> float:
    """GPU seconds held until ``now``, each second fading from when it was held (Q5):
    the integral of gpus * 2^-((now - s) / h) over s, which for one hold is
    gpus * h / ln 2 * (2^-((now - until) / h) - 2^-((now - since) / h)).
    """
    total = 0.0
    for hold in holds:
        until = min(hold.until, now)
        if until > hold.since:
            # expm1: the two powers of a short hold are nearly equal, and their difference is lost.
            grown = -math.expm1(-(until - hold.since) * math.log(2) / half_life_seconds)
            left = math.exp2(-(now - until) / half_life_seconds)
            total += hold.gpus * half_life_seconds / math.log(2) * grown * left
    return total


async def written(
    session: AsyncSession, *, now: datetime, half_life_seconds: float
) -> Mapping[str, float]:
    """As :func:`look`, without what was held since it was last written down: that is a minute's at
    most, and this costs next to nothing however many tasks run."""
    rows = (await session.scalars(select(QueueUsage))).all()
    found = _faded(rows, now=now, half_life_seconds=half_life_seconds)
    return {queue: value for queue, value in found.items() if value >= FORGOTTEN_GPU_SECONDS}


async def look(
    session: AsyncSession, *, now: datetime, half_life_seconds: float
) -> Mapping[str, float]:
    """By queue, the GPU seconds that its own tasks have used lately, as of ``now``. Queues that
    used next to nothing are left out."""
    rows = (await session.scalars(select(QueueUsage))).all()
    since = max((row.at for row in rows), default=None)
    if since is None:
        since = now - timedelta(seconds=_HALF_LIVES_BACK * half_life_seconds)
    elif since > now:
        now = since  # the clock was set back: nothing fades before it's there again
    found = _faded(rows, now=now, half_life_seconds=half_life_seconds)
    seconds = (now - since).total_seconds()
    for queue, holds in (await _holds(session, since, now)).items():
        held = usage(holds, now=seconds, half_life_seconds=half_life_seconds)
        found[queue] = found.get(queue, 0.0) + held
    return {queue: value for queue, value in found.items() if value >= FORGOTTEN_GPU_SECONDS}


def _faded(
    rows: Iterable[QueueUsage], *, now: datetime, half_life_seconds: float
) -> dict[str, float]:
    """What is left of each now. A clock that was set back lets nothing grow."""
    return {
        row.queue: faded(
            row.gpu_seconds,
            seconds=max((now - row.at).total_seconds(), 0.0),
            half_life_seconds=half_life_seconds,
        )
        for row in rows
    }


async def _holds(session: AsyncSession, since: datetime, now: datetime) -> Mapping[str, list[Hold]]:
    """By queue, what was held between the two moments, in seconds from the first."""
    query = (
        select(
            Task.queue,
            Task.spec["request"]["gpu_milli"].as_integer().label("gpu_milli"),
            Allocation.devices,
            Allocation.state,
            # As rows keep them: to make a datetime of each costs as much as all the rest.
            type_coerce(Allocation.assigned_at, BigInteger).label("assigned_ms"),
            type_coerce(Allocation.ended_at, BigInteger).label("ended_ms"),
        )
        .join(Task, Task.id == Allocation.task_id)
        .where(or_(Allocation.state.in_(LIVE_STATES), Allocation.ended_at > since))
    )
    holds: dict[str, list[Hold]] = defaultdict(list)
    since_ms, now_ms = milliseconds(since), milliseconds(now)
    for row in await session.execute(query):
        until_ms = now_ms if row.state in LIVE_STATES else row.ended_ms
        # An end is told by the node's clock. One that runs ahead has it in the future: what was
        # held was counted while it was, and isn't counted on until that future comes.
        if not row.devices or until_ms is None or until_ms > now_ms:
            continue
        holds[row.queue].append(
            Hold(
                gpus=len(row.devices) * row.gpu_milli / 1000,
                since=max((row.assigned_ms - since_ms) / 1000, 0.0),
                until=(until_ms - since_ms) / 1000,
            )
        )
    return holds


async def catch_up(session: AsyncSession, *, now: datetime, half_life_seconds: float) -> None:
    """Write down what has been used until now. Who uses nothing any more is forgotten."""
    last = await session.scalar(select(func.max(QueueUsage.at, type_=QueueUsage.at.type)))
    if last is not None and last >= now:
        return
    found = await look(session, now=now, half_life_seconds=half_life_seconds)
    await session.execute(delete(QueueUsage))
    rows = [("", 0.0), *found.items()]  # no queue's: that we looked, though nobody used anything
    await session.execute(
        insert(QueueUsage),
        [{"queue": queue, "gpu_seconds": value, "at": now} for queue, value in rows],
    )
