"""Measurements over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from app.deps import Ctx, User
from app.metrics import service
from app.metrics.schemas import Latest
from app.metrics.telemetry import Measured
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
async def latest(ctx: Ctx, telemetry: Measured, query: Annotated[LatestQuery, Query()]) -> Latest:
    """The newest sample of every host and device. A node that has been silent has none."""
    async with ctx.database.read() as session:
        if query.node is not None:
            await nodes.get(session, query.node)
        now_ms = round(ctx.clock.now().timestamp() * 1000)
        items = await service.latest(session, telemetry.live, now_ms=now_ms, node=query.node)
    return Latest(items=items)
