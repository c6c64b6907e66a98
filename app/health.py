"""Is it alive, is it ready, and its numbers for Prometheus."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel
from sqlalchemy import case, func, literal_column, select

from app.clock import milliseconds
from app.db.tables import Allocation, Device, Node, Plan, Task
from app.deps import Context, Ctx, loopback_or_user
from app.metrics import queues
from app.metrics.prometheus import exposition
from app.metrics.telemetry import Measured
from app.nodes.states import NodeState

router = APIRouter(tags=["health"], dependencies=[Depends(loopback_or_user)])


# Literals, not parameters: PostgreSQL wouldn't know the same expression again in GROUP BY.
_NODE_STATE = case(
    (
        (Node.state != literal_column(f"'{NodeState.READY}'"))
        & Node.maintenance_since.is_not(None),
        literal_column("'maintenance'"),
    ),
    else_=Node.state,
)
"""Of one in maintenance silence is no alarm."""


class Health(BaseModel):
    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(ctx: Ctx) -> Health:
    """The database answers too."""
    await ctx.database.ping()
    return Health(status="ready")


@router.get("/metrics", response_class=Response)
async def metrics(ctx: Ctx, telemetry: Measured) -> Response:
    """Prometheus text: nodes and tasks by state, everything measured, and how measuring goes."""
    counts = await _counts(ctx)
    of_queues = await queues.exposition(ctx)
    now_ms = milliseconds(ctx.clock.now())

    async def parts() -> AsyncIterator[bytes]:
        yield counts
        yield of_queues.encode()
        async for text in exposition(telemetry, telemetry.growth, now_ms=now_ms):
            yield text.encode()

    return StreamingResponse(parts(), media_type=CONTENT_TYPE_LATEST)


async def _counts(ctx: Context) -> bytes:
    registry = CollectorRegistry()
    async with ctx.database.read() as session:
        for name, about, column in (
            ("stowplan_tasks", "Tasks by state.", Task.state),
            ("stowplan_nodes", "Nodes by state; those in maintenance apart.", _NODE_STATE),
            ("stowplan_allocations", "Allocations by state.", Allocation.state),
        ):
            gauge = Gauge(name, about, ["state"], registry=registry)
            for state, count in await session.execute(
                select(column, func.count()).group_by(column)
            ):
                gauge.labels(state=state).set(count)
        devices = Gauge(
            "stowplan_devices", "Devices.", ["model", "healthy", "simulated"], registry=registry
        )
        kinds = (Device.model, Device.healthy, Device.simulated)
        for model, healthy, simulated, count in await session.execute(
            select(*kinds, func.count()).group_by(*kinds)
        ):
            devices.labels(
                model=model, healthy=str(healthy).lower(), simulated=str(simulated).lower()
            ).set(count)
        last = await session.scalar(select(Plan.seconds).order_by(Plan.id.desc()).limit(1))
    if last is not None:
        Gauge("stowplan_plan_seconds", "Time that the last plan took.", registry=registry).set(last)
    return generate_latest(registry)
