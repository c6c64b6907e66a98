"""Events over HTTP: a page of them, or a stream that goes on."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from app import signals
from app.db.tables import Event
from app.deps import Context, Ctx, User
from app.events import service
from app.events.schemas import EventPage, EventView

router = APIRouter(prefix="/api/v1/events", tags=["events"], dependencies=[User])

_KEEP_ALIVE_SECONDS = 15.0
_BATCH = 500
ID_MAX = 2**53


class EventQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Query(ge=0, le=ID_MAX)] = 0
    limit: Annotated[int, Query(ge=1, le=1000)] = 100
    task: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]*$")] = None
    node: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]*$")] = None


@router.get("", response_model=EventPage)
async def list_events(
    request: Request,
    ctx: Ctx,
    query: Annotated[EventQuery, Query()],
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> EventPage | StreamingResponse:
    """What happened after an event, oldest first. With ``Accept: text/event-stream``: a stream of
    it."""
    if "text/event-stream" in accept:
        after = int(last_event_id) if _is_event_id(last_event_id) else query.after
        return StreamingResponse(
            _stream(request, ctx, query.model_copy(update={"after": after})),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    items = await _page(ctx, query, query.after, query.limit)
    return EventPage(items=items, next_after=items[-1].id if items else query.after)


def _is_event_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


async def _page(ctx: Context, query: EventQuery, after: int, limit: int) -> list[EventView]:
    async with ctx.database.read() as session:
        rows = await service.after_id(
            session, after=after, limit=limit, task=query.task, node=query.node
        )
    return [_view(row) for row in rows]


async def _stream(request: Request, ctx: Context, query: EventQuery) -> AsyncIterator[str]:
    after = query.after
    yield ": stowplan events\n\n"
    while not ctx.signals.closed and not await request.is_disconnected():
        ticket = ctx.signals.ticket(signals.EVENTS)
        rows = await _page(ctx, query, after, _BATCH)
        for row in rows:
            after = row.id
            yield f"id: {row.id}\nevent: {row.kind}\ndata: {row.model_dump_json()}\n\n"
        if not rows and not await signals.wait(ticket, _KEEP_ALIVE_SECONDS):
            yield ": still here\n\n"


def _view(row: Event) -> EventView:
    return EventView(
        id=row.id, at=row.at, kind=row.kind, task=row.task_id, node=row.node, message=row.message
    )
