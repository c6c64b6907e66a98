"""Usage and advice over HTTP."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from app.advice import service
from app.advice.schemas import AdvicePage, AdviceView, SpreadView, TaskAdvice, UsageView
from app.advice.usage import Spread
from app.deps import Ctx, Reference, User
from app.metrics.telemetry import Measured
from app.paging import decode_cursor, encode_cursor
from app.tasks import service as tasks

router = APIRouter(prefix="/api/v1", tags=["advice"], dependencies=[User])


class AdviceQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    days: Annotated[float, Query(gt=0, le=3_650, allow_inf_nan=False)] = 7.0
    """Tasks that ended before are left out."""
    limit: Annotated[int, Query(ge=1, le=200)] = 50
    """How many tasks are looked at for one page."""
    cursor: Annotated[str | None, Query(max_length=256)] = None


@router.get("/tasks/{task}/usage")
async def task_usage(ctx: Ctx, telemetry: Measured, task: Reference) -> UsageView:
    """What the task's last attempt used of what it held, from rows of a minute each."""
    async with ctx.database.read() as session:
        row = await tasks.get(session, task)
    attempt = await service.last_attempt(telemetry.store, row, ctx.clock.now())
    used = attempt.usage
    return UsageView(
        task=row.id,
        name=row.name,
        generation=row.generation,
        replicas=len(attempt.replicas),
        held_seconds=attempt.held_seconds,
        measured_seconds=used.measured_seconds,
        resolution_seconds=attempt.resolution.width_ms / 1000,
        gpu_memory_mib=_spread(used.gpu_memory_mib),
        gpu_utilization_percent=_spread(used.gpu_utilization_percent),
        cpu_cores=_spread(used.cpu_cores),
        memory_mib=_spread(used.memory_mib),
    )


@router.get("/advice")
async def list_advice(
    ctx: Ctx, telemetry: Measured, query: Annotated[AdviceQuery, Query()]
) -> AdvicePage:
    """Requests that are larger than need be, of tasks that run or ended lately, newest first."""
    now = ctx.clock.now()
    async with ctx.database.read() as session:
        rows = await service.page(
            session,
            since=now - timedelta(days=query.days),
            before=decode_cursor(query.cursor),
            limit=query.limit,
        )
    items = []
    for row in rows:
        attempt = await service.last_attempt(telemetry.store, row, now)
        advice = attempt.advice
        if advice:
            items.append(
                TaskAdvice(
                    task=row.id,
                    name=row.name,
                    queue=row.queue,
                    state=row.state,
                    measured_seconds=attempt.usage.measured_seconds,
                    gpu_hours=sum(one.gpu_hours for one in advice),
                    advice=[AdviceView(**asdict(one)) for one in advice],
                )
            )
    more = len(rows) == query.limit
    return AdvicePage(items=items, next_cursor=encode_cursor(rows[-1].id) if more else None)


def _spread(spread: Spread | None) -> SpreadView | None:
    if spread is None:
        return None
    return SpreadView(
        peak=spread.peak, p95=spread.p95, p50=spread.p50, known_ratio=spread.known_ratio
    )
