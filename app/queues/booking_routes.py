"""Bookings over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status

from app import signals
from app.clock import milliseconds, moment
from app.db.tables import Booking
from app.deps import Ctx, Paging, Reference, User, body, documented
from app.errors import Fault, InvalidInputError
from app.paging import decode_cursor, encode_cursor
from app.queues import bookings
from app.queues.schemas import BookingForm, BookingPage, BookingView

router = APIRouter(prefix="/api/v1/bookings", tags=["queues"], dependencies=[User])

_NEWS = (signals.PLANNING, signals.TASKS, signals.EVENTS)
_MS_DIGITS_MAX = 15


class BookingQuery(Paging):
    all: Annotated[bool, Query()] = False


@router.get("")
async def list_bookings(ctx: Ctx, query: Annotated[BookingQuery, Query()]) -> BookingPage:
    """Bookings that aren't over, the first to begin first; with ``all`` also those of the last 30
    days that are."""
    now = ctx.clock.now()
    async with ctx.database.read() as session:
        found = await bookings.page(
            session,
            now=now,
            after=_place_in(query.cursor),
            limit=query.limit,
            everything=query.all,
        )
    more = len(found) == query.limit
    last = f"{milliseconds(found[-1].starts_at)}:{found[-1].id}" if more else ""
    return BookingPage(
        items=[_view(one, now) for one in found],
        next_cursor=encode_cursor(last) if more else None,
    )


@router.get("/{booking}")
async def show_booking(ctx: Ctx, booking: Reference) -> BookingView:
    """A booking by its id or its name."""
    async with ctx.database.read() as session:
        return _view(await bookings.get(session, booking), ctx.clock.now())


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=documented(BookingForm))
async def make_booking(
    ctx: Ctx, response: Response, form: Annotated[BookingForm, Depends(body(BookingForm))]
) -> BookingView:
    """Book nodes for a queue, or for maintenance. A booking that's there just like this is answered
    as it is, with 200."""
    async with ctx.database.write(plan_commit=True) as session:
        row, made = await bookings.create(ctx, session, form)
        view = _view(row, ctx.clock.now())
    if made:
        ctx.signals.notify(*_NEWS)
    else:
        response.status_code = status.HTTP_200_OK
    return view


@router.delete("/{booking}", status_code=status.HTTP_204_NO_CONTENT)
async def end_booking(ctx: Ctx, booking: Reference) -> None:
    """End a booking, by its id or its name: its nodes are everybody's again."""
    async with ctx.database.write(plan_commit=True) as session:
        await bookings.end(ctx, session, booking)
    ctx.signals.notify(*_NEWS)


def _place_in(cursor: str | None) -> tuple[datetime, str] | None:
    key = decode_cursor(cursor)
    if key is None:
        return None
    at_ms, _, last = key.partition(":")
    if not (at_ms.isascii() and at_ms.isdigit() and len(at_ms) <= _MS_DIGITS_MAX and last):
        raise InvalidInputError(
            "the cursor isn't one of this list",
            faults=(Fault(path="cursor", value=cursor, reason="take it from next_cursor"),),
        )
    return moment(int(at_ms)), last


def _view(row: Booking, now: datetime) -> BookingView:
    return BookingView(
        id=row.id,
        name=row.name,
        state=bookings.state(row, now),
        nodes=row.nodes,
        queue=row.queue,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        reason=row.reason,
        created_at=row.created_at,
    )
