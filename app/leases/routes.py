"""What agents say and ask."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from app import signals
from app.db.tables import Node
from app.deps import (
    NODE_SECURITY,
    Agent,
    Context,
    Ctx,
    NodePrincipal,
    body,
    documented,
    speaking_node,
)
from app.leases import desired, service
from app.nodes.service import require_own
from protocol.desired import DesiredSet
from protocol.report import Report, ReportAck

router = APIRouter(prefix="/agent/v1", tags=["agents"])
_report_body = body(Report)


class DesiredQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    revision: Annotated[int, Query(ge=-1, le=2**53)] = -1
    wait: Annotated[float, Query(ge=0, le=50, allow_inf_nan=False)] = 0.0


@router.post("/report", response_model=ReportAck, openapi_extra=documented(Report) | NODE_SECURITY)
async def report(request: Request) -> Response:
    """Renews the node's lease, and says what it runs and what happened there."""
    agent = await speaking_node(request)
    ctx: Context = request.app.state.context
    ack = await _apply(ctx, agent, await _report_body(request))
    return Response(ack.model_dump_json(), media_type="application/json")


async def _apply(ctx: Context, agent: NodePrincipal, form: Report) -> ReportAck:
    require_own(agent, form)
    now = ctx.clock.monotonic()
    overtaken = ctx.quiet.is_overtaken(agent.id, form)
    revision = ctx.quiet.revision_if_quiet(agent.id, form, now)
    applied = service.Applied(revision=revision or 0)
    if revision is None:
        ctx.quiet.forget(agent.id)
        async with ctx.database.write() as session:
            applied = await service.apply_report(ctx, session, agent, form)
        if not applied.duplicate:
            ctx.quiet.recorded(agent.id, form, applied.revision, now)
            ctx.progress.own(agent.id, applied.own)
    if not (applied.duplicate or overtaken):
        ctx.progress.note(agent.id, form.progress)
    ctx.heartbeats.heard(agent.id, now)
    ctx.signals.notify(*applied.topics)
    return ReportAck(
        seq=form.seq,
        duplicate=applied.duplicate,
        lease_seconds=ctx.settings.lease_seconds,
        report_interval_seconds=ctx.pace.report_interval_seconds,
        revision=applied.revision,
        settled=tuple(applied.settled),
        events_settled=applied.events_settled,
    )


@router.get("/desired", response_model=DesiredSet, responses={204: {"description": "Nothing new."}})
async def desired_set(
    ctx: Ctx, agent: Agent, query: Annotated[DesiredQuery, Query()]
) -> DesiredSet | Response:
    """All that the node is to run, once it differs from ``revision``; 204 after ``wait`` seconds
    without."""
    deadline = ctx.clock.monotonic() + min(query.wait, ctx.settings.desired_wait_seconds_max)
    while True:
        ticket = ctx.signals.ticket(signals.node_topic(agent.id))
        now = ctx.clock.monotonic()
        if ctx.revisions.still(agent.id, ticket, now) != query.revision:
            async with ctx.database.read() as session:
                # The one number first: in a large fleet this is asked all the time.
                known = await session.scalar(select(Node.revision).where(Node.id == agent.id))
                if known != query.revision:
                    node = await session.get_one(Node, agent.id)
                    return await desired.desired_set(session, node, now=ctx.clock.now())
            ctx.revisions.note(agent.id, ticket, query.revision, now)
        remaining = deadline - ctx.clock.monotonic()
        if remaining <= 0 or ctx.signals.closed or not await signals.wait(ticket, remaining):
            return Response(status_code=status.HTTP_204_NO_CONTENT)
