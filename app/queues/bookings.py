"""Bookings: nodes that are one queue's, or nobody's, for a while. Never commits: the caller owns
the transaction, and has it be the only one (``Database.write(plan_commit=True)``): two that
overlap would otherwise not see each other.

What a booking does to plans is planning's; who has to leave in time is app/leases/bookings.py's.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Booking, Node, Queue, Task
from app.deps import Context
from app.errors import ConflictError, Fault, InvalidInputError, NotFoundError
from app.events.service import EventKind, record
from app.queues.schemas import BookingForm, BookingState
from app.tasks.states import FINAL_TASK_STATES

_KEEP_OLD = timedelta(days=30)
"""So long people can see what was booked."""
_LATE = timedelta(seconds=60)
"""A start that lies so far in the past is still one of now: clocks differ."""
_AHEAD_MAX = timedelta(days=5 * 366)
_NAMED_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    starts_at: datetime
    ends_at: datetime


async def upcoming(session: AsyncSession, now: datetime) -> Sequence[Booking]:
    """Those that aren't over, the first to begin first."""
    query = select(Booking).where(Booking.ends_at > now).order_by(Booking.starts_at, Booking.id)
    return (await session.scalars(query)).all()


def state(booking: Booking, now: datetime) -> BookingState:
    """Its window contains its start, and not its end."""
    if booking.ends_at <= now:
        return BookingState.OVER
    return BookingState.ACTIVE if booking.starts_at <= now else BookingState.UPCOMING


async def page(
    session: AsyncSession,
    *,
    now: datetime,
    after: tuple[datetime, str] | None,
    limit: int,
    everything: bool,
) -> Sequence[Booking]:
    """By start."""
    query = select(Booking).order_by(Booking.starts_at, Booking.id).limit(limit)
    if not everything:
        query = query.where(Booking.ends_at > now)
    if after is not None:
        at, last = after
        query = query.where(
            or_(Booking.starts_at > at, and_(Booking.starts_at == at, Booking.id > last))
        )
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, reference: str) -> Booking:
    """The booking of this id or name.

    Raises:
        NotFoundError: there is none.
    """
    query = select(Booking).where(or_(Booking.id == reference, Booking.name == reference))
    found = (await session.scalars(query)).all()
    if not found:
        raise NotFoundError(
            f"no booking has the id or name {reference!r}: see stowplan booking ls --all"
        )
    return next((one for one in found if one.id == reference), found[0])


async def create(ctx: Context, session: AsyncSession, form: BookingForm) -> tuple[Booking, bool]:
    """A new booking and True; or the one that's there just as it is asked for, and False: so the
    request may be repeated. The name of one that's over may be had again.

    Raises:
        InvalidInputError: with every fault.
        ConflictError: there is another one of this name.
    """
    now = ctx.clock.now()
    await session.execute(delete(Booking).where(Booking.ends_at < now - _KEEP_OLD))
    known = await session.scalar(select(Booking).where(Booking.name == form.name))
    window, faults = _window(form, now, known)
    if known is not None and known.ends_at > now:
        if window is not None and _is_same(known, form, window):
            return known, False
        raise ConflictError(
            f"a booking named {form.name!r} is there already, and is another: end it first "
            f"(DELETE /api/v1/bookings/{form.name}, stowplan booking rm) or use another name"
        )
    nodes = sorted(set(form.nodes))
    faults += await _unknown_nodes(session, form)
    faults += await _unknown_queue(session, form.queue)
    if window is not None:
        faults += _overlaps(form, window, await upcoming(session, now))
    if window is None or faults:
        raise InvalidInputError(
            f"{len(faults)} fault(s) in the booking; nothing was stored", faults=tuple(faults)
        )
    if known is not None:
        await session.delete(known)
        await session.flush()
    booking = Booking(
        id=ctx.ids.new("b"),
        name=form.name,
        nodes=nodes,
        queue=form.queue,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        reason=form.reason,
        created_at=now,
    )
    session.add(booking)
    _tell(ctx, session, EventKind.BOOKING_MADE, f"{in_words(booking)} was made")
    await session.flush()
    return booking, True


async def end(ctx: Context, session: AsyncSession, reference: str) -> None:
    """End a booking now; one that hasn't begun is forgotten. One that's over stays as it is.

    Raises:
        NotFoundError: there is none.
    """
    booking = await get(session, reference)
    now = ctx.clock.now()
    match state(booking, now):
        case BookingState.OVER:
            return
        case BookingState.UPCOMING:
            await session.delete(booking)
        case BookingState.ACTIVE:
            booking.ends_at = now
    _tell(ctx, session, EventKind.BOOKING_ENDED, f"booking {booking.name} was ended by a user")


def in_words(booking: Booking) -> str:
    """A booking in one line, for the events."""
    whom = f"queue {booking.queue}" if booking.queue else "maintenance"
    times = f"{booking.starts_at:%Y-%m-%d %H:%M:%S} to {booking.ends_at:%Y-%m-%d %H:%M:%S} UTC"
    why = f": {booking.reason}" if booking.reason else ""
    return f"booking {booking.name} ({_named(booking.nodes)} for {whom}, {times}{why})"


def _window(
    form: BookingForm, now: datetime, known: Booking | None
) -> tuple[Window | None, list[Fault]]:
    """From when until when; None, with the faults, where that can't be told."""
    faults = []
    for word, at in (("starts_at", form.starts_at), ("ends_at", form.ends_at)):
        if at is not None and not 1970 <= at.year <= 9000:
            faults.append(Fault(path=word, value=at.isoformat(), reason="no year of this service"))
    if (form.ends_at is None) == (form.duration_seconds is None):
        reason = "say when it ends, or how long it lasts: one of the two"
        faults.append(Fault(path="ends_at", value=None, reason=reason))
    if faults:
        return None, faults
    starts_at = now if form.starts_at is None else _kept(form.starts_at)
    if form.starts_at is None and known is not None and known.starts_at <= now < known.ends_at:
        starts_at = known.starts_at  # asked for again: then it has begun already
    if form.ends_at is not None:
        ends_at = _kept(form.ends_at)
    else:
        assert form.duration_seconds is not None  # noqa: S101 - one of the two is there
        ends_at = _kept(starts_at + timedelta(seconds=form.duration_seconds))
    shown = None if form.starts_at is None else form.starts_at.isoformat()
    repeated = known is not None and known.starts_at == starts_at
    if starts_at < now - _LATE and not repeated:
        faults.append(Fault(path="starts_at", value=shown, reason="it lies in the past"))
    if starts_at > now + _AHEAD_MAX:
        faults.append(Fault(path="starts_at", value=shown, reason="more than five years ahead"))
    end = form.ends_at.isoformat() if form.ends_at is not None else form.duration_seconds
    path = "ends_at" if form.ends_at is not None else "duration_seconds"
    if ends_at <= starts_at:
        faults.append(Fault(path=path, value=end, reason="it ends before it starts"))
    elif ends_at <= now:
        faults.append(Fault(path=path, value=end, reason="it's over already"))
    elif ends_at > now + 2 * _AHEAD_MAX:
        faults.append(Fault(path=path, value=end, reason="more than ten years ahead"))
    return (None if faults else Window(starts_at=starts_at, ends_at=ends_at)), faults


def _kept(at: datetime) -> datetime:
    """In UTC and whole milliseconds, as rows have it."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _is_same(known: Booking, form: BookingForm, window: Window) -> bool:
    return (
        set(known.nodes) == set(form.nodes)
        and known.queue == form.queue
        and known.reason == form.reason
        and known.starts_at == window.starts_at
        and known.ends_at == window.ends_at
    )


async def _unknown_nodes(session: AsyncSession, form: BookingForm) -> list[Fault]:
    known = set(await session.scalars(select(Node.name)))
    return [
        Fault(path=f"nodes[{index}]", value=node, reason="no node has this name")
        for index, node in enumerate(form.nodes)
        if node not in known
    ]


async def _unknown_queue(session: AsyncSession, queue: str | None) -> list[Fault]:
    """Also one that nobody created will do, while tasks name it."""
    if queue is None:
        return []
    created = select(Queue.name).where(Queue.name == queue)
    named = select(Task.queue).where(Task.queue == queue, Task.state.not_in(FINAL_TASK_STATES))
    for query in (created, named):
        if await session.scalar(query.limit(1)) is not None:
            return []
    reason = "no queue has this name, and no task names it: create it first"
    return [Fault(path="queue", value=queue, reason=reason)]


def _overlaps(form: BookingForm, window: Window, others: Iterable[Booking]) -> list[Fault]:
    """Of each other booking that has one of the nodes at the same time."""
    faults = []
    for other in others:
        both = sorted({*form.nodes} & {*other.nodes})
        if both and other.starts_at < window.ends_at and window.starts_at < other.ends_at:
            faults.append(
                Fault(
                    path="nodes",
                    value=_named(both),
                    reason=f"at the same time in {in_words(other)}",
                )
            )
    return faults


def _named(names: Collection[str]) -> str:
    shown = list(names)[:_NAMED_MAX]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _tell(ctx: Context, session: AsyncSession, kind: EventKind, message: str) -> None:
    record(session, at=ctx.clock.now(), kind=kind, message=message)
