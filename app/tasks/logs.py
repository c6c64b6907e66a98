"""What tasks print: appended by agents, read by people, bounded for each allocation."""

import codecs

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import AllocationState
from app.db.tables import Allocation, LogChunk, Task
from app.deps import Context, NodePrincipal
from app.errors import ForbiddenError, NotFoundError
from app.tasks.schemas import LogPage
from app.tasks.states import TaskState
from protocol.report import LogChunk as WireChunk

CHUNK_BYTES_MAX = 1 << 20


async def append(
    ctx: Context, session: AsyncSession, principal: NodePrincipal, chunk: WireChunk
) -> int:
    """Add bytes to an allocation's output; gives the offset from which more is wanted.

    A chunk that doesn't begin where the output ends changes nothing: the agent sends again from the
    answer.
    """
    allocation = await session.get(Allocation, chunk.allocation)
    if allocation is None:
        raise NotFoundError(f"no allocation {chunk.allocation!r}: drop its output")
    if allocation.node_id != principal.id:
        raise ForbiddenError(f"allocation {chunk.allocation!r} isn't of node {principal.name!r}")
    if chunk.offset != allocation.log_end or chunk.generation != allocation.generation:
        return allocation.log_end
    if chunk.data:
        session.add(LogChunk(allocation_id=allocation.id, start=chunk.offset, data=chunk.data))
        allocation.log_end = chunk.offset + len(chunk.data)
        await _drop_oldest(session, allocation, ctx.settings.log_bytes_max)
    return allocation.log_end


async def _drop_oldest(session: AsyncSession, allocation: Allocation, keep_bytes: int) -> None:
    floor = allocation.log_end - keep_bytes
    if floor <= allocation.log_start:
        return
    await session.flush()
    of_this = LogChunk.allocation_id == allocation.id
    await session.execute(
        delete(LogChunk)
        .where(of_this, LogChunk.start + func.length(LogChunk.data) <= floor)
        .execution_options(synchronize_session=False)
    )
    oldest = await session.scalar(select(func.min(LogChunk.start)).where(of_this))
    allocation.log_start = allocation.log_end if oldest is None else oldest


async def read(
    session: AsyncSession,
    task: Task,
    *,
    replica: int,
    generation: int | None,
    offset: int,
    limit: int,
) -> LogPage:
    """A page of a replica's output. A negative offset counts from its end; dropped bytes are
    skipped."""
    wanted = generation or task.generation
    allocation = next(
        (a for a in task.allocations if a.generation == wanted and a.replica == replica), None
    )
    if allocation is None:
        if wanted and (replica >= task.spec["replicas"] or wanted > task.generation):
            raise NotFoundError(
                f"task {task.id!r} has no replica {replica} in attempt {wanted}: it has "
                f"{task.spec['replicas']} replica(s) and {task.generation} attempt(s)"
            )
        return LogPage(
            task=task.id,
            replica=replica,
            generation=wanted,
            allocation=None,
            start=0,
            offset=0,
            next_offset=0,
            complete=TaskState(task.state).final,
            text="",
        )
    if offset < 0:
        offset += allocation.log_end
    offset = min(max(offset, allocation.log_start), allocation.log_end)
    final = AllocationState(allocation.state).final
    data = await _bytes(session, allocation.id, offset, min(limit, allocation.log_end - offset))
    at_end = offset + len(data) == allocation.log_end
    # A character may be cut at the page's end: leave its first bytes for the next page.
    text, used = codecs.utf_8_decode(data, "replace", at_end and final)
    return LogPage(
        task=task.id,
        replica=replica,
        generation=wanted,
        allocation=allocation.id,
        start=allocation.log_start,
        offset=offset,
        next_offset=offset + used,
        complete=final and offset + used == allocation.log_end,
        text=text,
    )


async def _bytes(session: AsyncSession, allocation_id: str, offset: int, limit: int) -> bytes:
    if limit <= 0:
        return b""
    rows = await session.execute(
        select(LogChunk.start, LogChunk.data)
        .where(
            LogChunk.allocation_id == allocation_id,
            LogChunk.start > offset - CHUNK_BYTES_MAX,
            LogChunk.start < offset + limit,
        )
        .order_by(LogChunk.start)
    )
    whole = b"".join(
        data[max(offset - start, 0) :] for start, data in rows if start + len(data) > offset
    )
    return whole[:limit]
