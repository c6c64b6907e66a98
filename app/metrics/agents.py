"""Measurements from agents, over HTTP."""

from fastapi import APIRouter, Request, Response

from app import signals
from app.compression import unpacked_body
from app.deps import NODE_SECURITY, Context, documented, speaking_node
from app.metrics.telemetry import Telemetry
from protocol.samples import SampleAck, SampleReport

router = APIRouter(prefix="/agent/v1", tags=["agents"])


@router.post(
    "/samples", response_model=SampleAck, openapi_extra=documented(SampleReport) | NODE_SECURITY
)
async def samples(request: Request) -> Response:
    """Stores measurements; answered when they are stored. 429 and 503: keep them, come again."""
    agent = await speaking_node(request)
    ctx: Context = request.app.state.context
    telemetry: Telemetry = request.app.state.telemetry
    data = await unpacked_body(request, bytes_max=ctx.settings.samples_body_bytes_max)
    ack = await telemetry.intake.accept(data, agent)
    # Whoever measures is alive; the lease itself is renewed by reports of state alone.
    ctx.heartbeats.heard(agent.id, ctx.clock.monotonic())
    ctx.signals.notify(signals.SAMPLES)
    return Response(ack.model_dump_json(), media_type="application/json")
