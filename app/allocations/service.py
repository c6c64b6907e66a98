"""Queries on allocations that more than one feature needs."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.allocations.states import LIVE_STATES, AllocationState
from app.db.tables import Allocation, Node


async def live_on(session: AsyncSession, node_ids: Iterable[int]) -> Sequence[Allocation]:
    """What holds devices on these nodes, with its task."""
    query = (
        select(Allocation)
        .where(Allocation.node_id.in_(list(node_ids)), Allocation.state.in_(LIVE_STATES))
        .options(selectinload(Allocation.task))
        .order_by(Allocation.id)
    )
    return (await session.scalars(query)).all()


async def bump_revision(session: AsyncSession, node_ids: Iterable[int]) -> None:
    """Say that what these nodes are to run has changed. One statement: no read, so no lost
    update."""
    ids = sorted(set(node_ids))
    if ids:
        await session.execute(
            update(Node)
            .where(Node.id.in_(ids))
            .values(revision=Node.revision + 1)
            .execution_options(synchronize_session=False)
        )


def running_seconds(replicas: Sequence[Allocation], now: datetime) -> float | None:
    """From the first start of an attempt to its end, or to now; None: it hasn't started."""
    starts = [a.started_at for a in replicas if a.started_at is not None]
    if not starts:
        return None
    over = all(AllocationState(a.state).final for a in replicas)
    ends = [a.ended_at for a in replicas if a.ended_at is not None]
    end = max(ends) if over and ends else now
    return max((end - min(starts)).total_seconds(), 0.0)
