"""How long tasks are going to run, over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from app.allocations.service import running_seconds
from app.db.tables import Task
from app.deps import Ctx, Reference, User, body, documented
from app.durations import history
from app.durations.model import Forecast, in_words
from app.durations.schemas import CalibrationView, ForecastView
from app.tasks import service
from app.tasks.states import TaskState
from protocol.task import Kind, TaskSpec

router = APIRouter(prefix="/api/v1", tags=["forecasts"], dependencies=[User])

_RUNS_MAX = 200_000


class CalibrationQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    last: Annotated[int, Query(ge=1, le=_RUNS_MAX)] = 1_000
    """Over so many runs, the last to end."""


@router.get("/tasks/{task}/forecast")
async def forecast_task(ctx: Ctx, task: Reference) -> ForecastView:
    """How long a task runs in all, given how long it has run. Of one that has ended, how long that
    was."""
    now = ctx.clock.now()
    async with ctx.database.read() as session:
        row = await service.get(session, task)
        carried = await history.carried_of(session, row.id)
    elapsed = _elapsed_seconds(row, carried, now)
    if TaskState(row.state).final:
        text = f"it's over: it ran {in_words(elapsed)}" if elapsed else "it's over; it never ran"
        return _unknown(text).model_copy(update={"task": row.id, "elapsed_seconds": elapsed})
    spec = TaskSpec.model_validate(row.spec, strict=False)
    found = ctx.durations.model.forecast(spec, elapsed_seconds=elapsed)
    view = _view(found, spec)
    return view.model_copy(update={"task": row.id, "elapsed_seconds": elapsed})


@router.post("/forecast", openapi_extra=documented(TaskSpec))
async def forecast_spec(
    ctx: Ctx, spec: Annotated[TaskSpec, Depends(body(TaskSpec))]
) -> ForecastView:
    """How long a task would run that isn't submitted. Nothing is stored."""
    return _view(ctx.durations.model.forecast(spec), spec)


@router.get("/forecast/calibration")
async def calibration(ctx: Ctx, query: Annotated[CalibrationQuery, Query()]) -> CalibrationView:
    """Whether what is forecast holds."""
    async with ctx.database.read() as session:
        found = await history.calibration(session, last=query.last)
    runs = found.runs
    return CalibrationView(
        runs=runs,
        within_p50_ratio=found.within_p50 / runs if runs else None,
        within_p90_ratio=found.within_p90 / runs if runs else None,
        unforeseen=found.unforeseen,
    )


def _elapsed_seconds(task: Task, carried: float, now: datetime) -> float:
    ran = running_seconds(service.current(task), now)
    waits = TaskState(task.state) is TaskState.PENDING
    return carried if waits or ran is None else carried + ran


def _view(found: Forecast | None, spec: TaskSpec) -> ForecastView:
    if found is None:
        if spec.kind is Kind.SERVICE:
            return _unknown("a service runs until it's told to end")
        return _unknown("nothing like it has run, and it has no limit (duration_seconds)")
    return ForecastView(
        seconds_p50=found.quantile(0.5),
        seconds_p90=found.quantile(0.9),
        source=found.source,
        like=found.like,
        text=found.text,
    )


def _unknown(text: str) -> ForecastView:
    return ForecastView(seconds_p50=None, seconds_p90=None, source="none", like=0, text=text)
