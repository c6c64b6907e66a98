"""What tasks print: appended by agents, read by people, bounded for each allocation."""

import codecs
import re
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import AllocationState
from app.db.tables import Allocation, LogChunk, Task
from app.deps import Context, NodePrincipal
from app.errors import ForbiddenError, NotFoundError
from app.tasks.schemas import LogPage, SkippedBytes
from app.tasks.states import TaskState
from protocol import ranks
from protocol.report import LogChunk as WireChunk

CHUNK_BYTES_MAX = 1 << 20
_LOOK_BACK_BYTES = 64 << 10
"""How far a line is followed back to learn whose it is."""
_DROPPED_AT_ONCE = 256
_HOLE = re.compile(rb"\0{512,}")
"""What a node gave up of a rank's file before torchrun had read it (agent/output/log_disk.py)."""


async def append(
    ctx: Context, session: AsyncSession, principal: NodePrincipal, chunk: WireChunk
) -> int:
    """Add bytes to an allocation's output; gives the offset from which more is wanted.

    A chunk that begins neither where the output ends nor, as one that skips, behind that changes
    nothing: the agent sends again from the answer.
    """
    allocation = await session.get(Allocation, chunk.allocation)
    if allocation is None:
        raise NotFoundError(f"no allocation {chunk.allocation!r}: drop its output")
    if allocation.node_id != principal.id:
        raise ForbiddenError(f"allocation {chunk.allocation!r} isn't of node {principal.name!r}")
    follows = chunk.offset == allocation.log_end
    skips = chunk.skipped and chunk.offset > allocation.log_end
    if chunk.data and (follows or skips) and chunk.generation == allocation.generation:
        session.add(LogChunk(allocation_id=allocation.id, start=chunk.offset, data=chunk.data))
        allocation.log_end = chunk.offset + len(chunk.data)
        allocation.log_bytes += len(chunk.data)
        await _drop_oldest(session, allocation, ctx.settings.log_bytes_max)
    return allocation.log_end


async def _drop_oldest(session: AsyncSession, allocation: Allocation, keep_bytes: int) -> None:
    """Give up the oldest chunks as long as those after them are enough."""
    while allocation.log_bytes > keep_bytes:
        await session.flush()
        oldest = await session.execute(
            select(LogChunk.start, func.length(LogChunk.data))
            .where(LogChunk.allocation_id == allocation.id)
            .order_by(LogChunk.start)
            .limit(_DROPPED_AT_ONCE)
        )
        last = None
        for start, length in oldest:
            if allocation.log_bytes - length < keep_bytes:
                break
            allocation.log_bytes -= length
            last = start
        if last is None:
            return
        of_this = LogChunk.allocation_id == allocation.id
        await session.execute(
            delete(LogChunk)
            .where(of_this, LogChunk.start <= last)
            .execution_options(synchronize_session=False)
        )
        first = await session.scalar(select(func.min(LogChunk.start)).where(of_this))
        allocation.log_start = allocation.log_end if first is None else first


async def read(
    session: AsyncSession,
    task: Task,
    *,
    replica: int | None = None,
    rank: int | None = None,
    generation: int | None,
    offset: int,
    limit: int,
) -> LogPage:
    """A page of a replica's output, or of one rank's lines in it. A negative offset counts from its
    end; dropped bytes are left out, skipped ones are told.
    """
    wanted = generation or task.generation
    source = await _source(session, task, wanted, replica, rank)
    allocation = source.allocation
    if allocation is None:
        return LogPage(
            task=task.id,
            replica=source.replica,
            rank=rank,
            generation=wanted,
            allocation=None,
            start=0,
            offset=0,
            next_offset=0,
            end=0,
            complete=TaskState(task.state).final,
            text="",
        )
    if offset < 0:
        offset += allocation.log_end
    offset = min(max(offset, allocation.log_start), allocation.log_end)
    final = AllocationState(allocation.state).final
    pieces = await _pieces(session, allocation, offset, limit)
    end = pieces[-1].end if pieces else offset
    whole = final and end == allocation.log_end
    if pieces and not whole:
        # A character, or a rank's mark, may be cut at the page's end: the next page begins with it.
        last = pieces[-1]
        end -= _cut_bytes(last.data, of_ranks=source.filtered)
        pieces[-1] = _Piece(offset=last.offset, data=last.data[: end - last.offset])
    within = None
    if source.filtered and pieces and pieces[0].offset == offset:
        within = await _rank_before(session, allocation, offset)
    skipped: list[SkippedBytes] = []
    text, at = "", offset
    for piece in pieces:
        if piece.offset > at:
            skipped.append(SkippedBytes(offset=at, bytes=piece.offset - at))
            begin = "\n" if text and not text.endswith("\n") else ""
            text += f"{begin}[... {piece.offset - at} bytes skipped ...]\n"
        data = piece.data
        if source.filtered and rank is not None:
            data = ranks.of_rank(data, rank, within)
        within, at = None, piece.end
        text += _HOLE.sub(_hole_in_words, data).decode(errors="replace")
    return LogPage(
        task=task.id,
        replica=source.replica,
        rank=rank,
        generation=wanted,
        allocation=allocation.id,
        start=allocation.log_start,
        offset=offset,
        next_offset=end,
        end=allocation.log_end,
        complete=final and end == allocation.log_end,
        skipped=skipped,
        text=text,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Whose output is meant."""

    replica: int
    allocation: Allocation | None
    """None while it waits."""
    filtered: bool = False
    """Whether the output has the lines of several ranks in it, and only one's are wanted."""


async def _source(
    session: AsyncSession, task: Task, generation: int, replica: int | None, rank: int | None
) -> _Source:
    of_attempt = [a for a in task.allocations if a.generation == generation]
    if rank is None:
        number = replica or 0
        allocation = next((a for a in of_attempt if a.replica == number), None)
        if allocation is None:
            _refuse_unknown(task, generation, number)
        return _Source(replica=number, allocation=allocation)
    spec, several = task.spec, 1
    by_launcher = ranks.names_launcher(spec["argv"])
    several = ranks.local_ranks(spec["argv"], spec["request"]["gpus"])
    by_rank = {a.rank: a for a in of_attempt}
    if replica is not None:
        allocation = next((a for a in of_attempt if a.replica == replica), None)
    else:
        allocation = by_rank.get(rank // several)
    marked = by_launcher and several > 1
    if not marked and allocation is not None and (several > 1 or replica is not None):
        # A script that starts torchrun doesn't say so in its command: its output does.
        marked = await _tells_ranks(session, allocation)
    if not marked and replica is None and not by_launcher:
        allocation = by_rank.get(rank)
        several = 1
    if allocation is None:
        if rank >= spec["replicas"] * several:
            raise NotFoundError(
                f"task {task.id!r} has no rank {rank}: its ranks are 0 to "
                f"{spec['replicas'] * several - 1}, {several} in each of its "
                f"{spec['replicas']} replica(s)"
            )
        _refuse_unknown(task, generation, replica or 0)
        return _Source(replica=replica or rank // several, allocation=None)
    return _Source(replica=allocation.replica, allocation=allocation, filtered=marked)


def _refuse_unknown(task: Task, generation: int, replica: int) -> None:
    """Unless it may come yet.

    Raises:
        NotFoundError: the task has no such replica, or attempt.
    """
    if generation and (replica >= task.spec["replicas"] or generation > task.generation):
        raise NotFoundError(
            f"task {task.id!r} has no replica {replica} in attempt {generation}: it has "
            f"{task.spec['replicas']} replica(s) and {task.generation} attempt(s)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


async def _pieces(
    session: AsyncSession, allocation: Allocation, offset: int, limit: int
) -> list[_Piece]:
    """``limit`` bytes from an offset on, as far as there are so many: one piece a stretch without
    a gap."""
    of_this = LogChunk.allocation_id == allocation.id
    stretches: list[tuple[int, list[bytes]]] = []
    at, left = offset, min(limit, max(allocation.log_end - offset, 0))
    while left > 0:
        rows = await session.execute(
            select(LogChunk.start, LogChunk.data)
            .where(of_this, LogChunk.start > at - CHUNK_BYTES_MAX, LogChunk.start < at + left)
            .order_by(LogChunk.start)
        )
        before = at
        for start, data in rows:
            own = data[max(at - start, 0) :][:left]
            if start + len(data) <= at or not own:
                continue
            if start > at or not stretches:
                stretches.append((max(start, at), []))
            stretches[-1][1].append(own)
            at = max(start, at) + len(own)
            left -= len(own)
        if at == before:
            later = await session.scalar(
                select(func.min(LogChunk.start)).where(of_this, LogChunk.start >= at)
            )
            if later is None:
                break
            at = later
            stretches.append((at, []))
    return [_Piece(offset=start, data=b"".join(parts)) for start, parts in stretches if parts]


def _cut_bytes(data: bytes, *, of_ranks: bool) -> int:
    """How much of the end belongs to the next page."""
    tail = data[-16:]
    _, used = codecs.utf_8_decode(tail, "replace", False)
    return max(len(tail) - used, ranks.cut_prefix_bytes(tail) if of_ranks else 0)


async def _rank_before(session: AsyncSession, allocation: Allocation, offset: int) -> int | None:
    """Whose line an offset lies in."""
    begin = max(offset - _LOOK_BACK_BYTES, allocation.log_start)
    pieces = await _pieces(session, allocation, begin, offset - begin)
    if not pieces or pieces[-1].end != offset:
        return None
    return ranks.rank_at_end(pieces[-1].data)


async def _tells_ranks(session: AsyncSession, allocation: Allocation) -> bool:
    """As far as the beginning and the end of what's kept tell."""
    last = max(allocation.log_end - _LOOK_BACK_BYTES, allocation.log_start)
    for begin in (allocation.log_start, last):
        for piece in await _pieces(session, allocation, begin, _LOOK_BACK_BYTES):
            if ranks.tells_ranks(piece.data):
                return True
    return False


def _hole_in_words(hole: re.Match[bytes]) -> bytes:
    return b"[... %d bytes given up on the node ...]" % len(hole[0])
