"""Measurements over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from app.deps import Ctx, Reference, User
from app.errors import Fault, InvalidInputError
from app.metrics import service
from app.metrics.schemas import Latest, NodeSeries
from app.nodes import service as nodes

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"], dependencies=[User])

_HOUR_MS = 3_600_000
_TIME_MAX_MS = 2**53
POINTS_MAX = 2_000


class LatestQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    node: Annotated[str | None, Query(max_length=128, pattern=r"^[^\x00]*$")] = None


class SeriesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start_ms: Annotated[int | None, Query(ge=0, le=_TIME_MAX_MS)] = None
    end_ms: Annotated[int | None, Query(ge=0, le=_TIME_MAX_MS)] = None
    points: Annotated[int, Query(ge=1, le=POINTS_MAX)] = 300


@router.get("/latest")
async def latest(ctx: Ctx, query: Annotated[LatestQuery, Query()]) -> Latest:
    """The newest sample of every host and device. A node that has been silent has none."""
    async with ctx.database.read() as session:
        if query.node is not None:
            await nodes.get(session, query.node)
        items = await service.latest(session, now=ctx.clock.now(), node=query.node)
    return Latest(items=items)


@router.get("/nodes/{name}")
async def node_series(
    ctx: Ctx, name: Reference, query: Annotated[SeriesQuery, Query()]
) -> NodeSeries:
    """A node's measurements over a range (default: the last hour), in at most ``points`` points."""
    end_ms = round(ctx.clock.now().timestamp() * 1000) if query.end_ms is None else query.end_ms
    start_ms = max(end_ms - _HOUR_MS, 0) if query.start_ms is None else query.start_ms
    if start_ms > end_ms:
        raise InvalidInputError(
            "the range is empty",
            faults=(Fault(path="start_ms", value=start_ms, reason=f"is after end_ms {end_ms}"),),
        )
    window = service.Window(start_ms=start_ms, end_ms=end_ms, points=query.points)
    async with ctx.database.read() as session:
        return await service.series(session, await nodes.get(session, name), window)
