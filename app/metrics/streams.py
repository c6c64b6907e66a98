"""The latest values as they come, as a stream of server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from app import signals
from app.clock import milliseconds
from app.deps import Context, Ctx
from app.errors import NotFoundError, ServiceError
from app.metrics.queries import LiveQuery
from app.metrics.telemetry import Measured, Telemetry

router = APIRouter()

_KEEP_ALIVE_SECONDS = 15.0
_APART_SECONDS = 1.0
"""Between two looks, however fast reports come: nobody reads faster."""


class NotAStreamError(ServiceError):
    status = 406
    code = "not_acceptable"


@router.get("/live", response_class=StreamingResponse)
async def live(
    request: Request, ctx: Ctx, telemetry: Measured, query: Annotated[LiveQuery, Query()]
) -> StreamingResponse:
    """With ``Accept: text/event-stream``: each node's latest values as in ``/latest``, then at most
    once a second those of nodes that have spoken since."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        raise NotAStreamError("this is a stream: ask with 'Accept: text/event-stream'")
    await telemetry.fleet.refresh(now_ms=_now_ms(ctx))
    if query.node is not None and query.node not in telemetry.fleet.roster.devices:
        raise NotFoundError(f"no node is named {query.node!r}: see stowplan nodes")
    return StreamingResponse(
        _until_gone(request, node_events(ctx, telemetry, query.node)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _until_gone(request: Request, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        if await request.is_disconnected():
            return
        yield event


async def node_events(ctx: Context, telemetry: Telemetry, node: str | None) -> AsyncIterator[bytes]:
    """Events until the service stops: of all nodes, or of one."""
    yield b": stowplan live\n\n"
    seen: int | None = None
    while not ctx.signals.closed:
        ticket = ctx.signals.ticket(signals.SAMPLES)
        fleet, now_ms = telemetry.fleet, _now_ms(ctx)
        version = telemetry.live.version
        if seen is None or version != seen:
            await fleet.refresh(now_ms=now_ms)
            known = fleet.roster.devices
            changed = list(known) if seen is None else telemetry.live.nodes_changed_since(seen)
            names = [name for name in changed if node in {None, name}]
            for text in await fleet.texts(names, now_ms=now_ms):
                yield b"event: node\ndata: " + text + b"\n\n"
            seen = version
            await signals.wait(ctx.signals.ticket(signals.CLOSING), _APART_SECONDS)
        elif not await signals.wait(ticket, _KEEP_ALIVE_SECONDS):
            yield b": still here\n\n"


def _now_ms(ctx: Context) -> int:
    return milliseconds(ctx.clock.now())
